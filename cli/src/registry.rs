//! The registry of an edge worker: publishing to it, and withdrawing a version.

use std::time::SystemTime;

use clap::Args;
use edge_net_core::http::registry::{Limit, Summary};
use edge_net_core::trust::manifest::MAX_MANIFEST_BYTES;
use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest, sign};
use semver::Version;
use serde_json::Value;
use ureq::Agent;

use crate::commands::publish::text_of;
use crate::error::Error;
use crate::key::Signer;
use crate::{Context, http, key};

/// `yank`
#[derive(Args)]
pub struct Yank {
    /// Identifier of the model
    #[arg(long)]
    id: String,
    /// Version to withdraw
    #[arg(long)]
    version: Version,
    #[command(flatten)]
    signer: Signer,
    /// URL of the edge worker; edge.url if not given
    #[arg(long)]
    registry: Option<String>,
    /// Offer the version again
    #[arg(long)]
    undo: bool,
}

impl Yank {
    /// Signs the manifest again, with `yanked` set or not, and publishes that.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (signing, key_id) = self.signer.key(context)?;
        let registry = match self.registry {
            Some(url) => url,
            None => {
                context
                    .settings()?
                    .edge_url
                    .ok_or(Error::Missing("registry", "registry", "edge.url"))?
                    .0
            }
        };
        let registry = Registry::new(&registry);
        let url = registry.version(&self.id, &self.version);
        let text = registry.read(&url)?.ok_or_else(|| Error::NotPublished { url: url.clone() })?;
        // What somebody else signed is not signed again by us without a look.
        let keys = PinnedKeys::default().pin(key_id.clone(), &key::public(&signing))?;
        let manifest = VerifiedManifest::verify(&text, &keys)
            .and_then(|manifest| manifest.about(&self.id, Some(&self.version)))
            .map_err(|refusal| Error::Refused { path: url, refusal })?;
        let mut document = manifest.document().clone();
        if self.undo {
            document.remove("yanked");
        } else {
            document.insert("yanked".into(), true.into());
        }
        document.insert(
            "timestamp".into(),
            humantime::format_rfc3339_millis(SystemTime::now()).to_string().into(),
        );
        let text = text_of(&sign(document, &key_id, &signing)?);
        registry.publish(&text)?;
        out!("{text}");
        Ok(())
    }
}

/// The registry of an edge worker.
pub struct Registry {
    agent: Agent,
    base: String,
}

impl Registry {
    /// The registry of the worker at `edge`.
    pub fn new(edge: &str) -> Self {
        Self { agent: http::agent(), base: format!("{}/v1/models", edge.trim_end_matches('/')) }
    }

    /// The models that a query wants, of all pages.
    pub fn list(&self, query: &[(&str, &str)]) -> Result<Vec<Summary>, Error> {
        let mut models: Vec<Summary> = Vec::new();
        loop {
            let mut request = self
                .agent
                .get(&self.base)
                .query("limit", Limit::MOST.to_string())
                .query_pairs(query.iter().copied());
            if let Some(last) = models.last() {
                request = request.query("cursor", &last.id);
            }
            let url = &self.base;
            let answer = request
                .call()
                .map_err(|error| Error::Unreachable { url: url.clone(), error: error.into() })?;
            let mut answer = http::accepted(url, answer)?;
            let more = answer.headers().get("Link").is_some();
            let text = answer.body_mut().with_config().limit(MAX_MANIFEST_BYTES).read_to_string();
            let text =
                text.map_err(|error| Error::Unreachable { url: url.clone(), error: error.into() })?;
            let page: Vec<Summary> =
                serde_json::from_str(&text).map_err(|error| Error::BadAnswer {
                    url: url.clone(),
                    problem: format!("no list of models: {error}"),
                })?;
            // A registry that goes round in circles has an end, too.
            let new = page
                .last()
                .is_some_and(|last| models.last().is_none_or(|before| last.id > before.id));
            models.extend(page);
            if !more || !new {
                return Ok(models);
            }
        }
    }

    /// URL of a version's manifest.
    pub fn version(&self, id: &str, version: &Version) -> String {
        format!("{}/{id}/versions/{version}", self.base)
    }

    /// The text at a URL, if there is one.
    pub fn read(&self, url: &str) -> Result<Option<String>, Error> {
        let response = self.agent.get(url).call();
        let response = response
            .map_err(|error| Error::Unreachable { url: url.to_owned(), error: error.into() })?;
        if response.status() == 404 {
            return Ok(None);
        }
        let text = http::accepted(url, response)?
            .body_mut()
            .with_config()
            .limit(MAX_MANIFEST_BYTES)
            .read_to_string();
        text.map(Some)
            .map_err(|error| Error::Unreachable { url: url.to_owned(), error: error.into() })
    }

    /// Whether it has this very manifest of a version. A version that it does not list it may still tell of, from the bucket.
    pub fn has(&self, id: &str, version: &Version, text: &str) -> Result<bool, Error> {
        let listed = self.read(&format!("{}/{id}/versions", self.base))?.unwrap_or_default();
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap_or_default();
        let listed = listed.iter().any(|release| release["version"] == version.to_string());
        Ok(listed && self.read(&self.version(id, version))?.as_deref() == Some(text))
    }

    /// Publishes a signed manifest.
    pub fn publish(&self, manifest: &str) -> Result<(), Error> {
        let sent =
            self.agent.post(&self.base).header("Content-Type", "application/json").send(manifest);
        let sent = sent
            .map_err(|error| Error::Unreachable { url: self.base.clone(), error: error.into() })?;
        http::accepted(&self.base, sent).map(drop)
    }
}
