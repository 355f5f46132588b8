//! `cache`: shows and removes pulled models.

use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use indicatif::DecimalBytes;
use semver::Version;
use serde_json::{Value, json};

use crate::cache::{self, Entry, Limit};
use crate::config::Settings;
use crate::context::Context;
use crate::error::Error;
use crate::files::FileError;

/// `cache`
#[derive(Args)]
pub struct Cache {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the models in the cache: size and time of the last use
    Info,
    /// Remove all models, or those that were not used for a while
    Clear {
        /// Only models that were not used for this long, such as 30d
        #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
        older_than: Option<Duration>,
    },
    /// Remove replaced versions, incomplete downloads, and models above cache.maxSize
    Prune,
}

/// The result of a removal.
struct Removal {
    removed: Vec<Entry>,
    /// Versions that were kept because another process uses them.
    in_use: Vec<Entry>,
}

impl Cache {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::File`] and [`Error::Cache`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let cache = cache::Cache::new(&settings);
        match self.command {
            Command::Info => info(&cache, &settings, context)?,
            Command::Clear { older_than } => clear(&cache, older_than)?.print(context),
            Command::Prune => prune(&cache, &settings)?.print(context),
        }
        Ok(())
    }
}

fn clear(cache: &cache::Cache, older_than: Option<Duration>) -> Result<Removal, Error> {
    let until = older_than.and_then(|age| SystemTime::now().checked_sub(age));
    let is_old = |entry: &Entry| match older_than {
        None => true,
        // An age before the clock's first moment matches nothing.
        Some(_) => until.is_some_and(|until| entry.used <= until),
    };
    Ok(Removal::of(cache.entries()?.into_iter().filter(is_old))?)
}

fn prune(cache: &cache::Cache, settings: &Settings) -> Result<Removal, Error> {
    let entries = cache.entries()?;
    let complete: Vec<(String, Version)> = entries
        .iter()
        .filter(|entry| entry.complete)
        .map(|entry| (entry.id.clone(), entry.version.clone()))
        .collect();
    let is_replaced = |entry: &Entry| {
        complete.iter().any(|(id, version)| *id == entry.id && *version > entry.version)
    };
    let unused = entries.into_iter().filter(|entry| !entry.complete || is_replaced(entry));
    let mut removal = Removal::of(unused)?;
    // This command asks for removal, whatever cache.autoCleanup is.
    let limit = Limit { cleanup: true, ..Limit::of(settings) };
    removal.removed.extend(cache.make_room(limit, Path::new(""), 0)?);
    Ok(removal)
}

impl Removal {
    /// Removes the versions that no other process uses.
    fn of(entries: impl Iterator<Item = Entry>) -> Result<Self, FileError> {
        let (mut removed, mut in_use) = (Vec::new(), Vec::new());
        for entry in entries {
            if entry.remove()? { removed.push(entry) } else { in_use.push(entry) }
        }
        Ok(Self { removed, in_use })
    }

    fn print(&self, context: &Context) {
        let bytes: u64 = self.removed.iter().map(|entry| entry.bytes).sum();
        if context.json {
            let row = |entry: &Entry| {
                let version = entry.version.to_string();
                json!({ "id": entry.id, "version": version, "bytes": entry.bytes })
            };
            let rows = |entries: &[Entry]| entries.iter().map(row).collect::<Vec<Value>>();
            let (removed, in_use) = (rows(&self.removed), rows(&self.in_use));
            out!("{}", json!({ "removed": removed, "inUse": in_use, "bytes": bytes }));
            return;
        }
        for Entry { id, version, bytes, .. } in &self.removed {
            out!("removed {id} {version}, {}", DecimalBytes(*bytes));
        }
        for Entry { id, version, .. } in &self.in_use {
            out!("kept {id} {version}: another process uses it");
        }
        out!("{} freed", DecimalBytes(bytes));
    }
}

fn info(cache: &cache::Cache, settings: &Settings, context: &Context) -> Result<(), Error> {
    let entries = cache.entries()?;
    let total: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let limit = settings.cache_max_size.0;
    let root = cache.root()?.display().to_string();
    if context.json {
        let row = |entry: &Entry| {
            json!({
                "id": entry.id,
                "version": entry.version.to_string(),
                "folder": entry.folder.display().to_string(),
                "bytes": entry.bytes,
                "used": humantime::format_rfc3339_seconds(entry.used).to_string(),
                "complete": entry.complete,
            })
        };
        let models: Vec<Value> = entries.iter().map(row).collect();
        let told = json!({ "directory": root, "bytes": total, "maxSize": limit, "models": models });
        out!("{told}");
        return Ok(());
    }
    out!("{root}: {} of {}", DecimalBytes(total), DecimalBytes(limit));
    for entry in entries {
        let age = SystemTime::now().duration_since(entry.used).unwrap_or_default().as_secs();
        let age = match age {
            0..60 => "just now".into(),
            60..3600 => format!("{} min ago", age / 60),
            3600..86_400 => format!("{} h ago", age / 3600),
            _ => format!("{} d ago", age / 86_400),
        };
        let state = if entry.complete { "" } else { ", incomplete" };
        out!("{} {}: {}, used {age}{state}", entry.id, entry.version, DecimalBytes(entry.bytes));
    }
    Ok(())
}
