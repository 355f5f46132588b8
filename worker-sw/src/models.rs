//! Answers below the configured path, from cache, edge, bucket or gateway.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::cid_text;
use edge_net_core::download;
use edge_net_core::http::{self as semantics, ModelPath, PROBLEM_JSON, Resource};
use edge_net_core::manifest::{Artifact, Manifest};
use edge_net_core::verify::LeafTable;
use edge_net_driver::into_stream;
use edge_net_driver::lookup::{self, Accepted, NoManifest};
use edge_net_driver::session::{Location, Session};
use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use js_sys::{Array, Function, Object, Reflect};
use semver::Version;
use wasm_bindgen::prelude::*;
use web_sys::{Headers, Request, Response, ResponseInit};

use crate::config::Config;
use crate::index::Index;
use crate::reports::{self, Teller, number, object};
use crate::segments::{self, Segments};

/// How long the newest manifest is taken for the newest, in milliseconds.
const FRESH: f64 = 60_000.0;

/// The state of a service worker or a page.
pub struct Models {
    config: Config,
    index: Rc<Index>,
    teller: Teller,
    /// Accepted newest manifests, each with when it is to be asked for again.
    newest: RefCell<Vec<(Rc<Accepted>, f64)>>,
    /// Downloads by CID: all readers of an artifact share one.
    downloads: RefCell<Vec<(String, Session<Segments>)>>,
}

impl Models {
    /// See [`crate::Models::open`].
    pub async fn open(options: &JsValue, tell: Function) -> Result<Self, String> {
        Ok(Self {
            config: Config::read(options)?,
            index: Index::open().await.into(),
            teller: Teller(tell.into()),
            newest: RefCell::default(),
            downloads: RefCell::default(),
        })
    }

    /// See [`crate::Models::answer`].
    pub async fn answer(&self, request: Request) -> Result<Response, String> {
        let thrown = |error: JsValue| format!("{error:?}");
        let url = request.url();
        let below = pathname(&url).and_then(|path| path.strip_prefix(&self.config.path));
        let Some(path) = below.and_then(ModelPath::parse) else {
            return problem(StatusCode::NOT_FOUND, "this names no model file; use {id}/{file} or {id}/v{version}/{file}");
        };
        let accepted = match self.manifest(&path.id, path.version.as_ref()).await {
            Ok(accepted) => accepted,
            Err(NoManifest::NotFound(detail)) => return problem(StatusCode::NOT_FOUND, &detail),
            Err(error) => return Err(self.failed(&path, &error.to_string())),
        };
        let manifest = &accepted.manifest;
        let file = match &path.resource {
            Resource::Manifest => return whole("application/json", accepted.text.as_bytes()).map_err(thrown),
            Resource::Artifact(file) | Resource::LeafTable(file) => file,
        };
        let Some(artifact) = manifest.artifact(file) else {
            let detail = format!("{} {} has no file {file:?}", manifest.id, manifest.version);
            return problem(StatusCode::NOT_FOUND, &detail);
        };
        if let Resource::LeafTable(_) = path.resource {
            let table = self.leaf_table(manifest, artifact).await.map_err(|error| self.failed(&path, &error))?;
            return whole("application/octet-stream", &table.to_bytes()).map_err(thrown);
        }
        let method = if request.method() == "HEAD" { Method::HEAD } else { Method::GET };
        let fields = fields_of(&request.headers()).unwrap_or_default();
        let (head, bytes) = semantics::answer(&method, &fields, manifest, artifact, path.freshness()).into_parts();
        let body = match bytes {
            None => None,
            Some(bytes) => {
                let read = self.read(manifest, artifact, bytes).await;
                Some(read.map_err(|error| self.failed(&path, &error))?)
            }
        };
        respond(head.status, &head.headers, body.as_ref()).map_err(thrown)
    }

    /// A stream of verified bytes. Its download starts when it is first read.
    async fn read(&self, manifest: &Manifest, artifact: &Artifact, bytes: Range<u64>) -> Result<web_sys::ReadableStream, String> {
        let cid = cid_text(&artifact.cid);
        let table = self.leaf_table(manifest, artifact).await?;
        let mut downloads = self.downloads.borrow_mut();
        // A download nobody reads is over; the next one gives sources that failed a new chance.
        downloads.retain(|(_, session)| !session.is_idle());
        let under_way = downloads.iter().find(|(of, _)| *of == cid).map(|(_, session)| session.clone());
        let session = under_way.unwrap_or_else(|| {
            let session = self.download(manifest, artifact, table);
            downloads.push((cid, session.clone()));
            session
        });
        into_stream(None, session.read(bytes)).map_err(|error| format!("{error:?}"))
    }

    fn download(&self, manifest: &Manifest, artifact: &Artifact, table: Rc<LeafTable>) -> Session<Segments> {
        let locate = |source: &edge_net_core::source::Source| Location {
            name: source.kind.name().to_owned(),
            url: source.artifact_url(manifest, artifact),
        };
        let locations: Vec<Location> = self.config.sources.iter().map(locate).collect();
        let names = locations.iter().map(|location| location.name.clone()).collect();
        let store = Segments { cid: cid_text(&artifact.cid), index: Rc::clone(&self.index) };
        let report = reports::of_download(self.teller.clone(), manifest, artifact, names);
        let limits = download::Config { seed: seed(), ..download::Config::default() };
        Session::new(table, locations, fetch_options(), store, limits, report)
    }

    /// The manifest of a model: of a version, as kept or as found; or the newest, which is asked for
    /// again every minute and may not go back.
    pub async fn manifest(&self, id: &str, version: Option<&Version>) -> Result<Rc<Accepted>, NoManifest> {
        let now = js_sys::Date::now();
        let fresh = |(accepted, until): &&(Rc<Accepted>, f64)| accepted.manifest.id == id && now < *until;
        if version.is_none()
            && let Some((accepted, _)) = self.newest.borrow().iter().find(fresh)
        {
            return Ok(Rc::clone(accepted));
        }
        let name = version.map_or_else(|| id.to_owned(), |version| format!("{id}@{version}"));
        let kept = self.index.manifest(&name).await;
        // Verified again: a key may have been unpinned since, or the storage altered.
        let kept = kept.and_then(|text| lookup::accept(text, &self.config.keys, id, version, None).ok());
        if let (Some(kept), true) = (&kept, version.is_some()) {
            return Ok(Rc::new(Accepted { manifest: kept.manifest.clone(), text: kept.text.clone() }));
        }
        let floor = kept.as_ref().map(|kept| kept.manifest.floor());
        let options = fetch_options();
        let found = lookup::manifest(&self.config.sources, &options, &self.config.keys, id, version, floor.as_ref()).await;
        let accepted = match (found, kept) {
            (Ok(found), _) => Rc::new(found),
            // Offline, gone from where it was, or behind: what was accepted before still holds.
            (Err(NoManifest::Unreachable(_) | NoManifest::NotFound(_)), Some(kept)) => Rc::new(kept),
            (Err(NoManifest::Older(reason)), Some(kept)) => {
                let detail = [("model", id.into()), ("file", "manifest.json".into()), ("reason", reason.into())];
                self.teller.tell("refused", &detail);
                Rc::new(kept)
            }
            (Err(error), _) => return Err(error),
        };
        let accepted = if version.is_none() { self.remember(accepted, now + FRESH) } else { accepted };
        self.index.note_manifest(&name, &accepted.text).await;
        Ok(accepted)
    }

    /// Remembers an accepted newest manifest, and returns the one that holds: another lookup may have
    /// found a newer one meanwhile.
    fn remember(&self, accepted: Rc<Accepted>, until: f64) -> Rc<Accepted> {
        let mut newest = self.newest.borrow_mut();
        let known = newest.iter().position(|(known, _)| known.manifest.id == accepted.manifest.id);
        let known = known.map(|at| newest.swap_remove(at).0);
        let holds = known.filter(|known| accepted.manifest.is_behind(&known.manifest.floor())).unwrap_or(accepted);
        newest.push((Rc::clone(&holds), until));
        holds
    }

    async fn leaf_table(&self, manifest: &Manifest, artifact: &Artifact) -> Result<Rc<LeafTable>, String> {
        let cid = cid_text(&artifact.cid);
        if let Some(table) = self.index.leaf_table(&cid).await
            && let Ok(table) = LeafTable::verify(&table, artifact.size, &artifact.cid)
        {
            return Ok(table.into());
        }
        let found = lookup::leaf_table(&self.config.sources, &fetch_options(), manifest, artifact).await;
        let table = found.map_err(|error| error.to_string())?;
        self.index.note_leaf_table(&cid, &table.to_bytes()).await;
        Ok(table.into())
    }

    /// See [`crate::Models::cached`].
    pub async fn cached(&self) -> Array {
        let rows = Array::new();
        let mut seen = Vec::new();
        for text in self.index.manifests().await {
            let Ok(manifest) = Manifest::parse(&text) else { continue };
            // The newest version is noted twice: as such, and by its number where a URL named it.
            let version = (manifest.id.clone(), manifest.version.clone());
            if seen.contains(&version) {
                continue;
            }
            seen.push(version);
            for artifact in &manifest.artifacts {
                let cid = cid_text(&artifact.cid);
                let kept = self.index.bytes_kept(&cid).await;
                if kept > 0.0 {
                    rows.push(&object(&[
                        ("model", manifest.id.as_str().into()),
                        ("version", manifest.version.to_string().into()),
                        ("file", artifact.filename.as_str().into()),
                        ("cid", cid.into()),
                        ("size", number(artifact.size).into()),
                        ("cachedBytes", kept.into()),
                    ]));
                }
            }
        }
        rows
    }

    /// See [`crate::Models::remove`].
    pub async fn remove(&self, id: &str) {
        for text in self.index.manifests().await {
            let Ok(manifest) = Manifest::parse(&text) else { continue };
            for artifact in manifest.artifacts.iter().filter(|_| manifest.id == id) {
                let cid = cid_text(&artifact.cid);
                for segment in 0..artifact.layout().segments() {
                    let _ = segments::delete(&cid, segment).await;
                }
                self.index.forget_artifact(&cid).await;
            }
        }
    }

    fn failed(&self, path: &ModelPath, message: &str) -> String {
        let file = match &path.resource {
            Resource::Manifest => "manifest.json",
            Resource::LeafTable(file) | Resource::Artifact(file) => file.as_str(),
        };
        let detail = [("model", path.id.as_str().into()), ("file", file.into()), ("message", message.into())];
        self.teller.tell("failed", &detail);
        message.to_owned()
    }
}

/// Nothing of the user goes along, and the browser's own cache does not keep a second copy.
fn fetch_options() -> Object {
    let options = Object::new();
    for (name, value) in [("credentials", "omit"), ("cache", "no-store"), ("mode", "cors")] {
        let _ = Reflect::set(&options, &name.into(), &value.into());
    }
    options
}

/// The path of an absolute URL.
fn pathname(url: &str) -> Option<&str> {
    let below = url.split_once("://")?.1;
    let path = &below[below.find('/')?..];
    path.split(['?', '#']).next()
}

fn fields_of(headers: &Headers) -> Result<HeaderMap, JsValue> {
    let mut fields = HeaderMap::new();
    for name in [IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE] {
        if let Some(value) = headers.get(name.as_str())?
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            fields.insert(name, value);
        }
    }
    Ok(fields)
}

fn respond(status: StatusCode, fields: &HeaderMap, body: Option<&web_sys::ReadableStream>) -> Result<Response, JsValue> {
    Response::new_with_opt_readable_stream_and_init(body, &init(status, fields)?)
}

fn init(status: StatusCode, fields: &HeaderMap) -> Result<ResponseInit, JsValue> {
    let headers = Headers::new()?;
    for (name, value) in fields {
        headers.append(name.as_str(), value.to_str().unwrap_or_default())?;
    }
    let init = ResponseInit::new();
    init.set_status(status.as_u16());
    init.set_headers(&headers);
    Ok(init)
}

fn whole(media_type: &'static str, body: &[u8]) -> Result<Response, JsValue> {
    with_body(StatusCode::OK, media_type, body)
}

fn problem(status: StatusCode, detail: &str) -> Result<Response, String> {
    with_body(status, PROBLEM_JSON, semantics::problem(status, detail).as_bytes()).map_err(|error| format!("{error:?}"))
}

fn with_body(status: StatusCode, media_type: &'static str, body: &[u8]) -> Result<Response, JsValue> {
    let mut fields = HeaderMap::new();
    fields.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Response::new_with_opt_js_u8_array_and_init(Some(&js_sys::Uint8Array::from(body)), &init(status, &fields)?)
}

fn seed() -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Any 53 bits will do.
    let seed = (js_sys::Math::random() * 9_007_199_254_740_992.0) as u64;
    seed
}
