//! Brings a folder to one version of a model: keeps the files that are good, and fetches the
//! others.
//!
//! Bytes never go into a file that has its name already, or through a link: another program may
//! read that file, and a link's target is somebody else's.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use edge_net_core::dag::cid::{RAW, cid_text};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::transfer::download::{Config, Report};
use edge_net_core::transfer::source::{Failure, SourceKind};
use edge_net_core::trust::manifest::{Artifact, Manifest};
use edge_net_core::trust::signature::VerifiedManifest;
use indicatif::{DecimalBytes, ProgressBar};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::context::Context;
use crate::delivery::{self, Destination, Location, Watch};
use crate::digest;
use crate::document::MANIFEST;
use crate::error::Error;
use crate::files::{of_file, replace};
use crate::lock::Lock;
use crate::places::{Place, Places};
use crate::staging::{self, Staging};
use crate::terminal::printable;

/// The result for one file.
struct Outcome {
    /// Bytes received, good or bad; 0 if the file was complete.
    received: u64,
    /// The number of segments from each origin.
    sources: BTreeMap<String, u64>,
}

impl Outcome {
    /// The result for a file that is complete.
    const fn present() -> Self {
        Self { received: 0, sources: BTreeMap::new() }
    }

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

/// The state of a file before the download.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is the one in the manifest.
    Good,
    /// Something else has its name.
    Wrong,
    Missing,
}

/// The download of one model's files into a folder.
pub struct Job<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The sources.
    pub places: &'a Places,
    /// The only kind of source to use.
    pub source: Option<SourceKind>,
    /// Whether all sources work at once.
    pub all: bool,
    /// The options of the command.
    pub context: &'a Context,
    /// The model's folder.
    pub folder: &'a Path,
    /// The version.
    pub manifest: &'a VerifiedManifest,
    /// The text of its manifest.
    pub text: &'a str,
}

impl Job<'_> {
    /// Brings the folder to the version, and returns a report for each file. Calls `room` first, to
    /// make room for it. When files of another version have to be replaced, that version stays
    /// whole until this one is.
    ///
    /// # Errors
    /// [`Error::Places`], [`Error::Delivery`], [`Error::NotEmpty`], [`Error::File`], and those of
    /// `room`.
    pub fn install(
        &self,
        mut lock: Lock,
        room: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Vec<Value>, Error> {
        staging::finish(self.folder)?;
        room()?;
        let standings = self.standings()?;
        self.introduce();
        let apart = self.needs_staging(&standings);
        let staging = apart.then(|| Staging::open(self.folder, self.text)).transpose()?;
        let tree = staging.as_ref().map_or(self.folder, |staging| &staging.tree);
        let mut files = Vec::new();
        for (artifact, standing) in self.manifest.artifacts.iter().zip(standings) {
            files.push(self.tell(artifact, &self.obtain(artifact, standing, tree)?));
        }
        // The manifest comes last: it says that the version is complete.
        let manifest = tree.join(MANIFEST);
        if fs::read_to_string(&manifest).ok().as_deref() != Some(self.text) {
            replace(&manifest, self.text.as_bytes())?;
        }
        if let Some(staging) = staging {
            staging.switch(&mut lock)?;
        }
        Ok(files)
    }

    /// Returns a report for each file if the folder has the version already; `None` when something
    /// would have to be written.
    ///
    /// # Errors
    /// [`Error::File`] when a file cannot be read.
    pub fn present(&self) -> Result<Option<Vec<Value>>, Error> {
        if !self.has_manifest() || self.standings()?.iter().any(|it| *it != Standing::Good) {
            return Ok(None);
        }
        self.introduce();
        let files = self.manifest.artifacts.iter();
        Ok(Some(files.map(|artifact| self.tell(artifact, &Outcome::present())).collect()))
    }

    /// Prints the name of the version.
    fn introduce(&self) {
        let Manifest { id, version, .. } = &**self.manifest;
        if !self.context.json {
            out!("{id} {version}, signed by {}", printable(self.manifest.key_id()));
        }
    }

    /// Prints the outcome for a file, and returns it as JSON.
    fn tell(&self, artifact: &Artifact, outcome: &Outcome) -> Value {
        if !self.context.json {
            out!("{}", outcome.line(artifact));
        }
        outcome.json(artifact)
    }

    /// Returns whether the folder's manifest names the same files with the same content.
    fn has_manifest(&self) -> bool {
        let files = |manifest: &Manifest| -> BTreeMap<String, String> {
            let files = manifest.artifacts.iter();
            files.map(|file| (file.filename.clone(), cid_text(&file.cid))).collect()
        };
        let text = fs::read_to_string(self.folder.join(MANIFEST)).unwrap_or_default();
        Manifest::parse(&text).is_ok_and(|there| files(&there) == files(self.manifest))
    }

    fn standings(&self) -> Result<Vec<Standing>, Error> {
        self.manifest.artifacts.iter().map(|artifact| self.standing(artifact)).collect()
    }

    fn standing(&self, artifact: &Artifact) -> Result<Standing, Error> {
        let path = self.folder.join(&artifact.filename);
        if path.is_file() {
            let good = self.is_good(artifact, &path)?;
            return Ok(if good { Standing::Good } else { Standing::Wrong });
        }
        let taken = fs::symlink_metadata(&path).is_ok() || self.is_blocked(artifact);
        Ok(if taken { Standing::Wrong } else { Standing::Missing })
    }

    /// Returns whether a link or a file stands where the file's folder has to be.
    fn is_blocked(&self, artifact: &Artifact) -> bool {
        let folders = Path::new(&artifact.filename).ancestors().skip(1);
        folders.map(|folder| self.folder.join(folder)).any(|folder| {
            // Without its last slash: a path that ends in one is that of the link's target.
            let folder = folder.components().as_path();
            fs::symlink_metadata(folder).is_ok_and(|metadata| !metadata.is_dir())
        })
    }

    /// Returns whether the version has to be put together in a folder of its own: if a file of
    /// another version would be replaced, or a link would be followed. A file that was damaged is
    /// repaired in its folder.
    fn needs_staging(&self, standings: &[Standing]) -> bool {
        let same = self.has_manifest();
        self.manifest.artifacts.iter().zip(standings).any(|(artifact, standing)| match standing {
            Standing::Good => false,
            Standing::Wrong => !same || self.is_blocked(artifact),
            Standing::Missing => self.is_blocked(artifact),
        })
    }

    /// Obtains a file in the folder `tree`: takes what is good of the existing one, fetches the
    /// rest, and then gives the file its name.
    fn obtain(
        &self,
        artifact: &Artifact,
        standing: Standing,
        tree: &Path,
    ) -> Result<Outcome, Error> {
        let (path, old) = (tree.join(&artifact.filename), self.folder.join(&artifact.filename));
        let parent = path.parent().unwrap_or(tree);
        fs::create_dir_all(parent).map_err(of_file(parent))?;
        if tree == self.folder {
            if standing == Standing::Good {
                return Ok(Outcome::present());
            }
        } else if (path.is_file() && self.is_good(artifact, &path)?)
            || (standing == Standing::Good && adopted(&old, &path))
        {
            return Ok(Outcome::present());
        }
        // Hidden, so that no artifact can have this name.
        let name = artifact.filename.rsplit('/').next().unwrap_or_default();
        let part = parent.join(format!(".{name}.part"));
        let donor = if old.is_file() { File::open(&old).ok() } else { None };
        let file = unfinished(&part, donor.as_ref()).map_err(of_file(&part))?;
        let outcome = if artifact.size > 0 {
            self.fetch(artifact, tree, Destination { file, donor, path: &part })?
        } else {
            if artifact.cid != Digest::of(&[]).to_cid(RAW) {
                return Err(Error::NotEmpty(artifact.filename.clone()));
            }
            file.set_len(0).map_err(of_file(&part))?;
            Outcome::present()
        };
        fs::rename(&part, &path).map_err(of_file(&path))?;
        Ok(outcome)
    }

    /// Completes a file that is not empty.
    fn fetch(
        &self,
        artifact: &Artifact,
        tree: &Path,
        destination: Destination<'_>,
    ) -> Result<Outcome, Error> {
        let table = self.leaf_table(artifact, tree)?;
        let locations = self.locations(artifact);
        let names = locations.iter().map(|location| location.name.clone()).collect();
        let mut progress = Progress {
            bar: self.context.bar("pulling", &artifact.filename, artifact.size),
            file: &artifact.filename,
            names,
            verbose: self.context.verbose,
            outcome: Outcome::present(),
        };
        delivery::complete(table, locations, self.config(), destination, &mut progress)?;
        progress.bar.finish_and_clear();
        Ok(progress.outcome)
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
    fn leaf_table(&self, artifact: &Artifact, tree: &Path) -> Result<LeafTable, Error> {
        let name = format!("{}.leaves", artifact.filename);
        let path = tree.join(&name);
        let verified = |path: &Path| {
            let table = fs::read(path).ok()?;
            LeafTable::verify(&table, artifact.size, &artifact.cid).ok()
        };
        if let Some(table) = verified(&path) {
            return Ok(table);
        }
        let table = match verified(&self.folder.join(name)) {
            Some(table) => table,
            None => self.places.leaf_table(self.manifest, artifact)?,
        };
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
        let lanes = if gateways { settings.ipfs_parallel.0.into() } else { defaults.lanes };
        Config {
            share: self.all,
            lanes,
            // Bytes need not arrive in order.
            near: lanes,
            attempts: u32::from(settings.cdn_retries) + 1,
            stall: timeout,
            seed: u64::from_ne_bytes(seed),
            ..defaults
        }
    }
}

/// Gives a good file a second name in the new folder, with its leaf table. It is not copied:
/// nothing ever writes into it.
fn adopted(old: &Path, new: &Path) -> bool {
    let leaves = |path: &Path| path.with_added_extension("leaves");
    let linked = |old: &Path, new: &Path| {
        let is_file = fs::symlink_metadata(old).is_ok_and(|metadata| metadata.is_file());
        is_file && fs::hard_link(old, new).is_ok()
    };
    // Left there by an earlier run.
    let _ = fs::remove_file(new);
    linked(old, new) && {
        linked(&leaves(old), &leaves(new));
        true
    }
}

/// Opens the file for the bytes of an artifact. An existing one is continued, unless it is a link
/// or has a second name: then it is not ours alone. A new one shares the blocks of `donor` if the
/// file system can do that.
fn unfinished(path: &Path, donor: Option<&File>) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.nlink() == 1 => return options.open(path),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = options.create_new(true).open(path)?;
    #[cfg(target_os = "linux")]
    if let Some(donor) = donor {
        // What cannot be shared is copied leaf by leaf.
        let _ = rustix::fs::ioctl_ficlone(&file, donor);
    }
    Ok(file)
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
