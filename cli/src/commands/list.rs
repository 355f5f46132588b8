//! What models there are: `list` and `info`.

use std::collections::BTreeMap;
use std::fs;

use clap::Args;
use edge_net_core::http::registry::Summary;
use edge_net_core::trust::manifest::{Manifest, is_id};
use edge_net_core::trust::signature::{Refusal, VerifiedManifest};
use indicatif::DecimalBytes;
use semver::Version;
use serde_json::{Map, Value, json};

use crate::Context;
use crate::cache::{Cache, MANIFEST};
use crate::config::Settings;
use crate::error::{Error, of_file};
use crate::places::places;
use crate::registry::Registry;
use crate::terminal::printable;

/// `list`
#[derive(Args)]
pub struct List {
    /// Only models of this type: text-generation, embedding, vision
    #[arg(long = "type")]
    kind: Option<String>,
    /// Only models of this quantization, such as INT4
    #[arg(long)]
    quantization: Option<String>,
    /// Only models under this licence
    #[arg(long)]
    license: Option<String>,
    /// Only models with this in their identifier or name
    #[arg(long)]
    search: Option<String>,
    /// Only what is on this machine; asks nobody
    #[arg(long)]
    cached: bool,
}

impl List {
    /// Lists.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let cached = cached(&Cache::new(&settings))?;
        let mut models = match &settings.edge_url {
            Some(edge) if !self.cached => Registry::new(&edge.0).list(&self.query())?,
            None if !self.cached => {
                context.note("edge.url is not set: these are the models on this machine");
                self.of_cache(&cached)
            }
            _ => self.of_cache(&cached),
        };
        models.sort_by(|a, b| {
            preference(&settings, a).cmp(&preference(&settings, b)).then_with(|| a.id.cmp(&b.id))
        });
        let here = |model: &Summary| cached.get(&model.id).map(|(version, _)| version.to_string());
        if context.json {
            let rows: Vec<Value> = models
                .iter()
                .map(|model| {
                    let mut row = serde_json::to_value(model).unwrap_or_default();
                    row["cached"] = here(model).into();
                    row
                })
                .collect();
            out!("{}", Value::Array(rows));
            return Ok(());
        }
        let row = |model: &Summary| {
            let or_dash =
                |text: &Option<String>| printable(text.as_deref().unwrap_or("-")).into_owned();
            let here = here(model).map_or_else(String::new, |version| format!("{version} is here"));
            let size = DecimalBytes(model.size).to_string();
            let texts =
                [&model.id, &model.version, &model.kind].map(|text| printable(text).into_owned());
            let [id, version, kind] = texts;
            [id, version, kind, or_dash(&model.quantization), size, or_dash(&model.license), here]
        };
        table(models.iter().map(row).collect());
        Ok(())
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let parameters = [
            ("type", &self.kind),
            ("quantization", &self.quantization),
            ("license", &self.license),
            ("q", &self.search),
        ];
        parameters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }

    /// The models here that are wanted; the registry's own rules say which.
    fn of_cache(&self, cached: &BTreeMap<String, (Version, Summary)>) -> Vec<Summary> {
        let filter = edge_net_core::http::registry::Filter {
            kind: self.kind.clone(),
            quantization: self.quantization.clone(),
            license: self.license.clone(),
            text: self.search.clone(),
            ..Default::default()
        };
        cached
            .values()
            .map(|(_, model)| model)
            .filter(|model| filter.admits(model))
            .cloned()
            .collect()
    }
}

/// What is preferred comes first: the quantization, then the size.
fn preference(settings: &Settings, model: &Summary) -> (bool, u64) {
    let wanted = settings.prefer_quantization.as_deref();
    let preferred = wanted
        .zip(model.quantization.as_deref())
        .is_some_and(|(wanted, got)| wanted.eq_ignore_ascii_case(got));
    (!preferred, if settings.prefer_small_models { model.size } else { u64::MAX - model.size })
}

/// Of the models whose identifiers begin with `name`, the one that is preferred.
pub fn preferred(settings: &Settings, name: &str) -> Result<Option<String>, Error> {
    let Some(edge) = &settings.edge_url else { return Ok(None) };
    let models = Registry::new(&edge.0).list(&[("q", name)])?;
    let begins =
        |model: &&Summary| model.id.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    Ok(models
        .iter()
        .filter(begins)
        .min_by_key(|model| preference(settings, model))
        .map(|model| model.id.clone()))
}

/// The newest version of each model that is here. A manifest that cannot be read is none.
fn cached(cache: &Cache) -> Result<BTreeMap<String, (Version, Summary)>, Error> {
    let mut newest = BTreeMap::new();
    for entry in cache.entries()?.into_iter().filter(|entry| entry.complete) {
        let path = entry.folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(of_file(&path))?;
        if let Ok(manifest) = Manifest::parse(&text) {
            newest.insert(entry.id, (entry.version, Summary::of(&manifest)));
        }
    }
    Ok(newest)
}

/// Prints rows with their columns one below the other.
fn table<const N: usize>(rows: Vec<[String; N]>) {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Reads an identifier from the command line.
pub fn model_id(text: &str) -> Result<String, String> {
    let why = || {
        "an identifier is made of a-z, 0-9, '.', '_', '-', and starts with a letter or digit"
            .to_owned()
    };
    is_id(text).then(|| text.to_owned()).ok_or_else(why)
}

/// `info`
#[derive(Args)]
pub struct Info {
    /// Identifier of the model
    #[arg(value_parser = model_id)]
    id: String,
    /// This version instead of the newest
    #[arg(long)]
    version: Option<Version>,
    /// Only how good and how quick it is
    #[arg(long)]
    benchmarks: bool,
    /// Only what it needs
    #[arg(long, conflicts_with = "benchmarks")]
    requirements: bool,
}

impl Info {
    /// Tells of a model.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let keys = settings.pinned()?;
        let version = self.version.as_ref();
        let accept = |text: String| -> Result<(Manifest, Option<String>), Refusal> {
            if keys.is_empty() {
                return Ok((Manifest::parse(&text)?, None));
            }
            let verified = VerifiedManifest::verify(&text, &keys)?.about(&self.id, version)?;
            Ok(((*verified).clone(), Some(verified.key_id().to_owned())))
        };
        let cache = Cache::new(&settings);
        let here = cache.find(&self.id, version)?;
        let (manifest, key) = match (places(&settings).manifest(&self.id, version, accept), &here) {
            // Without a network, what is here tells.
            (Err(Error::NoManifest { reasons, .. }), Some(entry)) if reasons.is_unreachable() => {
                context.note("nobody could be asked: this is of the version on this machine");
                let path = entry.folder.join(MANIFEST);
                let text = fs::read_to_string(&path).map_err(of_file(&path))?;
                accept(text).map_err(|refusal| Error::Refused {
                    path: path.display().to_string(),
                    refusal,
                })?
            }
            (found, _) => found?,
        };
        let section = if self.benchmarks {
            Some("benchmarks")
        } else if self.requirements {
            Some("requirements")
        } else {
            None
        };
        let document = manifest.document();
        if context.json {
            let told = section.map_or_else(
                || Value::Object(document.clone()),
                |section| document.get(section).cloned().unwrap_or_default(),
            );
            out!("{told}");
            return Ok(());
        }
        if let Some(section) = section {
            match document.get(section).and_then(Value::as_object) {
                Some(members) => tell(members, ""),
                None => out!("its publisher says nothing of {section}"),
            }
            return Ok(());
        }
        let signed = key.map_or_else(
            || "signature not checked (no key is pinned)".into(),
            |key| format!("signed by {key}"),
        );
        let when = document.get("timestamp").and_then(Value::as_str).unwrap_or_default();
        out!("{}", printable(&format!("{} {}, {signed} on {when}", manifest.id, manifest.version)));
        let quiet = [
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
        let members: Map<String, Value> = document
            .iter()
            .filter(|(name, _)| !quiet.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        tell(&members, "");
        for artifact in &manifest.artifacts {
            out!("{}: {}, {}", artifact.role, artifact.filename, DecimalBytes(artifact.size));
        }
        match here {
            Some(entry) => out!("{} is here, in {}", entry.version, entry.folder.display()),
            None => out!("not on this machine"),
        }
        Ok(())
    }
}

/// Prints an object's members, those of objects inside by their paths.
fn tell(members: &Map<String, Value>, above: &str) {
    for (name, value) in members {
        let name = format!("{above}{name}");
        match value {
            Value::Object(members) => tell(members, &format!("{name}.")),
            Value::String(text) => out!("{}: {}", printable(&name), printable(text)),
            other => out!("{}: {}", printable(&name), json!(other)),
        }
    }
}
