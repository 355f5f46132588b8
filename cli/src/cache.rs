//! The models on this machine, `<cache>/<id>/v<version>/`, and `cache`.
//!
//! A version is there when its manifest is: that is written last. Without, it is a download that was not finished.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use edge_net_core::time::UnixTime;
use edge_net_core::transfer::eviction::{Kept, victims};
use edge_net_core::trust::manifest::is_id;
use indicatif::DecimalBytes;
use semver::Version;
use serde_json::json;

use crate::Context;
use crate::config::Settings;
use crate::error::{Error, of_file};
use crate::lock::Lock;

/// Name of the manifest in a model's folder.
pub const MANIFEST: &str = "manifest.json";

/// The folder of all models.
pub struct Cache {
    root: PathBuf,
}

/// A version of a model that is there, wholly or in part.
pub struct Entry {
    /// The model.
    pub id: String,
    /// The version.
    pub version: Version,
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
    /// Whether all of it is there.
    pub complete: bool,
}

/// How much there may be.
#[derive(Clone, Copy)]
pub struct Limit {
    /// Bytes.
    bytes: u64,
    /// Whether old versions may go for new ones.
    cleanup: bool,
}

impl Limit {
    /// As the settings say.
    pub const fn of(settings: &Settings) -> Self {
        Self { bytes: settings.cache_max_size.0, cleanup: settings.cache_auto_cleanup }
    }
}

impl Cache {
    /// The cache that the settings name.
    pub fn new(settings: &Settings) -> Self {
        Self { root: settings.cache_directory.clone() }
    }

    /// Where a version is, or would be.
    pub fn folder(&self, id: &str, version: &Version) -> PathBuf {
        self.root.join(id).join(format!("v{version}"))
    }

    /// What is there, by model and version.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for (id, model) in folders(&self.root)?.into_iter().filter(|(name, _)| is_id(name)) {
            for (name, folder) in folders(&model)? {
                let Some(version) =
                    name.strip_prefix('v').and_then(|version| Version::parse(version).ok())
                else {
                    continue;
                };
                let (mut bytes, mut used) = (0, SystemTime::UNIX_EPOCH);
                measure(&folder, &mut bytes, &mut used)?;
                let complete = folder.join(MANIFEST).is_file();
                entries.push(Entry { id: id.clone(), version, folder, bytes, used, complete });
            }
        }
        entries.sort_by(|a, b| (&a.id, &a.version).cmp(&(&b.id, &b.version)));
        Ok(entries)
    }

    /// The newest version of a model that is there, or the one that is named.
    pub fn find(&self, id: &str, version: Option<&Version>) -> Result<Option<Entry>, Error> {
        let mut entries = self.entries()?;
        entries.retain(|entry| {
            entry.complete
                && entry.id == id
                && version.is_none_or(|version| *version == entry.version)
        });
        Ok(entries.pop())
    }

    /// Removes what was used least recently, until `need` more bytes fit beside `but` into the limit. Returns what went.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when they cannot, or nothing may be removed.
    pub fn make_room(&self, limit: Limit, but: &Path, need: u64) -> Result<Vec<Entry>, Error> {
        let entries: Vec<Entry> =
            self.entries()?.into_iter().filter(|entry| entry.folder != but).collect();
        let kept: Vec<Kept> = entries
            .iter()
            .map(|entry| Kept {
                bytes: entry.bytes,
                used: UnixTime::from_secs(seconds(entry.used)),
                held: Lock::try_take(&entry.folder).is_none(),
            })
            .collect();
        let Limit { bytes: budget, cleanup } = limit;
        let no_room = || Error::NoRoom {
            need,
            used: entries.iter().map(|entry| entry.bytes).sum(),
            budget,
            cleanup,
        };
        let victims = victims(&kept, budget, need).ok_or_else(no_room)?;
        if !victims.is_empty() && !cleanup {
            return Err(no_room());
        }
        let mut gone = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            if victims.contains(&at) && entry.remove()? {
                gone.push(entry);
            }
        }
        Ok(gone)
    }
}

impl Entry {
    /// Removes it, unless somebody works on it: whether it is gone.
    fn remove(&self) -> Result<bool, Error> {
        let Some(_lock) = Lock::try_take(&self.folder) else { return Ok(false) };
        // The manifest first: what is left half way is not taken for a model.
        let manifest = self.folder.join(MANIFEST);
        if self.complete {
            fs::remove_file(&manifest).map_err(of_file(&manifest))?;
        }
        fs::remove_dir_all(&self.folder).map_err(of_file(&self.folder))?;
        // The model's folder goes with its last version.
        let _ = self.folder.parent().map(fs::remove_dir);
        Ok(true)
    }
}

/// Says that a version was used now: the least recently used goes first.
pub fn touch(folder: &Path) {
    // Nothing is lost where that is not allowed.
    let manifest = fs::File::options().append(true).open(folder.join(MANIFEST));
    let _ = manifest.and_then(|file| file.set_modified(SystemTime::now()));
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The folders in a folder, with their names; none where that is not there.
fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(of_file(folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(of_file(folder))?;
        // Of what is linked to nothing is ours.
        if entry.file_type().map_err(of_file(entry.path()))?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Adds up the files below a folder. What reads a model tells nobody but the file system, if that notes it.
fn measure(folder: &Path, bytes: &mut u64, used: &mut SystemTime) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(of_file(folder))? {
        let entry = entry.map_err(of_file(folder))?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // A download that goes on meanwhile moves its files.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(of_file(entry.path())(error)),
        };
        if metadata.is_dir() {
            measure(&entry.path(), bytes, used)?;
        } else {
            *bytes += metadata.len();
            let is_manifest = entry.file_name() == MANIFEST;
            let times =
                [metadata.modified().ok(), metadata.accessed().ok().filter(|_| !is_manifest)];
            *used = times.into_iter().flatten().fold(*used, SystemTime::max);
        }
    }
    Ok(())
}

/// `cache`
#[derive(Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Subcommand)]
enum CacheCommand {
    /// Show what is kept, how large it is, and when it was used
    Info,
    /// Remove all models, or those not used for a while
    Clear {
        /// Only what was not used for this long, such as 30d
        #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
        older_than: Option<Duration>,
    },
    /// Remove versions that a newer one replaced, downloads that were not finished, and what is above cache.maxSize
    Prune,
}

impl CacheArgs {
    /// Shows, clears or prunes.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let cache = Cache::new(&settings);
        match self.command {
            CacheCommand::Info => info(&cache, &settings, context),
            CacheCommand::Clear { older_than } => {
                let until = older_than.and_then(|age| SystemTime::now().checked_sub(age));
                let old = |entry: &Entry| match older_than {
                    None => true,
                    // Longer ago than the clock goes back is nothing.
                    Some(_) => until.is_some_and(|until| entry.used <= until),
                };
                let (gone, busy) = remove_all(cache.entries()?.into_iter().filter(old).collect())?;
                tell(&gone, &busy, context);
                Ok(())
            }
            CacheCommand::Prune => {
                let entries = cache.entries()?;
                let newest: Vec<(String, Version)> = entries
                    .iter()
                    .filter(|entry| entry.complete)
                    .map(|entry| (entry.id.clone(), entry.version.clone()))
                    .collect();
                let replaced = |entry: &Entry| {
                    newest.iter().any(|(id, version)| *id == entry.id && *version > entry.version)
                };
                let unused = entries
                    .into_iter()
                    .filter(|entry| !entry.complete || replaced(entry))
                    .collect();
                // Who prunes wants that.
                let limit = Limit { cleanup: true, ..Limit::of(&settings) };
                let (mut gone, busy) = remove_all(unused)?;
                gone.extend(cache.make_room(limit, Path::new(""), 0)?);
                tell(&gone, &busy, context);
                Ok(())
            }
        }
    }
}

/// What was removed, and what somebody works on.
fn remove_all(entries: Vec<Entry>) -> Result<(Vec<Entry>, Vec<Entry>), Error> {
    let (mut gone, mut busy) = (Vec::new(), Vec::new());
    for entry in entries {
        if entry.remove()? { gone.push(entry) } else { busy.push(entry) }
    }
    Ok((gone, busy))
}

fn tell(gone: &[Entry], busy: &[Entry], context: &Context) {
    let bytes: u64 = gone.iter().map(|entry| entry.bytes).sum();
    if context.json {
        let names = |entries: &[Entry]| -> Vec<serde_json::Value> {
            entries
                .iter()
                .map(|entry| json!({ "id": entry.id, "version": entry.version.to_string(), "bytes": entry.bytes }))
                .collect()
        };
        out!("{}", json!({ "removed": names(gone), "inUse": names(busy), "bytes": bytes }));
        return;
    }
    for Entry { id, version, bytes, .. } in gone {
        out!("removed {id} {version}, {}", DecimalBytes(*bytes));
    }
    for Entry { id, version, .. } in busy {
        out!("left {id} {version}: it is being pulled");
    }
    out!("{} freed", DecimalBytes(bytes));
}

fn info(cache: &Cache, settings: &Settings, context: &Context) -> Result<(), Error> {
    let entries = cache.entries()?;
    let total: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let budget = settings.cache_max_size.0;
    if context.json {
        let models = entries.iter().map(|entry| {
            json!({
                "id": entry.id, "version": entry.version.to_string(), "folder": entry.folder.display().to_string(), "bytes": entry.bytes,
                "used": humantime::format_rfc3339_seconds(entry.used).to_string(), "complete": entry.complete,
            })
        });
        let models: Vec<_> = models.collect();
        out!(
            "{}",
            json!({ "directory": cache.root.display().to_string(), "bytes": total, "maxSize": budget, "models": models })
        );
        return Ok(());
    }
    out!("{}: {} of {}", cache.root.display(), DecimalBytes(total), DecimalBytes(budget));
    for entry in entries {
        let ago = SystemTime::now().duration_since(entry.used).unwrap_or_default().as_secs();
        let ago = match ago {
            0..60 => "just now".into(),
            60..3600 => format!("{} min ago", ago / 60),
            3600..86_400 => format!("{} h ago", ago / 3600),
            _ => format!("{} d ago", ago / 86_400),
        };
        let state = if entry.complete { "" } else { ", not finished" };
        out!("{} {}: {}, used {ago}{state}", entry.id, entry.version, DecimalBytes(entry.bytes));
    }
    Ok(())
}
