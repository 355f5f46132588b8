//! `pull`: a model's files, verified, on this machine.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::dag::unixfs::{Digest, RAW, cid_text};
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::time::UnixTime;
use edge_net_core::transfer::download::{Config, Report};
use edge_net_core::transfer::source::{Failure, SourceKind};
use edge_net_core::trust::manifest::{Artifact, Manifest};
use edge_net_core::trust::signature::{Floor, PinnedKeys, VerifiedManifest};
use indicatif::{DecimalBytes, ProgressBar};
use semver::Version;
use serde_json::{Value, json};

use crate::cache::{self, Cache, Limit, MANIFEST};
use crate::commands::list::{self, model_id};
use crate::config::{Settings, state_directory};
use crate::delivery::{self, Location, Watch};
use crate::error::{Error, of_file};
use crate::files::replace;
use crate::lock::Lock;
use crate::places::{Accepted, Places, places};
use crate::terminal::{bar, printable};
use crate::{Context, digest};

/// `pull`
#[derive(Args)]
pub struct Pull {
    /// Identifier of the model; or its beginning, such as phi-1.5, where there are several quantizations
    #[arg(value_parser = model_id)]
    id: String,
    /// This version instead of the newest
    #[arg(long)]
    version: Option<Version>,
    /// Only this source's bytes: gcs, ipfs or edge; without, all work at once
    #[arg(long, value_parser = source_kind)]
    source: Option<SourceKind>,
    /// A folder to put <id>/ into, instead of the cache
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

fn source_kind(text: &str) -> Result<SourceKind, String> {
    let kinds = [SourceKind::Gcs, SourceKind::Ipfs, SourceKind::Edge];
    kinds
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| "it must be gcs, ipfs or edge".into())
}

/// What became of a file.
struct Outcome {
    /// Bytes that came, good or not; none where all was there.
    received: u64,
    /// Segments by where their bytes came from.
    sources: BTreeMap<String, u64>,
}

impl Pull {
    /// Pulls.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let keys = settings.pinned()?;
        if keys.is_empty() {
            return Err(Error::NoKeys);
        }
        let (places, cache) = (places(&settings), Cache::new(&settings));
        if let Some(kind) = self.source.filter(|kind| places.of(Some(*kind)).next().is_none()) {
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
            eprintln!("waiting for another process that pulls into {}", folder.display())
        })?;
        if self.output.is_none() {
            let need = manifest.artifacts.iter().map(|artifact| artifact.size).sum();
            for gone in cache.make_room(Limit::of(&settings), &folder, need)? {
                eprintln!(
                    "removed {} {} to make room, {}",
                    gone.id,
                    gone.version,
                    DecimalBytes(gone.bytes)
                );
            }
        }
        if !context.json {
            out!("{id} {version}, signed by {}", printable(manifest.key_id()));
        }
        let mut files = Vec::new();
        for artifact in &manifest.artifacts {
            let job = Job {
                settings: &settings,
                places: &places,
                source: self.source,
                context,
                folder: &folder,
                manifest: &manifest,
            };
            let Outcome { received, sources } = job.obtain(artifact)?;
            if context.json {
                files.push(json!({
                    "file": artifact.filename, "bytes": artifact.size, "sha256": artifact.sha256.to_hex(), "cid": cid_text(&artifact.cid),
                    "received": received, "segments": sources,
                }));
            } else {
                let names: Vec<&str> = sources.keys().map(String::as_str).collect();
                let from = if names.is_empty() {
                    "was there".into()
                } else {
                    format!("from {}", names.join(", "))
                };
                out!("{}: {}, {from}", artifact.filename, DecimalBytes(artifact.size));
            }
        }
        if fs::read_to_string(folder.join(MANIFEST)).ok().as_ref() != Some(&text) {
            replace(&folder.join(MANIFEST), text.as_bytes())?;
        }
        cache::touch(&folder);
        if context.json {
            let folder = folder.display().to_string();
            out!(
                "{}",
                json!({ "id": id, "version": version.to_string(), "signedBy": manifest.key_id(), "folder": folder, "files": files })
            );
        } else {
            out!("verified, in {}", folder.display());
        }
        Ok(())
    }

    /// The manifest to go by.
    fn accepted(
        &self,
        settings: &Settings,
        keys: &PinnedKeys,
        places: &Places,
        cache: &Cache,
        context: &Context,
    ) -> Result<Accepted, Error> {
        let version = self.version.as_ref();
        let kept = kept(cache, keys, &self.id, version)?;
        // A version never changes.
        if let Some(kept) = kept.as_ref().filter(|_| version.is_some() || !settings.auto_update) {
            return Ok(kept.clone());
        }
        let floors = Floors::open()?;
        let accept = |id: &str| {
            let floor = floors.read(id)?;
            let accepted = places.manifest(id, version, |text| {
                Accepted::verify(text, keys, id, version, floor.as_ref())
            })?;
            floors.raise(id, floor.as_ref(), &accepted.manifest)?;
            Ok(accepted)
        };
        match (accept(&self.id), kept) {
            (Err(Error::NoManifest { reasons, .. }), Some(kept)) if reasons.is_unreachable() => {
                eprintln!(
                    "warning: nobody could be asked for a newer version: {}",
                    printable(&reasons.to_string())
                );
                Ok(kept)
            }
            (Err(Error::NoManifest { wanted, reasons }), None)
                if reasons.is_not_found() && settings.edge_url.is_some() =>
            {
                // Not an identifier, perhaps, but what several begin with.
                match list::preferred(settings, &self.id)? {
                    Some(id) => {
                        context.note(&format!("{} is {id} here", self.id));
                        accept(&id)
                    }
                    None => Err(Error::NoManifest { wanted, reasons }),
                }
            }
            (accepted, _) => accepted,
        }
    }
}

/// The accepted manifest of a version that is there.
fn kept(
    cache: &Cache,
    keys: &PinnedKeys,
    id: &str,
    version: Option<&Version>,
) -> Result<Option<Accepted>, Error> {
    let Some(entry) = cache.find(id, version)? else { return Ok(None) };
    let path = entry.folder.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(of_file(&path))?;
    // What is not accepted any more, or was altered, is asked for anew.
    Ok(VerifiedManifest::verify(&text, keys)
        .and_then(|manifest| manifest.about(id, Some(&entry.version)))
        .ok()
        .map(|manifest| Accepted { manifest, text }))
}

/// What was accepted of each model, so that nobody can go back behind it.
struct Floors {
    folder: PathBuf,
}

impl Floors {
    fn open() -> Result<Self, Error> {
        Ok(Self { folder: state_directory()?.join("accepted") })
    }

    fn read(&self, id: &str) -> Result<Option<Floor>, Error> {
        let path = self.folder.join(format!("{id}.json"));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(of_file(&path)(error)),
        };
        let read = || {
            let value: Value = serde_json::from_str(&text).ok()?;
            let replaced =
                value["replaced"].as_array()?.iter().map(|key| key.as_str().map(str::to_owned));
            let version = Version::parse(value["version"].as_str()?).ok()?;
            Some(Floor {
                version,
                timestamp: UnixTime::from_millis(value["timestamp"].as_u64()?),
                replaced: replaced.collect::<Option<_>>()?,
            })
        };
        // Not forgotten silently: somebody may want that it is.
        read().map(Some).ok_or(Error::BadFloor(path))
    }

    fn raise(
        &self,
        id: &str,
        before: Option<&Floor>,
        manifest: &VerifiedManifest,
    ) -> Result<(), Error> {
        let mut floor = manifest.floor();
        if let Some(before) = before {
            floor.version = floor.version.max(before.version.clone());
            floor.timestamp = floor.timestamp.max(before.timestamp);
            floor.replaced.extend(
                before
                    .replaced
                    .iter()
                    .filter(|key| !manifest.floor().replaced.contains(key))
                    .cloned(),
            );
        }
        if before == Some(&floor) {
            return Ok(());
        }
        let Floor { version, timestamp, replaced } = floor;
        let text =
            json!({ "version": version.to_string(), "timestamp": timestamp.as_millis(), "replaced": replaced })
                .to_string();
        replace(&self.folder.join(format!("{id}.json")), text.as_bytes())
    }
}

/// What the files of a model have in common.
struct Job<'a> {
    settings: &'a Settings,
    places: &'a Places,
    source: Option<SourceKind>,
    context: &'a Context,
    folder: &'a Path,
    manifest: &'a Manifest,
}

impl Job<'_> {
    /// Gets a file: what is there of it is verified, what is missing or wrong is fetched, and only then does it have its name.
    fn obtain(&self, artifact: &Artifact) -> Result<Outcome, Error> {
        let path = self.folder.join(&artifact.filename);
        let parent = path.parent().unwrap_or(self.folder);
        fs::create_dir_all(parent).map_err(of_file(parent))?;
        // No artifact has a hidden name.
        let part = parent
            .join(format!(".{}.part", artifact.filename.rsplit('/').next().unwrap_or_default()));
        if path.is_file() {
            if self.is_good(artifact, &path)? {
                return Ok(Outcome { received: 0, sources: BTreeMap::new() });
            }
            // Its good leaves stay.
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
            let locations: Vec<Location> = self.locations(artifact);
            let kinds: Vec<String> =
                locations.iter().map(|location| location.name.clone()).collect();
            let mut progress = Progress {
                bar: bar(self.context, "pulling", &artifact.filename, artifact.size),
                file: &artifact.filename,
                kinds,
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

    fn is_good(&self, artifact: &Artifact, path: &Path) -> Result<bool, Error> {
        if fs::metadata(path).map_err(of_file(path))?.len() != artifact.size {
            return Ok(false);
        }
        let bar = bar(self.context, "verifying", &artifact.filename, artifact.size);
        let found = digest::file(path, |read| bar.inc(read))?;
        bar.finish_and_clear();
        Ok(found.cid == artifact.cid)
    }

    /// The table that an earlier pull put beside the file, or another one, which is put there.
    fn leaf_table(&self, artifact: &Artifact) -> Result<LeafTable, Error> {
        let path = self.folder.join(format!("{}.leaves", artifact.filename));
        let kept = fs::read(&path).ok();
        if let Some(table) =
            kept.and_then(|table| LeafTable::verify(&table, artifact.size, &artifact.cid).ok())
        {
            return Ok(table);
        }
        let table = self.places.leaf_table(self.manifest, artifact)?;
        replace(&path, &table.to_bytes())?;
        Ok(table)
    }

    fn locations(&self, artifact: &Artifact) -> Vec<Location> {
        let url = |place: &crate::places::Place| place.source.artifact_url(self.manifest, artifact);
        self.places.of(self.source).map(|place| Location::new(place, url(place))).collect()
    }

    fn config(&self) -> Config {
        let settings = self.settings;
        let gateways =
            self.places.of(self.source).any(|place| place.source.kind == SourceKind::Ipfs);
        let patience = if gateways {
            settings.ipfs_timeout.max(settings.cdn_timeout)
        } else {
            settings.cdn_timeout
        };
        let mut seed = [0; 8];
        // Only the jitter wants it: without randomness there is less of that.
        let _ = getrandom::fill(&mut seed);
        let usual = Config::default();
        Config {
            lanes: if gateways { settings.ipfs_parallel.0.into() } else { usual.lanes },
            attempts: u32::from(settings.cdn_retries) + 1,
            stall: patience,
            seed: u64::from_ne_bytes(seed),
            ..usual
        }
    }
}

struct Progress<'a> {
    bar: ProgressBar,
    file: &'a str,
    /// Names of the sources.
    kinds: Vec<String>,
    verbose: bool,
    outcome: Outcome,
}

impl Progress<'_> {
    fn say(&self, line: &str) {
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
                        "it was there".into()
                    } else {
                        format!("from {}", origins.join(", "))
                    };
                    self.say(&format!("{}: segment {segment} is good, {from}", self.file));
                }
                let sources = self
                    .outcome
                    .sources
                    .iter()
                    .map(|(name, segments)| format!("{name} {segments}"));
                self.bar.set_message(sources.collect::<Vec<_>>().join(", "));
            }
            Report::Refused { segment, source, failure } => {
                if self.verbose || matches!(failure, Failure::BadLeaf(_)) {
                    self.say(&format!(
                        "warning: {}: segment {segment}: {}: {failure}",
                        self.file,
                        self.kinds[source.index()]
                    ));
                }
            }
            _ => {}
        }
    }
}
