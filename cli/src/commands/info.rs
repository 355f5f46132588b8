//! `info`: describes a model.

use std::fs;
use std::time::SystemTime;

use clap::Args;
use edge_net_core::trust::acceptance::Acceptance;
use edge_net_core::trust::manifest::Manifest;
use edge_net_core::trust::signature::Refusal;
use indicatif::DecimalBytes;
use semver::Version;
use serde_json::{Map, Value, json};

use crate::accepted::AcceptedVersions;
use crate::cache::{Cache, Entry};
use crate::catalog::model_id;
use crate::config::Settings;
use crate::context::Context;
use crate::document::MANIFEST;
use crate::error::Error;
use crate::files::of_file;
use crate::places::{PlacesError, places};
use crate::terminal::printable;

/// Members of a manifest that are not printed one by one: they are printed in a sentence, have an
/// option of their own, or are of no use to a person.
const OMITTED: [&str; 10] = [
    "$schema",
    "id",
    "version",
    "artifacts",
    "signature",
    "timestamp",
    "distribution",
    "endorsements",
    "benchmarks",
    "requirements",
];

/// `info`
#[derive(Args)]
pub struct Info {
    /// Identifier of the model
    #[arg(value_parser = model_id)]
    id: String,
    /// Version; default: the newest
    #[arg(long)]
    version: Option<Version>,
    /// Only its quality and speed
    #[arg(long)]
    benchmarks: bool,
    /// Only its requirements
    #[arg(long, conflicts_with = "benchmarks")]
    requirements: bool,
}

/// A manifest, and the key that signed it unless no key is pinned.
type Found = (Manifest, Option<String>);

impl Info {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::File`], [`Error::Places`] and [`Error::Refused`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let cached = Cache::new(&settings).find(&self.id, self.version.as_ref())?;
        let (manifest, key) = self.manifest(&settings, cached.as_ref(), context)?;
        let section = match (self.benchmarks, self.requirements) {
            (true, _) => Some("benchmarks"),
            (_, true) => Some("requirements"),
            _ => None,
        };
        let document = manifest.document();
        match section {
            Some(section) if context.json => {
                out!("{}", document.get(section).cloned().unwrap_or_default());
            }
            None if context.json => out!("{}", Value::Object(document.clone())),
            Some(section) => match document.get(section).and_then(Value::as_object) {
                Some(members) => print_members(members, ""),
                None => out!("the manifest has no {section}"),
            },
            None => print(&manifest, key.as_deref(), cached.as_ref()),
        }
        Ok(())
    }

    /// Fetches the manifest; without a network, reads the one of the `cached` version.
    fn manifest(
        &self,
        settings: &Settings,
        cached: Option<&Entry>,
        context: &Context,
    ) -> Result<Found, Error> {
        let keys = settings.pinned()?;
        let version = self.version.as_ref();
        let floor =
            AcceptedVersions::open().and_then(|records| records.read(&self.id)).ok().flatten();
        let now = SystemTime::now().into();
        let acceptance =
            Acceptance { keys: &keys, id: &self.id, version, floor: floor.as_ref(), now };
        let accept = |text: String| -> Result<Found, Refusal> {
            if keys.is_empty() {
                return Ok((Manifest::parse(&text)?, None));
            }
            let manifest = acceptance.kept(text)?.manifest;
            Ok(((*manifest).clone(), Some(manifest.key_id().to_owned())))
        };
        match (places(settings).manifest(&self.id, version, accept), cached) {
            (Err(PlacesError::NoManifest { reasons, .. }), Some(entry))
                if reasons.is_unreachable() =>
            {
                context.note("all sources failed: this is the cached version");
                let path = entry.folder.join(MANIFEST);
                let text = fs::read_to_string(&path).map_err(of_file(&path))?;
                accept(text)
                    .map_err(|refusal| Error::Refused { path: path.display().to_string(), refusal })
            }
            (found, _) => Ok(found?),
        }
    }
}

fn print(manifest: &Manifest, key: Option<&str>, cached: Option<&Entry>) {
    let document = manifest.document();
    let signed = key.map_or_else(
        || "signature not checked (no key is pinned)".into(),
        |key| format!("signed by {key}"),
    );
    let when = document.get("timestamp").and_then(Value::as_str).unwrap_or_default();
    out!("{}", printable(&format!("{} {}, {signed} on {when}", manifest.id, manifest.version)));
    let members: Map<String, Value> = document
        .iter()
        .filter(|(name, _)| !OMITTED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    print_members(&members, "");
    for artifact in &manifest.artifacts {
        out!("{}: {}, {}", artifact.role, artifact.filename, DecimalBytes(artifact.size));
    }
    match cached {
        Some(entry) => out!("{} cached in {}", entry.version, entry.folder.display()),
        None => out!("not cached"),
    }
}

/// Prints the members of an object, one per line. Members of nested objects are named by their
/// path.
fn print_members(members: &Map<String, Value>, prefix: &str) {
    for (name, value) in members {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(members) => print_members(members, &format!("{name}.")),
            Value::String(text) => out!("{}: {}", printable(&name), printable(text)),
            other => out!("{}: {}", printable(&name), json!(other)),
        }
    }
}
