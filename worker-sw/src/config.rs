//! What the page configured.

use edge_net_core::signature::PinnedKeys;
use edge_net_core::source::{Source, SourceKind};
use serde::Deserialize;

/// The options of `register()` in `web/edge-net.js`, as JSON.
#[derive(Deserialize)]
struct Options {
    /// Base URL of the edge worker; empty is the page's own origin.
    #[serde(default)]
    edge: String,
    /// Base URL of the bucket.
    gcs: Option<String>,
    /// Base URLs of IPFS gateways.
    #[serde(default)]
    ipfs: Vec<String>,
    /// Pinned keys.
    keys: serde_json::Value,
    /// Path prefix that is answered.
    #[serde(default = "default_path")]
    path: String,
}

fn default_path() -> String {
    "/models/".into()
}

/// Configuration of the service worker.
pub struct Config {
    /// Where things come from, in the order they are asked.
    pub sources: Vec<Source>,
    /// Whose manifests are accepted.
    pub keys: PinnedKeys,
    /// Path prefix that is answered, with a slash at both ends.
    pub path: String,
}

impl Config {
    /// Reads the options.
    ///
    /// # Errors
    /// A text that says what is wrong with them.
    pub fn parse(json: &str) -> Result<Self, String> {
        let options: Options = serde_json::from_str(json).map_err(|error| format!("the options of register(): {error}"))?;
        let keys = PinnedKeys::parse(&options.keys.to_string()).map_err(|error| error.to_string())?;
        if !options.path.starts_with('/') || !options.path.ends_with('/') {
            return Err(format!("the option path is {:?}; it must start and end with '/'", options.path));
        }
        let edge = format!("{}/models", options.edge.trim_end_matches('/'));
        let mut sources = vec![Source::new(SourceKind::Edge, &edge)];
        sources.extend(options.gcs.map(|base| Source::new(SourceKind::Gcs, &base)));
        sources.extend(options.ipfs.iter().map(|base| Source::new(SourceKind::Ipfs, base)));
        Ok(Self { sources, keys, path: options.path })
    }
}
