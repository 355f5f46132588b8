//! `publish`: a folder of files becomes a signed version of a model, in a bucket and on IPFS.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use edge_net_core::dag::{FileDigests, PROFILE, cid_text};
use edge_net_core::http::{Freshness, media_type};
use edge_net_core::manifest::{Manifest, is_filename};
use edge_net_core::signature::{PinnedKeys, VerifiedManifest, sign};
use indicatif::{ProgressBar, ProgressStyle};
use semver::Version;
use serde_json::{Map, Value, json};

use crate::bucket::Bucket;
use crate::digest::Fingerprint;
use crate::error::{Error, of_file};
use crate::registry::Registry;
use crate::{digest, ipfs, key, upload};

/// Names the schema in manifests.
const SCHEMA: &str = "https://edge-net.ruvector.dev/schemas/model-manifest-v1.json";

/// `publish`
#[derive(Args)]
pub struct Publish {
    /// Folder of the model's files
    folder: PathBuf,
    /// Identifier of the model, used in URLs
    #[arg(long)]
    id: String,
    /// Version, such as 1.0.0; a published version never changes
    #[arg(long)]
    version: Version,
    /// What the model does: text-generation, embedding, vision
    #[arg(long = "type")]
    kind: String,
    /// Name for people; the identifier if not given
    #[arg(long)]
    name: Option<String>,
    /// Licence, an SPDX expression
    #[arg(long)]
    license: Option<String>,
    /// Private key, PKCS#8 PEM
    #[arg(long)]
    key: PathBuf,
    /// Name of the key
    #[arg(long)]
    key_id: String,
    /// Bucket to upload to
    #[arg(long, default_value = "edge-net-models")]
    bucket: String,
    /// Endpoint of Google Cloud Storage
    #[arg(long, env = "STORAGE_EMULATOR_HOST", default_value = "https://storage.googleapis.com")]
    gcs_endpoint: String,
    /// kubo RPC of an IPFS node to add the files to; may be given several times
    #[arg(long)]
    ipfs_api: Vec<String>,
    /// URL of an edge worker to publish the manifest to as well; may be given several times
    #[arg(long)]
    registry: Vec<String>,
    /// IPFS gateway to name in the manifest; may be given several times
    #[arg(long)]
    ipfs_gateway: Vec<String>,
    /// Also write manifest and leaf tables into this folder
    #[arg(long)]
    out: Option<PathBuf>,
    /// Time of signing, RFC 3339 in UTC; now if not given
    #[arg(long)]
    timestamp: Option<String>,
    /// When clients stop accepting it as the newest, RFC 3339 in UTC; it has to be published again before that
    #[arg(long)]
    expires: Option<String>,
    /// What `endorse` printed when the key was replaced, the oldest first; may be given several times
    #[arg(long)]
    endorsement: Vec<String>,
    /// Upload nothing
    #[arg(long)]
    dry_run: bool,
}

/// A file to publish.
struct Piece {
    role: String,
    filename: String,
    path: PathBuf,
    digests: FileDigests,
    fingerprint: Fingerprint,
}

impl Publish {
    /// Publishes.
    pub fn run(self) -> Result<(), Error> {
        let signing = key::read(&self.key)?;
        let pieces = read_folder(&self.folder)?;
        let bucket = Bucket::new(&self.gcs_endpoint, self.bucket.clone());
        let keys = PinnedKeys::default().pin(self.key_id.clone(), &key::public(&signing))?;
        let document = self.document(&pieces, &bucket);
        let in_bucket = format!("{}/v{}", self.id, self.version);
        let existing = if self.dry_run { None } else { bucket.read(&format!("{in_bucket}/manifest.json"))? };
        let (text, existed) = match existing {
            None => (text_of(&sign(document, &self.key_id, &signing)?), false),
            Some(text) => {
                let path = format!("{}/{in_bucket}/manifest.json", bucket.base_url());
                let existing = VerifiedManifest::verify(&text, &keys).map_err(|refusal| Error::Refused { path, refusal })?;
                if content(existing.document()) != content(&document) {
                    return Err(Error::Published { id: self.id, version: self.version.to_string() });
                }
                (text, true)
            }
        };
        if let Some(folder) = &self.out {
            write_locally(folder, &pieces, &text)?;
        }
        if !self.dry_run {
            self.upload(&bucket, &in_bucket, &pieces, &text, &keys, existed)?;
            self.register(&text)?;
        }
        println!("{text}");
        Ok(())
    }

    /// Artifacts first and the newest manifest last: no reader sees a manifest before its files.
    fn upload(
        &self,
        bucket: &Bucket,
        in_bucket: &str,
        pieces: &[Piece],
        text: &str,
        keys: &PinnedKeys,
        existed: bool,
    ) -> Result<(), Error> {
        let immutable = Freshness::Immutable.cache_control();
        let agent = upload::agent();
        for Piece { filename, path, digests, fingerprint, .. } in pieces {
            let object = format!("{in_bucket}/{filename}");
            let (bar, open) = (progress("uploading", filename, digests.size), || File::open(path).map_err(of_file(path)));
            // Where a manifest says so the object was whole once; its checksum tells whether it still is.
            if !existed || bucket.stored(&object)? != Some(*fingerprint) {
                bucket.write(&object, bar.wrap_read(open()?), *fingerprint, media_type(filename), immutable)?;
            }
            let table: Vec<u8> = digests.leaves.iter().flat_map(|leaf| leaf.0).collect();
            let object = format!("{object}.leaves");
            if !existed || bucket.stored(&object)? != Some(Fingerprint::of(&table)) {
                bucket.write(&object, &*table, Fingerprint::of(&table), "application/octet-stream", immutable)?;
            }
            for api in &self.ipfs_api {
                ipfs::add(&agent, api, filename, open()?, digests.size, &cid_text(&digests.cid))?;
            }
            bar.finish_and_clear();
        }
        let write = |object: &str, freshness: Freshness| {
            bucket.write(object, text.as_bytes(), Fingerprint::of(text.as_bytes()), "application/json", freshness.cache_control())
        };
        if !existed {
            write(&format!("{in_bucket}/manifest.json"), Freshness::Immutable)?;
        }
        let newest = format!("{}/manifest.json", self.id);
        match bucket.read(&newest)? {
            Some(current) if current == text => Ok(()),
            // What does not verify is replaced; what is newer stays.
            Some(current) if VerifiedManifest::verify(&current, keys).is_ok_and(|newest| newest.version > self.version) => Ok(()),
            _ => write(&newest, Freshness::Latest),
        }
    }

    /// Tells the registries. One that has this very manifest refuses it, and all is well.
    fn register(&self, text: &str) -> Result<(), Error> {
        for registry in self.registry.iter().map(|edge| Registry::new(edge)) {
            match registry.publish(text) {
                Err(Error::Status { status: 409, .. }) if registry.has(&self.id, &self.version, text)? => {}
                published => published?,
            }
        }
        Ok(())
    }

    fn document(&self, pieces: &[Piece], bucket: &Bucket) -> Map<String, Value> {
        let artifact = |piece: &Piece| {
            let value = json!({
                "filename": piece.filename, "size": piece.digests.size, "sha256": piece.digests.sha256.to_hex(),
                "cid": cid_text(&piece.digests.cid), "profile": PROFILE,
            });
            (piece.role.clone(), value)
        };
        let artifacts: Map<String, Value> = pieces.iter().map(artifact).collect();
        let base = format!("{}/{}/v{}/", bucket.base_url(), self.id, self.version);
        let mut distribution = json!({ "primary": { "type": "gcs", "baseUrl": base } });
        if !self.ipfs_gateway.is_empty() {
            distribution["fallback"] = json!({ "type": "ipfs", "gateways": self.ipfs_gateway });
        }
        let now = || humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut document = Map::new();
        let mut put = |name: &str, value: Value| drop(document.insert(name.into(), value));
        put("$schema", SCHEMA.into());
        put("id", self.id.clone().into());
        put("name", self.name.clone().unwrap_or_else(|| self.id.clone()).into());
        put("version", self.version.to_string().into());
        put("type", self.kind.clone().into());
        put("artifacts", artifacts.into());
        put("distribution", distribution);
        put("timestamp", self.timestamp.clone().unwrap_or_else(now).into());
        if let Some(expires) = &self.expires {
            put("expires", expires.clone().into());
        }
        // What is not JSON is kept as a text, and refused when the manifest is signed.
        let endorsements = self.endorsement.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()));
        let endorsements: Vec<Value> = endorsements.collect();
        if !endorsements.is_empty() {
            put("endorsements", endorsements.into());
        }
        if let Some(license) = &self.license {
            put("license", license.clone().into());
        }
        if let Some(architecture) = architecture(pieces) {
            put("architecture", architecture);
        }
        document
    }
}

/// What the manifest says of the model: all but when and by whom it was signed.
fn content(document: &Map<String, Value>) -> Map<String, Value> {
    let mut content = document.clone();
    content.remove("timestamp");
    content.remove("signature");
    content
}

/// A manifest as it is published.
pub fn text_of(document: &Map<String, Value>) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

/// Hashes every file below a folder.
fn read_folder(folder: &Path) -> Result<Vec<Piece>, Error> {
    let mut pieces: BTreeMap<String, Piece> = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(of_file(&next))? {
            let path = entry.map_err(of_file(&next))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    for path in files {
        let filename = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        // What an earlier --out left here is no part of the model.
        if filename == "manifest.json" || filename.ends_with(".leaves") {
            continue;
        }
        if !is_filename(&filename) {
            return Err(Error::BadFilename(path));
        }
        let mut role = role_of(&filename).to_owned();
        if role.is_empty() || pieces.contains_key(&role) {
            role = filename.replace(['/', '.'], "-");
        }
        let length = fs::metadata(&path).map_err(of_file(&path))?.len();
        let bar = progress("hashing", &filename, length);
        let (digests, fingerprint) = digest::file_and_fingerprint(&path, |read| bar.inc(read))?;
        bar.finish_and_clear();
        pieces.insert(role.clone(), Piece { role, filename, path, digests, fingerprint });
    }
    if pieces.is_empty() {
        return Err(Error::NoFiles(folder.to_owned()));
    }
    Ok(pieces.into_values().collect())
}

/// The role a file has by its name; empty if none.
fn role_of(filename: &str) -> &str {
    match filename.rsplit('/').next().unwrap_or_default() {
        "tokenizer.json" => "tokenizer",
        "config.json" => "config",
        name => match name.rsplit_once('.') {
            Some((_, "onnx" | "gguf" | "safetensors")) => "model",
            Some((stem, "txt" | "json")) => stem,
            _ => "",
        },
    }
}

/// What a Hugging Face `config.json` tells of the architecture.
fn architecture(pieces: &[Piece]) -> Option<Value> {
    let config = pieces.iter().find(|piece| piece.role == "config")?;
    let config: Value = serde_json::from_slice(&fs::read(&config.path).ok()?).ok()?;
    let names = [
        ("type", "model_type"),
        ("layers", "num_hidden_layers"),
        ("hiddenSize", "hidden_size"),
        ("vocabSize", "vocab_size"),
        ("contextLength", "max_position_embeddings"),
    ];
    let told: Map<String, Value> =
        names.iter().filter_map(|(ours, theirs)| Some(((*ours).to_owned(), config.get(theirs)?.clone()))).collect();
    (!told.is_empty()).then(|| told.into())
}

/// Writes manifest and leaf tables, each whole or not at all.
fn write_locally(folder: &Path, pieces: &[Piece], text: &str) -> Result<(), Error> {
    let write = |name: &str, content: &[u8]| -> Result<(), Error> {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(of_file(parent))?;
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(of_file(parent))?;
        file.write_all(content).map_err(of_file(&path))?;
        file.persist(&path).map_err(|error| of_file(&path)(error.error))?;
        Ok(())
    };
    for piece in pieces {
        let table: Vec<u8> = piece.digests.leaves.iter().flat_map(|leaf| leaf.0).collect();
        write(&format!("{}.leaves", piece.filename), &table)?;
    }
    Manifest::parse(text)?;
    write("manifest.json", format!("{text}\n").as_bytes())
}

/// A bar on standard error, if that is a terminal.
fn progress(what: &'static str, file: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(length).with_prefix(what).with_message(file.to_owned());
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}
