//! `pull`: downloads and verifies the files of a model.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use edge_net_core::dag::cid::{RAW, cid_text};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::transfer::download::{Config, Report};
use edge_net_core::transfer::source::{Failure, SourceKind};
use edge_net_core::trust::acceptance::{Acceptance, Accepted};
use edge_net_core::trust::manifest::{Artifact, Manifest};
use edge_net_core::trust::signature::PinnedKeys;
use indicatif::{DecimalBytes, ProgressBar};
use semver::Version;
use serde_json::{Value, json};

use crate::accepted::AcceptedVersions;
use crate::cache::{self, Cache, Limit, MANIFEST};
use crate::catalog::{self, model_id};
use crate::config::Settings;
use crate::context::Context;
use crate::delivery::{self, Location, Watch};
use crate::digest;
use crate::error::Error;
use crate::files::{FileError, of_file, replace};
use crate::lock::Lock;
use crate::places::{Place, Places, PlacesError, places};
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

/// The result for one file.
struct Outcome {
    /// Bytes received, good or bad; 0 if the file was complete.
    received: u64,
    /// The number of segments from each origin.
    sources: BTreeMap<String, u64>,
}

impl Outcome {
    /// Returns the file's entry in the output of `--json`.
    fn json(&self, artifact: &Artifact) -> Value {
        json!({
            "file": artifact.filename,
            "bytes": artifact.size,
            "sha256": artifact.sha256.to_hex(),
            "cid": cid_text(&artifact.cid),
            "received": self.received,
            "segments": self.sources,
        })
    }

    /// Returns the file's line in the output.
    fn line(&self, artifact: &Artifact) -> String {
        let names: Vec<&str> = self.sources.keys().map(String::as_str).collect();
        let from = if names.is_empty() {
            "already present".into()
        } else {
            format!("from {}", names.join(", "))
        };
        format!("{}: {}, {from}", artifact.filename, DecimalBytes(artifact.size))
    }
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
            None => cache.folder(id, version),
        };
        let _lock = Lock::take(&folder, || {
            eprintln!("waiting for another process that pulls into {}", folder.display());
        })?;
        if self.output.is_none() {
            make_room(&cache, &settings, &folder, &manifest)?;
        }
        if !context.json {
            out!("{id} {version}, signed by {}", printable(manifest.key_id()));
        }
        let job = Job {
            settings: &settings,
            places: &places,
            source: self.kind(),
            all: self.source == Some(Choice::All),
            context,
            folder: &folder,
            manifest: &manifest,
        };
        let mut files = Vec::new();
        for artifact in &manifest.artifacts {
            let outcome = job.obtain(artifact)?;
            if !context.json {
                out!("{}", outcome.line(artifact));
            }
            files.push(outcome.json(artifact));
        }
        if fs::read_to_string(folder.join(MANIFEST)).ok().as_ref() != Some(&text) {
            replace(&folder.join(MANIFEST), text.as_bytes())?;
        }
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
        let records = AcceptedVersions::open()?;
        let floor = records.read(&self.id)?;
        let now = SystemTime::now().into();
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
                let floor = records.read(&id)?;
                let acceptance = Acceptance { id: &id, floor: floor.as_ref(), ..acceptance };
                accept(&records, &acceptance, ask(places, &acceptance)?)
            }
            Err(PlacesError::NoManifest { wanted, reasons }) => {
                let expired =
                    cached.as_ref().and_then(|cached| acceptance.holds(&cached.manifest).err());
                match (acceptance.settle(Err(reasons.no_manifest()), cached), expired) {
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
            found => accept(&records, &acceptance, found?),
        }
    }
}

/// Asks the sources for a manifest that is accepted.
fn ask(places: &Places, acceptance: &Acceptance) -> Result<Accepted, PlacesError> {
    let offered = |text| acceptance.offered(text);
    places.manifest(acceptance.id, acceptance.version, offered)
}

/// Records that a manifest was accepted.
fn accept(
    records: &AcceptedVersions,
    acceptance: &Acceptance,
    accepted: Accepted,
) -> Result<Accepted, Error> {
    let floor = acceptance.raise(&accepted.manifest);
    records.raise(acceptance.id, acceptance.floor, floor.as_ref())?;
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

/// The download of one model's files into a folder.
struct Job<'a> {
    settings: &'a Settings,
    places: &'a Places,
    source: Option<SourceKind>,
    /// Whether all sources work at once.
    all: bool,
    context: &'a Context,
    folder: &'a Path,
    manifest: &'a Manifest,
}

impl Job<'_> {
    /// Obtains a file: verifies the bytes that exist, fetches the missing and wrong ones, and then
    /// gives the file its name.
    fn obtain(&self, artifact: &Artifact) -> Result<Outcome, Error> {
        let path = self.folder.join(&artifact.filename);
        let parent = path.parent().unwrap_or(self.folder);
        fs::create_dir_all(parent).map_err(of_file(parent))?;
        // Hidden, so that no artifact can have this name.
        let name = artifact.filename.rsplit('/').next().unwrap_or_default();
        let part = parent.join(format!(".{name}.part"));
        if path.is_file() {
            if self.is_good(artifact, &path)? {
                return Ok(Outcome { received: 0, sources: BTreeMap::new() });
            }
            // The good leaves are kept.
            fs::rename(&path, &part).map_err(of_file(&path))?;
        }
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&part)
            .map_err(of_file(&part))?;
        let outcome = if artifact.size > 0 {
            let table = self.leaf_table(artifact)?;
            let locations = self.locations(artifact);
            let names = locations.iter().map(|location| location.name.clone()).collect();
            let mut progress = Progress {
                bar: self.context.bar("pulling", &artifact.filename, artifact.size),
                file: &artifact.filename,
                names,
                verbose: self.context.verbose,
                outcome: Outcome { received: 0, sources: BTreeMap::new() },
            };
            delivery::complete(table, locations, self.config(), file, &part, &mut progress)?;
            progress.bar.finish_and_clear();
            progress.outcome
        } else {
            if artifact.cid != Digest::of(&[]).to_cid(RAW) {
                return Err(Error::NotEmpty(artifact.filename.clone()));
            }
            file.set_len(0).map_err(of_file(&part))?;
            Outcome { received: 0, sources: BTreeMap::new() }
        };
        fs::rename(&part, &path).map_err(of_file(&path))?;
        Ok(outcome)
    }

    /// Returns whether a file has the size and the CID in the manifest.
    fn is_good(&self, artifact: &Artifact, path: &Path) -> Result<bool, Error> {
        if fs::metadata(path).map_err(of_file(path))?.len() != artifact.size {
            return Ok(false);
        }
        let bar = self.context.bar("verifying", &artifact.filename, artifact.size);
        let found = digest::file(path, |read| bar.inc(read))?;
        bar.finish_and_clear();
        Ok(found.cid == artifact.cid)
    }

    /// Returns the leaf table: the one beside the file, or else one from a source, which is then
    /// stored beside the file.
    fn leaf_table(&self, artifact: &Artifact) -> Result<LeafTable, Error> {
        let path = self.folder.join(format!("{}.leaves", artifact.filename));
        let stored = fs::read(&path).ok();
        if let Some(table) =
            stored.and_then(|table| LeafTable::verify(&table, artifact.size, &artifact.cid).ok())
        {
            return Ok(table);
        }
        let table = self.places.leaf_table(self.manifest, artifact)?;
        replace(&path, &table.to_bytes())?;
        Ok(table)
    }

    /// Returns the sources of a file.
    fn locations(&self, artifact: &Artifact) -> Vec<Location> {
        let url = |place: &Place| place.source.artifact_url(self.manifest, artifact);
        self.places.of(self.source).map(|place| Location::new(place, url(place))).collect()
    }

    /// Returns the parameters of a download, from the settings.
    fn config(&self) -> Config {
        let settings = self.settings;
        let gateways =
            self.places.of(self.source).any(|place| place.source.kind == SourceKind::Ipfs);
        let timeout = if gateways {
            settings.ipfs_timeout.max(settings.cdn_timeout)
        } else {
            settings.cdn_timeout
        };
        let mut seed = [0; 8];
        // The seed is only for jitter: a download without random bytes works too.
        let _ = getrandom::fill(&mut seed);
        let defaults = Config::default();
        Config {
            share: self.all,
            lanes: if gateways { settings.ipfs_parallel.0.into() } else { defaults.lanes },
            attempts: u32::from(settings.cdn_retries) + 1,
            stall: timeout,
            seed: u64::from_ne_bytes(seed),
            ..defaults
        }
    }
}

/// The progress of a download on the terminal.
struct Progress<'a> {
    bar: ProgressBar,
    file: &'a str,
    /// Names of the sources.
    names: Vec<String>,
    verbose: bool,
    outcome: Outcome,
}

impl Progress<'_> {
    /// Prints a line above the bar.
    fn print(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{}", printable(line)));
    }
}

impl Watch for Progress<'_> {
    fn have(&mut self, bytes: u64) {
        if self.bar.position() != bytes {
            self.bar.set_position(bytes);
        }
    }

    fn report(&mut self, report: &Report) {
        match report {
            Report::Received { bytes } => self.outcome.received += bytes,
            Report::Verified { segment, origins } => {
                for origin in origins {
                    *self.outcome.sources.entry(printable(origin).into_owned()).or_default() += 1;
                }
                if self.verbose {
                    let from = if origins.is_empty() {
                        "already present".into()
                    } else {
                        format!("from {}", origins.join(", "))
                    };
                    self.print(&format!("{}: segment {segment} verified, {from}", self.file));
                }
                let sources = self
                    .outcome
                    .sources
                    .iter()
                    .map(|(name, segments)| format!("{name} {segments}"));
                self.bar.set_message(sources.collect::<Vec<_>>().join(", "));
            }
            Report::Refused { segment, source, failure }
                if self.verbose || matches!(failure, Failure::BadLeaf(_)) =>
            {
                self.print(&format!(
                    "warning: {}: segment {segment}: {}: {failure}",
                    self.file,
                    self.names[source.index()]
                ));
            }
            _ => {}
        }
    }
}
