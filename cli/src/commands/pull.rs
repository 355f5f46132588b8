//! `pull`: downloads and verifies the files of a model.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use edge_net_core::transfer::source::SourceKind;
use edge_net_core::trust::acceptance::{Acceptance, Accepted};
use edge_net_core::trust::manifest::Manifest;
use edge_net_core::trust::signature::{Floor, PinnedKeys};
use indicatif::DecimalBytes;
use semver::Version;
use serde_json::{Value, json};

use crate::accepted::{AcceptedError, AcceptedVersions};
use crate::cache::{self, Cache, CacheError, Limit};
use crate::catalog::{self, model_id};
use crate::config::Settings;
use crate::context::Context;
use crate::document::MANIFEST;
use crate::error::Error;
use crate::files::{FileError, of_file};
use crate::lock::Lock;
use crate::places::{Places, PlacesError, places};
use crate::retrieval::Job;
use crate::staging;
use crate::terminal::printable;

/// `pull`
#[derive(Args)]
pub struct Pull {
    /// Identifier of the model, or a prefix such as phi-1.5 if there are several quantizations
    #[arg(value_parser = model_id)]
    id: String,
    /// Version; default: the newest
    #[arg(long)]
    version: Option<Version>,
    /// Only this kind of source: gcs, ipfs or edge; or all at once; default: one after the other,
    /// when one lags, fails or is wrong
    #[arg(long, value_parser = choice)]
    source: Option<Choice>,
    /// Folder to create <id>/ in, instead of the cache
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// The value of --source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// All sources at once.
    All,
    /// The sources of one kind, in order.
    Only(SourceKind),
}

/// Parses the value of --source.
fn choice(text: &str) -> Result<Choice, String> {
    let kinds = [SourceKind::Gcs, SourceKind::Ipfs, SourceKind::Edge];
    let kind = kinds.into_iter().find(|kind| kind.name() == text).map(Choice::Only);
    kind.or((text == "all").then_some(Choice::All))
        .ok_or_else(|| "it must be gcs, ipfs, edge or all".into())
}

impl Pull {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::NoKeys`], [`Error::NoSuchSource`], [`Error::Places`], [`Error::Delivery`],
    /// [`Error::Cache`], [`Error::Accepted`], [`Error::NotEmpty`], [`Error::Http`],
    /// [`Error::Config`] and [`Error::File`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let keys = settings.pinned()?;
        if keys.is_empty() {
            return Err(Error::NoKeys);
        }
        let (places, cache) = (places(&settings), Cache::new(&settings));
        if let Some(kind) = self.kind().filter(|kind| places.of(Some(*kind)).next().is_none()) {
            return Err(Error::NoSuchSource(kind));
        }
        let Accepted { manifest, text } =
            self.accepted(&settings, &keys, &places, &cache, context)?;
        let (id, version) = (&manifest.id, &manifest.version);
        let folder = match &self.output {
            Some(output) => output.join(id),
            None => cache.folder(id, version)?,
        };
        let job = Job {
            settings: &settings,
            places: &places,
            source: self.kind(),
            all: self.source == Some(Choice::All),
            context,
            folder: &folder,
            manifest: &manifest,
            text: &text,
        };
        let files = self.install(&job, &cache)?;
        cache::touch(&folder);
        let folder = folder.display().to_string();
        if context.json {
            let report = json!({
                "id": id,
                "version": version.to_string(),
                "signedBy": manifest.key_id(),
                "folder": folder,
                "files": files,
            });
            out!("{report}");
        } else {
            out!("verified, in {folder}");
        }
        Ok(())
    }

    /// Returns the kind of the sources that are asked, if it is one.
    const fn kind(&self) -> Option<SourceKind> {
        match self.source {
            Some(Choice::Only(kind)) => Some(kind),
            Some(Choice::All) | None => None,
        }
    }

    /// Brings the folder to the version. Where nothing can be written, a complete version is
    /// enough.
    fn install(&self, job: &Job<'_>, cache: &Cache) -> Result<Vec<Value>, Error> {
        let folder = job.folder;
        staging::undo(folder)?;
        let lock = Lock::take(folder, || {
            eprintln!("waiting for another process that pulls into {}", folder.display());
        });
        match lock {
            Ok(lock) => {
                if !lock.exclusive {
                    job.context.note(&format!(
                        "warning: {}: the file system has no locks; let only one process at a time \
                         pull into this folder",
                        folder.display()
                    ));
                }
                job.install(lock, || match self.output {
                    Some(_) => Ok(()),
                    None => make_room(cache, job.settings, folder, job.manifest),
                })
            }
            Err(error) => match job.present()? {
                Some(files) => Ok(files),
                None if self.output.is_some() => Err(error.into()),
                None => Err(CacheError::Unwritable(error).into()),
            },
        }
    }

    /// Returns the manifest of the version to pull: the cached one if it fits, else the one of a
    /// source.
    fn accepted(
        &self,
        settings: &Settings,
        keys: &PinnedKeys,
        places: &Places,
        cache: &Cache,
        context: &Context,
    ) -> Result<Accepted, Error> {
        let version = self.version.as_ref();
        let now = SystemTime::now().into();
        let record = read_record(&self.id);
        let floor = floor_of(&record);
        let acceptance = Acceptance { keys, id: &self.id, version, floor: floor.as_ref(), now };
        let cached = cached(cache, &acceptance)?;
        // A version never changes, so its cached manifest is as good as any.
        if let Some(cached) = cached.as_ref().filter(|_| version.is_some() || !settings.auto_update)
        {
            return Ok(cached.clone());
        }
        let found = ask(places, &acceptance);
        match found {
            Err(PlacesError::NoManifest { reasons, .. })
                if cached.is_none() && reasons.is_not_found() && settings.edge_url.is_some() =>
            {
                // The name may be the prefix of several identifiers.
                let Some(id) = catalog::preferred(settings, &self.id)? else {
                    let wanted = self.id.clone();
                    return Err(PlacesError::NoManifest { wanted, reasons }.into());
                };
                context.note(&format!("{}: {id} is chosen by preference", self.id));
                let record = read_record(&id);
                let floor = floor_of(&record);
                let acceptance = Acceptance { id: &id, floor: floor.as_ref(), ..acceptance };
                accept(context, record, &acceptance, None, ask(places, &acceptance)?)
            }
            Err(PlacesError::NoManifest { wanted, reasons }) => {
                let expired =
                    cached.as_ref().and_then(|cached| acceptance.holds(&cached.manifest).err());
                match (acceptance.settle(Err(reasons.no_manifest(&self.id)), cached), expired) {
                    (Ok((cached, _)), _) => {
                        let reasons = reasons.to_string();
                        let reasons = printable(&reasons);
                        eprintln!("warning: cannot look for a newer version: {reasons}");
                        Ok(cached)
                    }
                    (Err(_), Some(refusal)) if reasons.is_unreachable() => {
                        Err(Error::Refused { path: "the cached manifest".into(), refusal })
                    }
                    (Err(_), _) => Err(PlacesError::NoManifest { wanted, reasons }.into()),
                }
            }
            found => accept(context, record, &acceptance, cached.as_ref(), found?),
        }
    }
}

/// Asks the sources for a manifest that is accepted.
fn ask(places: &Places, acceptance: &Acceptance) -> Result<Accepted, PlacesError> {
    let offered = |text| acceptance.offered(text);
    places.manifest(acceptance.id, acceptance.version, offered)
}

/// The records, and what was accepted of one model before.
type Record = Result<(AcceptedVersions, Option<Floor>), AcceptedError>;

fn read_record(id: &str) -> Record {
    let records = AcceptedVersions::open()?;
    let floor = records.read(id)?;
    Ok((records, floor))
}

fn floor_of(record: &Record) -> Option<Floor> {
    record.as_ref().ok().and_then(|(_, floor)| floor.clone())
}

/// Records that a manifest was accepted. A version that is named, or that is here already, needs no
/// record.
fn accept(
    context: &Context,
    record: Record,
    acceptance: &Acceptance,
    cached: Option<&Accepted>,
    accepted: Accepted,
) -> Result<Accepted, Error> {
    let raised = record.and_then(|(records, before)| {
        let floor = acceptance.raise(&accepted.manifest);
        records.raise(acceptance.id, before.as_ref(), floor.as_ref())
    });
    match raised {
        Err(error)
            if acceptance.version.is_some()
                || (cached.is_some_and(|cached| cached.text == accepted.text)
                    && !error.is_suspicious()) =>
        {
            context.note(&format!("warning: {error}"));
        }
        raised => raised?,
    }
    Ok(accepted)
}

/// Removes old models until the new one fits into the cache, and prints their names.
fn make_room(
    cache: &Cache,
    settings: &Settings,
    folder: &Path,
    manifest: &Manifest,
) -> Result<(), Error> {
    let need = manifest.artifacts.iter().map(|artifact| artifact.size).sum();
    for entry in cache.make_room(Limit::of(settings), folder, need)? {
        let size = DecimalBytes(entry.bytes);
        eprintln!("removed {} {} to make room, {size}", entry.id, entry.version);
    }
    Ok(())
}

/// Returns the cached manifest of a version, if it is still acceptable. A manifest that was
/// altered, or whose key is not pinned any more or was replaced, is fetched again.
fn cached(cache: &Cache, acceptance: &Acceptance) -> Result<Option<Accepted>, FileError> {
    let Some(entry) = cache.find(acceptance.id, acceptance.version)? else { return Ok(None) };
    let path = entry.folder.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(of_file(&path))?;
    let named = Acceptance { version: Some(&entry.version), ..*acceptance };
    Ok(named.kept(text).ok())
}
