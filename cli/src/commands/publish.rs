//! `publish`: signs files as a version of a model, and uploads them to a bucket, IPFS and
//! registries.
//!
//! Each step first checks whether it is done already. Repeating a command changes nothing, or
//! resumes after a failure.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
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

use crate::bucket::Bucket;
use crate::context::Context;
use crate::credentials::Credentials;
use crate::description::Description;
use crate::digest::Fingerprint;
use crate::document::{MANIFEST, string_member, text_of};
use crate::error::Error;
use crate::files::{of_file, replace};
use crate::http::{self, HttpError};
use crate::ipfs;
use crate::key::{Signer, public};
use crate::model::{self, Piece};
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
}

/// The relation of a version to the one that is already in the bucket.
enum Standing {
    /// The version does not exist yet.
    New,
    /// The version exists with the same manifest.
    Same,
    /// The version exists and is signed again: with another expiry, endorsements or key.
    Renewed,
}

impl Publish {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Published`] when the version exists with other content; any other variant that is
    /// not about downloads.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (signing, key_id) = self.signer.key(context)?;
        let pieces = model::read(&self.path, context)?;
        let credentials =
            if self.dry_run { Credentials::None } else { Credentials::of_environment()? };
        let bucket = Bucket::new(&self.gcs_endpoint, self.bucket.clone(), credentials);
        let mut document = self.description.document(&self.path, &pieces)?;
        let id = string_member(&document, "id").unwrap_or_default();
        let version = &self.description.version;
        let folder = format!("{id}/v{version}");
        document.insert("distribution".into(), self.distribution(&bucket, &folder));

        let keys = known_keys(context, &key_id, &signing)?;
        let target = Target { context, bucket: &bucket, folder: &folder };
        let existing = if self.dry_run { None } else { target.existing(&keys)? };
        let (text, standing) = match existing {
            None => (text_of(&sign(document, &key_id, &signing)?), Standing::New),
            Some((_, existing)) if content(existing.document()) != content(&document) => {
                return Err(Error::Published { id, version: version.to_string() });
            }
            Some((_, existing))
                if renew(&mut document, &existing) || existing.key_id() != key_id =>
            {
                (text_of(&sign(document, &key_id, &signing)?), Standing::Renewed)
            }
            Some((text, _)) => (text, Standing::Same),
        };
        if let Some(folder) = &self.out {
            write_locally(folder, &pieces, &text)?;
        }
        if let Some(folder) = &self.car {
            for Piece { filename, path, digests, .. } in &pieces {
                ipfs::write_car(path, digests, &folder.join(format!("{filename}.car")))?;
            }
        }
        if !self.dry_run {
            target.upload(&pieces)?;
            self.add_to_ipfs(context, &pieces)?;
            target.announce(&id, version, &text, &standing, &keys)?;
            self.register(&id, version, &text)?;
        }
        out!("{text}");
        Ok(())
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

/// The folder of a version in a bucket.
struct Target<'a> {
    context: &'a Context,
    bucket: &'a Bucket,
    folder: &'a str,
}

impl Target<'_> {
    /// Reads the manifest of the version, as text and verified; `None` when the version is new.
    fn existing(&self, keys: &PinnedKeys) -> Result<Option<(String, VerifiedManifest)>, Error> {
        let object = format!("{}/{MANIFEST}", self.folder);
        let Some(text) = self.bucket.read(&object)? else { return Ok(None) };
        let manifest = VerifiedManifest::verify(&text, keys).map_err(|refusal| Error::Refused {
            path: format!("{}/{object}", self.bucket.base_url()),
            refusal,
        })?;
        Ok(Some((text, manifest)))
    }

    /// Uploads the files and leaf tables whose fingerprint in the bucket is missing or different.
    fn upload(&self, pieces: &[Piece]) -> Result<(), Error> {
        let immutable = Freshness::Immutable.cache_control();
        for Piece { filename, path, digests, fingerprint, .. } in pieces {
            let object = format!("{}/{filename}", self.folder);
            if self.bucket.stored(&object)? != Some(*fingerprint) {
                let bar = self.context.bar("uploading", filename, digests.size);
                let file = File::open(path).map_err(of_file(path))?;
                self.bucket.write(
                    &object,
                    bar.wrap_read(file),
                    *fingerprint,
                    media_type(filename),
                    immutable,
                )?;
                bar.finish_and_clear();
            }
            let table: Vec<u8> = digests.leaves.iter().flat_map(|leaf| leaf.0).collect();
            let object = format!("{object}.leaves");
            if self.bucket.stored(&object)? != Some(Fingerprint::of(&table)) {
                self.bucket.write(
                    &object,
                    &*table,
                    Fingerprint::of(&table),
                    "application/octet-stream",
                    immutable,
                )?;
            }
        }
        Ok(())
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
        let write = |object: &str, freshness: Freshness| {
            let fingerprint = Fingerprint::of(text.as_bytes());
            self.bucket.write(
                object,
                text.as_bytes(),
                fingerprint,
                "application/json",
                freshness.cache_control(),
            )
        };
        match standing {
            Standing::Same => {}
            Standing::New | Standing::Renewed => {
                write(&format!("{}/{MANIFEST}", self.folder), Freshness::Immutable)?;
            }
        }
        let newest = format!("{id}/{MANIFEST}");
        match self.bucket.read(&newest)? {
            Some(current) if current == text => Ok(()),
            // A newer version stays the newest. A manifest that does not verify is replaced.
            Some(current)
                if VerifiedManifest::verify(&current, keys)
                    .is_ok_and(|newest| is_newer(&newest.version, version)) =>
            {
                Ok(())
            }
            _ => Ok(write(&newest, Freshness::Latest)?),
        }
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
