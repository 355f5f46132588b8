//! `publish`: signs files as a version of a model, and uploads them to a bucket, IPFS and
//! registries.
//!
//! Each step first checks whether it is done already. Repeating a command changes nothing, or
//! resumes after a failure.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use clap::Args;
use ed25519_dalek::SigningKey;
use edge_net_core::dag::cid::cid_text;
use edge_net_core::http::answer::{Freshness, media_type};
use edge_net_core::http::registry::content;
use edge_net_core::trust::manifest::Manifest;
use edge_net_core::trust::newest::is_newer;
use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest, sign};
use semver::Version;
use serde_json::{Map, Value, json};

use crate::bucket::{Bucket, BucketError, Generation, Object};
use crate::claim::{Claim, ClaimError};
use crate::context::Context;
use crate::credentials::{Credentials, Scope};
use crate::description::Description;
use crate::digest::Fingerprint;
use crate::document::{MANIFEST, string_member, text_of};
use crate::error::Error;
use crate::files::{of_file, replace};
use crate::http::{self, HttpError};
use crate::ipfs;
use crate::key::{Signer, public};
use crate::model::{self, Model, Piece};
use crate::registry::Registry;

/// `publish`
#[derive(Args)]
pub struct Publish {
    /// The model: an ONNX file, or a folder, also in the layout of the Hugging Face hub
    path: PathBuf,
    #[command(flatten)]
    description: Description,
    #[command(flatten)]
    signer: Signer,
    /// Bucket to upload to
    #[arg(long, default_value = "edge-net-models")]
    bucket: String,
    /// Endpoint of Google Cloud Storage
    #[arg(long, env = "STORAGE_EMULATOR_HOST", default_value = "https://storage.googleapis.com")]
    gcs_endpoint: String,
    /// kubo RPC of an IPFS node to add the files to; repeatable
    #[arg(long)]
    ipfs_api: Vec<String>,
    /// IPFS pinning service to pin the files with; its token is read from EDGE_NET_PINNING_TOKEN
    #[arg(long, value_name = "URL")]
    pinning_service: Vec<String>,
    /// Folder for CAR files of the model, for services that import those
    #[arg(long, value_name = "FOLDER")]
    car: Option<PathBuf>,
    /// URL of an edge worker whose registry gets the manifest; repeatable
    #[arg(long)]
    registry: Vec<String>,
    /// IPFS gateway to name in the manifest; repeatable
    #[arg(long)]
    ipfs_gateway: Vec<String>,
    /// Folder for a copy of the manifest and the leaf tables
    #[arg(long)]
    out: Option<PathBuf>,
    /// Upload nothing
    #[arg(long)]
    dry_run: bool,
    /// Publish a version that another publisher began to publish and gave up
    #[arg(long)]
    take_over: bool,
}

/// The number of times that a publication begins again because another one was faster.
const ATTEMPTS: u32 = 5;

/// The relation of a version to the one that is already in the bucket.
enum Standing {
    /// The version does not exist yet.
    New,
    /// The version exists with the same manifest.
    Same,
    /// The version exists and is signed again: with another expiry, endorsements or key. The
    /// manifest of this generation is replaced.
    Renewed(Generation),
}

impl Publish {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Published`] when the version exists with other content; any other variant that is
    /// not about downloads.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let key = self.signer.key(context)?;
        let Model { pieces, left_out } = model::read(&self.path, context)?;
        let credentials = if self.dry_run {
            Credentials::None
        } else {
            Credentials::of_environment(Scope::Objects)?
        };
        let bucket = Bucket::new(&self.gcs_endpoint, self.bucket.clone(), credentials);
        let mut document = self.description.document(&self.path, &pieces, context)?;
        let id = string_member(&document, "id").unwrap_or_default();
        let folder = format!("{id}/v{}", self.description.version);
        document.insert("distribution".into(), self.distribution(&bucket, &folder));
        if !left_out.is_empty() {
            context.note(&format!("left out: {}", left_out.join(", ")));
        }
        let target = Target { context, bucket: &bucket, folder: &folder };
        let job = Job { target, key, pieces: &pieces, id: &id };
        let mut attempts = 1;
        let text = loop {
            match self.attempt(&job, document.clone()) {
                Err(
                    Error::Bucket(BucketError::Changed(_))
                    | Error::Claim(ClaimError::Bucket(BucketError::Changed(_))),
                ) if attempts < ATTEMPTS => attempts += 1,
                text => break text?,
            }
        };
        out!("{text}");
        Ok(())
    }

    /// Publishes the version once, and returns its manifest.
    fn attempt(&self, job: &Job<'_>, mut document: Map<String, Value>) -> Result<String, Error> {
        let Job { target, key: (signing, key_id), pieces, id } = job;
        let version = &self.description.version;
        let keys = known_keys(target.context, key_id, signing)?;
        let sign = |document| Ok::<_, Error>(text_of(&sign(document, key_id, signing)?));
        let existing = if self.dry_run { None } else { target.existing(&keys)? };
        let (text, standing) = match existing {
            None => (sign(document.clone())?, Standing::New),
            Some((_, existing, _)) if content(existing.document()) != content(&document) => {
                return Err(self.published(id));
            }
            Some((_, existing, generation))
                if renew(&mut document, &existing) || existing.key_id() != key_id =>
            {
                (sign(document.clone())?, Standing::Renewed(generation))
            }
            Some((text, ..)) => (text, Standing::Same),
        };
        if let Some(folder) = &self.out {
            write_locally(folder, pieces, &text)?;
        }
        if let Some(folder) = &self.car {
            for Piece { filename, path, digests, .. } in *pieces {
                ipfs::write_car(path, digests, &folder.join(format!("{filename}.car")))?;
            }
        }
        if self.dry_run {
            return Ok(text);
        }
        let claim = match standing {
            Standing::New => Some(self.claim(target, &keys, &document)?),
            Standing::Same | Standing::Renewed(_) => {
                Claim::clear(target.bucket, target.folder)?;
                None
            }
        };
        target.upload(pieces)?;
        self.add_to_ipfs(target.context, pieces)?;
        target.announce(id, version, &text, &standing, &keys)?;
        claim.map_or(Ok(()), Claim::release)?;
        self.register(id, version, &text)?;
        Ok(text)
    }

    /// Claims a version that is new.
    fn claim<'a>(
        &self,
        target: &Target<'a>,
        keys: &PinnedKeys,
        document: &Map<String, Value>,
    ) -> Result<Claim<'a>, Error> {
        let claim = Claim::take(target.bucket, target.folder, &content(document), self.take_over)?;
        // Another publisher may have finished before the claim.
        if target.existing(keys)?.is_some() {
            claim.release()?;
            return Err(BucketError::Changed(target.folder.to_owned()).into());
        }
        Ok(claim)
    }

    fn published(&self, id: &str) -> Error {
        Error::Published { id: id.to_owned(), version: self.description.version.to_string() }
    }

    /// Builds the member `distribution` of the manifest.
    fn distribution(&self, bucket: &Bucket, folder: &str) -> Value {
        let base_url = format!("{}/{folder}/", bucket.base_url());
        let mut distribution = json!({ "primary": { "type": "gcs", "baseUrl": base_url } });
        if !self.ipfs_gateway.is_empty() {
            distribution["fallback"] = json!({ "type": "ipfs", "gateways": self.ipfs_gateway });
        }
        distribution
    }

    /// Adds the files to the IPFS nodes and pins them at the pinning services.
    fn add_to_ipfs(&self, context: &Context, pieces: &[Piece]) -> Result<(), Error> {
        let agent = http::agent();
        for Piece { filename, path, digests, .. } in pieces {
            let cid = cid_text(&digests.cid);
            for api in &self.ipfs_api {
                let bar = context.bar("adding to IPFS", filename, digests.size);
                ipfs::add(
                    &agent,
                    api,
                    filename,
                    bar.wrap_read(File::open(path).map_err(of_file(path))?),
                    digests.size,
                    &cid,
                )?;
                bar.finish_and_clear();
            }
            let token = env::var("EDGE_NET_PINNING_TOKEN").ok();
            for service in &self.pinning_service {
                let status = ipfs::pin(&agent, service, token.as_deref(), filename, &cid)?;
                context.note(&format!("{filename}: {status} at {service}"));
            }
        }
        Ok(())
    }

    /// Publishes the manifest in the registries. Status 409 is no error if the registry has this
    /// manifest already.
    fn register(&self, id: &str, version: &Version, text: &str) -> Result<(), Error> {
        for registry in self.registry.iter().map(|edge| Registry::new(edge)) {
            match registry.publish(text) {
                Err(HttpError::Status { status: 409, .. })
                    if registry.has(id, version, text)? => {}
                published => published?,
            }
        }
        Ok(())
    }
}

/// Compares expiry and endorsements with those of the existing manifest, and returns whether an
/// option changes them. Members without an option are copied from the existing manifest.
fn renew(document: &mut Map<String, Value>, existing: &VerifiedManifest) -> bool {
    let mut changed = false;
    for name in ["expires", "endorsements"] {
        match (document.get(name), existing.document().get(name)) {
            (Some(new), old) => changed |= Some(new) != old,
            (None, Some(old)) => drop(document.insert(name.into(), old.clone())),
            (None, None) => {}
        }
    }
    changed
}

/// Returns the signing key and the pinned keys: a replaced key may have signed an earlier version.
fn known_keys(context: &Context, key_id: &str, signing: &SigningKey) -> Result<PinnedKeys, Error> {
    let mut keys: BTreeMap<String, String> = context.settings()?.keys;
    keys.insert(key_id.to_owned(), public(signing));
    Ok(keys
        .into_iter()
        .try_fold(PinnedKeys::default(), |pinned, (id, key)| pinned.pin(id, &key))?)
}

/// A version to publish.
struct Job<'a> {
    target: Target<'a>,
    /// The key to sign with, and its name.
    key: (SigningKey, String),
    pieces: &'a [Piece],
    id: &'a str,
}

/// The folder of a version in a bucket.
struct Target<'a> {
    context: &'a Context,
    bucket: &'a Bucket,
    folder: &'a str,
}

impl Target<'_> {
    /// Reads the manifest of the version, as text and verified; `None` when the version is new.
    fn existing(
        &self,
        keys: &PinnedKeys,
    ) -> Result<Option<(String, VerifiedManifest, Generation)>, Error> {
        let object = format!("{}/{MANIFEST}", self.folder);
        let Some((text, generation)) = self.bucket.read(&object)? else { return Ok(None) };
        let manifest = VerifiedManifest::verify(&text, keys).map_err(|refusal| Error::Refused {
            path: format!("{}/{object}", self.bucket.base_url()),
            refusal,
        })?;
        Ok(Some((text, manifest, generation)))
    }

    /// Uploads the files and leaf tables whose fingerprint in the bucket is missing or different.
    fn upload(&self, pieces: &[Piece]) -> Result<(), Error> {
        for Piece { filename, path, digests, fingerprint, .. } in pieces {
            let name = format!("{}/{filename}", self.folder);
            self.bring(&name, *fingerprint, media_type(filename), || {
                let bar = self.context.bar("uploading", filename, digests.size);
                Ok(bar.wrap_read(File::open(path).map_err(of_file(path))?))
            })?;
            let table: Vec<u8> = digests.leaves.iter().flat_map(|leaf| leaf.0).collect();
            let (name, fingerprint) = (format!("{name}.leaves"), Fingerprint::of(&table));
            self.bring(&name, fingerprint, "application/octet-stream", || Ok(Cursor::new(table)))?;
        }
        Ok(())
    }

    /// Writes an object of the version, unless the bucket has it.
    fn bring<R: Read + Seek>(
        &self,
        name: &str,
        fingerprint: Fingerprint,
        media_type: &str,
        content: impl FnOnce() -> Result<R, Error>,
    ) -> Result<(), Error> {
        let stored = self.bucket.stored(name)?;
        let (stored, over) = stored.unwrap_or_else(|| (None, Generation::none()));
        if stored == Some(fingerprint) {
            return Ok(());
        }
        let cache_control = Freshness::Immutable.cache_control();
        let object = Object { name, fingerprint, media_type, cache_control, over: &over };
        Ok(self.bucket.write(&object, content()?)?)
    }

    /// Writes the manifest of the version, then the one of the newest version. Files come first, so
    /// that no reader sees a manifest without its files.
    fn announce(
        &self,
        id: &str,
        version: &Version,
        text: &str,
        standing: &Standing,
        keys: &PinnedKeys,
    ) -> Result<(), Error> {
        let write = |name: &str, freshness: Freshness, over: &Generation| {
            let object = Object {
                name,
                fingerprint: Fingerprint::of(text.as_bytes()),
                media_type: "application/json",
                cache_control: freshness.cache_control(),
                over,
            };
            self.bucket.write(&object, Cursor::new(text))
        };
        let own = format!("{}/{MANIFEST}", self.folder);
        match standing {
            Standing::Same => {}
            Standing::New => write(&own, Freshness::Immutable, &Generation::none())?,
            Standing::Renewed(generation) => write(&own, Freshness::Immutable, generation)?,
        }
        let (newest, ours) = (format!("{id}/{MANIFEST}"), Manifest::parse(text)?);
        for _ in 0..ATTEMPTS {
            let over = match self.bucket.read(&newest)? {
                None => Generation::none(),
                Some((current, _)) if current == text => return Ok(()),
                // A newer version stays the newest, and so does a later signature. A manifest that
                // does not verify is replaced.
                Some((current, generation)) => match VerifiedManifest::verify(&current, keys) {
                    Ok(newest)
                        if is_newer(&newest.version, version)
                            || (newest.version == *version
                                && newest.timestamp > ours.timestamp) =>
                    {
                        return Ok(());
                    }
                    _ => generation,
                },
            };
            match write(&newest, Freshness::Latest, &over) {
                // Another publisher was faster. Compare with its version.
                Err(BucketError::Changed(_)) => {}
                written => return Ok(written?),
            }
        }
        Err(BucketError::Changed(newest).into())
    }
}

/// Writes the manifest and the leaf tables into a folder.
fn write_locally(folder: &Path, pieces: &[Piece], text: &str) -> Result<(), Error> {
    for piece in pieces {
        let table: Vec<u8> = piece.digests.leaves.iter().flat_map(|leaf| leaf.0).collect();
        replace(&folder.join(format!("{}.leaves", piece.filename)), &table)?;
    }
    Manifest::parse(text)?;
    Ok(replace(&folder.join(MANIFEST), format!("{text}\n").as_bytes())?)
}
