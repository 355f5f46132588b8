//! `publish`: a model's files become a signed version of it, in a bucket, on IPFS and in registries.
//!
//! Every step finds out first whether it was done, so the same command again changes nothing, and goes on after one that failed.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use ed25519_dalek::SigningKey;
use edge_net_core::dag::unixfs::cid_text;
use edge_net_core::http::answer::{Freshness, media_type};
use edge_net_core::http::registry::content;
use edge_net_core::trust::manifest::{Manifest, is_id};
use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest, sign};
use semver::Version;
use serde_json::{Map, Value, json};

use crate::bucket::Bucket;
use crate::cache::MANIFEST;
use crate::credentials::Credentials;
use crate::digest::Fingerprint;
use crate::error::{Error, of_file};
use crate::files::replace;
use crate::key::Signer;
use crate::model::{self, Piece, Told};
use crate::registry::Registry;
use crate::terminal::bar;
use crate::{Context, http, ipfs, key};

/// Names the schema in manifests.
const SCHEMA: &str = "https://edge-net.ruvector.dev/schemas/model-manifest-v1.json";

/// `publish`
#[derive(Args)]
pub struct Publish {
    /// The model: an ONNX file, or a folder of files, also as the Hugging Face hub has it
    path: PathBuf,
    /// What is said of it
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
    /// kubo RPC of an IPFS node to add the files to; may be given several times
    #[arg(long)]
    ipfs_api: Vec<String>,
    /// IPFS pinning service to pin the files with; the secret is in EDGE_NET_PINNING_TOKEN
    #[arg(long, value_name = "URL")]
    pinning_service: Vec<String>,
    /// Folder to write the files' DAGs into, as CARs, for services that take those
    #[arg(long, value_name = "FOLDER")]
    car: Option<PathBuf>,
    /// URL of an edge worker to publish the manifest to as well; may be given several times
    #[arg(long)]
    registry: Vec<String>,
    /// IPFS gateway to name in the manifest; may be given several times
    #[arg(long)]
    ipfs_gateway: Vec<String>,
    /// Also write manifest and leaf tables into this folder
    #[arg(long)]
    out: Option<PathBuf>,
    /// Upload nothing
    #[arg(long)]
    dry_run: bool,
}

/// What a publisher says of a version, besides what its files tell.
#[derive(Args)]
pub struct Description {
    /// Identifier of the model, used in URLs; made of its name, or of that of the file or folder, if not given
    #[arg(long)]
    pub id: Option<String>,
    /// Version, such as 1.0.0; a published version never changes
    #[arg(long, default_value = "1.0.0")]
    pub version: Version,
    /// What the model does: text-generation, embedding, vision; as its files tell, if not given
    #[arg(long = "type")]
    pub kind: Option<String>,
    /// Name for people; the identifier if not given
    #[arg(long)]
    pub name: Option<String>,
    /// Licence, an SPDX expression; as its files tell, if not given
    #[arg(long)]
    pub license: Option<String>,
    /// A JSON file of further members of the manifest, such as requirements, benchmarks, family, homepage
    #[arg(long, value_name = "FILE")]
    pub describe: Option<PathBuf>,
    #[command(flatten)]
    pub term: Term,
}

/// When a manifest is signed, for how long, and after whom.
#[derive(Args, Default)]
pub struct Term {
    /// Time of signing, RFC 3339 in UTC; now if not given
    #[arg(long)]
    timestamp: Option<String>,
    /// When clients stop accepting it as the newest, RFC 3339 in UTC; it has to be published again before that
    #[arg(long)]
    expires: Option<String>,
    /// What `endorse` printed when the key was replaced, the oldest first; may be given several times
    #[arg(long)]
    endorsement: Vec<String>,
}

impl Term {
    /// Writes it into a manifest; what is not said stays as it is there, but for the time of signing.
    pub fn write(&self, document: &mut Map<String, Value>) {
        let now = || humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        document.insert("timestamp".into(), self.timestamp.clone().unwrap_or_else(now).into());
        if let Some(expires) = &self.expires {
            document.insert("expires".into(), expires.clone().into());
        }
        // What is not JSON is kept as a text, and refused when the manifest is signed.
        let endorsements = self
            .endorsement
            .iter()
            .map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()));
        let endorsements: Vec<Value> = endorsements.collect();
        if !endorsements.is_empty() {
            document.insert("endorsements".into(), endorsements.into());
        }
    }
}

/// Members of a manifest that no description gives: they are what the files are, or who signs.
const OURS: [&str; 8] =
    ["$schema", "id", "version", "artifacts", "timestamp", "expires", "endorsements", "signature"];

impl Description {
    /// The manifest of files at `path`, without a signature.
    pub fn document(&self, path: &Path, pieces: &[Piece]) -> Result<Map<String, Value>, Error> {
        let told = Told::of(pieces);
        let mut document = match &self.describe {
            Some(file) => described(file)?,
            None => Map::new(),
        };
        let id = match &self.id {
            Some(id) => id.clone(),
            None => slug(self.name.as_deref(), path)?,
        };
        let kind = self
            .kind
            .clone()
            .or_else(|| told.kind.map(str::to_owned))
            .or_else(|| member(&document, "type"));
        let kind = kind.ok_or_else(|| Error::NoType(path.to_owned()))?;
        let name =
            self.name.clone().or_else(|| member(&document, "name")).unwrap_or_else(|| id.clone());
        let license =
            self.license.clone().or_else(|| member(&document, "license")).or(told.license);

        let mut put = |name: &str, value: Value| drop(document.insert(name.into(), value));
        put("$schema", SCHEMA.into());
        put("id", id.into());
        put("name", name.into());
        put("version", self.version.to_string().into());
        put("type", kind.into());
        put("artifacts", model::artifacts(pieces));
        if let Some(license) = license {
            put("license", license.into());
        }
        self.term.write(&mut document);
        // What a description says of the same goes before what files tell.
        let mut beside = |name: &str, told: Map<String, Value>| {
            if let Value::Object(said) = document.entry(name).or_insert_with(|| Map::new().into()) {
                for (member, value) in told {
                    said.entry(member).or_insert(value);
                }
                if said.is_empty() {
                    document.remove(name);
                }
            }
        };
        beside("architecture", told.architecture);
        beside(
            "optimization",
            told.quantization
                .map(|name| ("quantization".to_owned(), name.into()))
                .into_iter()
                .collect(),
        );
        Ok(document)
    }
}

fn member(document: &Map<String, Value>, name: &str) -> Option<String> {
    document.get(name)?.as_str().map(str::to_owned)
}

fn described(path: &Path) -> Result<Map<String, Value>, Error> {
    let text = fs::read_to_string(path).map_err(of_file(path))?;
    let bad = |problem: String| Error::BadDescription { path: path.to_owned(), problem };
    let members: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| bad(format!("it is no JSON object: {error}")))?;
    match members.keys().find(|name| OURS.contains(&name.as_str())) {
        Some(name) => Err(bad(format!("{name} is not said there: options and files say it"))),
        None => Ok(members),
    }
}

/// An identifier made of a name.
fn slug(name: Option<&str>, path: &Path) -> Result<String, Error> {
    let stem = || {
        // `.` and the like have a name, too.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
        stem.unwrap_or_default().to_string_lossy().into_owned()
    };
    let name = name.map_or_else(stem, str::to_owned);
    let allowed = |character: char| {
        if character.is_ascii_alphanumeric() || "._".contains(character) { character } else { '-' }
    };
    let id: String = name.to_ascii_lowercase().chars().map(allowed).collect();
    let id = id.trim_matches(['-', '.', '_']).to_owned();
    if is_id(&id) { Ok(id) } else { Err(Error::NoId(name)) }
}

/// How what is published stands to what was published before.
enum Standing {
    /// The version is new.
    New,
    /// It is there, as it is.
    Same,
    /// It is there, and is signed again: for a longer time, or with endorsements.
    Renewed,
}

impl Publish {
    /// Publishes.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (signing, key_id) = self.signer.key(context)?;
        let pieces = model::read(&self.path, context)?;
        let credentials =
            if self.dry_run { Credentials::None } else { Credentials::of_environment()? };
        let bucket = Bucket::new(&self.gcs_endpoint, self.bucket.clone(), credentials);
        let mut document = self.description.document(&self.path, &pieces)?;
        let (id, version) =
            (member(&document, "id").unwrap_or_default(), self.description.version.clone());
        let in_bucket = format!("{id}/v{version}");
        let mut distribution = json!({ "primary": { "type": "gcs", "baseUrl": format!("{}/{in_bucket}/", bucket.base_url()) } });
        if !self.ipfs_gateway.is_empty() {
            distribution["fallback"] = json!({ "type": "ipfs", "gateways": self.ipfs_gateway });
        }
        document.insert("distribution".into(), distribution);

        let keys = known_keys(context, &key_id, &signing)?;
        let existing =
            if self.dry_run { None } else { bucket.read(&format!("{in_bucket}/{MANIFEST}"))? };
        let (text, standing) = match existing {
            None => (text_of(&sign(document, &key_id, &signing)?), Standing::New),
            Some(text) => {
                let path = format!("{}/{in_bucket}/{MANIFEST}", bucket.base_url());
                let existing = VerifiedManifest::verify(&text, &keys)
                    .map_err(|refusal| Error::Refused { path, refusal })?;
                if content(existing.document()) != content(&document) {
                    return Err(Error::Published { id, version: version.to_string() });
                }
                // What is not said stays as it is.
                let renewed = ["expires", "endorsements"].iter().any(|name| {
                    document
                        .get(*name)
                        .is_some_and(|value| existing.document().get(*name) != Some(value))
                });
                if renewed || existing.key_id() != key_id {
                    for name in ["expires", "endorsements"] {
                        if let (None, Some(value)) =
                            (document.get(name), existing.document().get(name))
                        {
                            document.insert(name.into(), value.clone());
                        }
                    }
                    (text_of(&sign(document, &key_id, &signing)?), Standing::Renewed)
                } else {
                    (text, Standing::Same)
                }
            }
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
            let target = Target { context, bucket: &bucket, folder: &in_bucket };
            target.upload(&pieces)?;
            self.add_to_ipfs(context, &pieces)?;
            target.announce(&id, &version, &text, &standing, &keys)?;
            self.register(&id, &version, &text)?;
        }
        out!("{text}");
        Ok(())
    }

    fn add_to_ipfs(&self, context: &Context, pieces: &[Piece]) -> Result<(), Error> {
        let agent = http::agent();
        for Piece { filename, path, digests, .. } in pieces {
            let cid = cid_text(&digests.cid);
            for api in &self.ipfs_api {
                let bar = bar(context, "adding to IPFS", filename, digests.size);
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

    /// Tells the registries. One that has this very manifest refuses it, and all is well.
    fn register(&self, id: &str, version: &Version, text: &str) -> Result<(), Error> {
        for registry in self.registry.iter().map(|edge| Registry::new(edge)) {
            match registry.publish(text) {
                Err(Error::Status { status: 409, .. }) if registry.has(id, version, text)? => {}
                published => published?,
            }
        }
        Ok(())
    }
}

/// The key that signs, and the pinned ones: a version may have been signed by one that was replaced.
fn known_keys(context: &Context, key_id: &str, signing: &SigningKey) -> Result<PinnedKeys, Error> {
    let mut keys: BTreeMap<String, String> = context.settings()?.keys;
    keys.insert(key_id.to_owned(), key::public(signing));
    Ok(keys
        .into_iter()
        .try_fold(PinnedKeys::default(), |pinned, (id, key)| pinned.pin(id, &key))?)
}

/// A version's place in a bucket.
struct Target<'a> {
    context: &'a Context,
    bucket: &'a Bucket,
    folder: &'a str,
}

impl Target<'_> {
    /// Uploads files and leaf tables that are not there. The checksum that the bucket tells says whether they are.
    fn upload(&self, pieces: &[Piece]) -> Result<(), Error> {
        let immutable = Freshness::Immutable.cache_control();
        for Piece { filename, path, digests, fingerprint, .. } in pieces {
            let object = format!("{}/{filename}", self.folder);
            if self.bucket.stored(&object)? != Some(*fingerprint) {
                let bar = bar(self.context, "uploading", filename, digests.size);
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

    /// Writes the manifests, the newest one last: no reader sees a manifest before its files.
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
                write(&format!("{}/{MANIFEST}", self.folder), Freshness::Immutable)?
            }
        }
        let newest = format!("{id}/{MANIFEST}");
        match self.bucket.read(&newest)? {
            Some(current) if current == text => Ok(()),
            // What does not verify is replaced; what is newer stays.
            Some(current)
                if VerifiedManifest::verify(&current, keys)
                    .is_ok_and(|newest| newest.version > *version) =>
            {
                Ok(())
            }
            _ => write(&newest, Freshness::Latest),
        }
    }
}

/// A manifest as it is published.
pub fn text_of(document: &Map<String, Value>) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

/// Writes manifest and leaf tables, each whole or not at all.
fn write_locally(folder: &Path, pieces: &[Piece], text: &str) -> Result<(), Error> {
    for piece in pieces {
        let table: Vec<u8> = piece.digests.leaves.iter().flat_map(|leaf| leaf.0).collect();
        replace(&folder.join(format!("{}.leaves", piece.filename)), &table)?;
    }
    Manifest::parse(text)?;
    replace(&folder.join(MANIFEST), format!("{text}\n").as_bytes())
}
