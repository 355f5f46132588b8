//! Answers below the configured path, from cache, edge, bucket or gateway.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::dag::unixfs::cid_text;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::http::answer::{self as semantics, ModelPath, PROBLEM_JSON, Resource};
use edge_net_core::transfer::download;
use edge_net_core::trust::manifest::{self, Manifest};
use edge_net_driver::host::message;
use edge_net_driver::into_stream;
use edge_net_driver::lookup::{self, Accepted, NoManifest, Places, Public};
use edge_net_driver::session::{Location, Session};
use futures::lock::Mutex;
use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use js_sys::{Array, Function, Object, Reflect, Uint8Array};
use semver::Version;
use wasm_bindgen::prelude::*;
use web_sys::{Headers, Request, ResponseInit};

use crate::artifact::{Artifact, Segments};
use crate::config::Config;
use crate::reports::{self, Teller, object};
use crate::store::{self, Budget, LEAF_TABLES, MANIFESTS, number};

/// How long the newest manifest is taken for the newest, in milliseconds.
const FRESH: f64 = 60_000.0;
/// Artifacts remembered at the most; those in use are never forgotten.
const REMEMBERED: usize = 32;

#[wasm_bindgen]
extern "C" {
    /// A response with any body: a stream, a blob, bytes, or none.
    #[wasm_bindgen(extends = web_sys::Response, js_name = Response)]
    type AnyResponse;
    #[wasm_bindgen(constructor, catch, js_class = "Response")]
    fn new(body: &JsValue, init: &ResponseInit) -> Result<AnyResponse, JsValue>;
}

type Response = web_sys::Response;

/// The state of a service worker or a page.
pub struct Models {
    config: Config,
    teller: Teller,
    /// Accepted manifests by `{id}` or `{id}@{version}`, each with when it is to be asked for again.
    accepted: RefCell<Vec<(String, Rc<Accepted>, f64)>>,
    artifacts: Rc<RefCell<Vec<Rc<Artifact>>>>,
    budget: Rc<Budget>,
    /// The newest download, which knows best how quick the sources are.
    last: RefCell<Option<Session<Segments>>>,
    /// One looks a thing up, the others wait and find it: by its name.
    turns: RefCell<Vec<(String, Rc<Mutex<()>>)>>,
}

impl Models {
    /// See [`crate::Models::open`].
    pub fn open(options: &JsValue, tell: Function) -> Result<Self, String> {
        let config = Config::read(options)?;
        let budget = Budget { limit: config.budget, turn: Mutex::default() };
        Ok(Self {
            config,
            teller: Teller(tell.into()),
            accepted: RefCell::default(),
            artifacts: Rc::default(),
            budget: budget.into(),
            last: RefCell::default(),
            turns: RefCell::default(),
        })
    }

    fn turn(&self, name: &str) -> Rc<Mutex<()>> {
        let mut turns = self.turns.borrow_mut();
        // A turn that nobody else has is over.
        turns.retain(|(_, turn)| Rc::strong_count(turn) > 1);
        if let Some((_, turn)) = turns.iter().find(|(of, _)| of == name) {
            return Rc::clone(turn);
        }
        let turn = Rc::default();
        turns.push((name.to_owned(), Rc::clone(&turn)));
        turn
    }

    /// See [`crate::Models::answer`].
    pub async fn answer(&self, request: Request) -> Result<Response, String> {
        let thrown = |error| message(&error);
        let url = request.url();
        let below = pathname(&url).and_then(|path| path.strip_prefix(&self.config.path));
        let Some(path) = below.and_then(ModelPath::parse) else {
            return problem(
                StatusCode::NOT_FOUND,
                "this names no model file; use {id}/{file} or {id}/v{version}/{file}",
            );
        };
        let accepted = match self.manifest(&path.id, path.version.as_ref()).await {
            Ok(accepted) => accepted,
            Err(NoManifest::NotFound(detail)) => return problem(StatusCode::NOT_FOUND, &detail),
            Err(error) => return Err(self.failed(&path, &error.to_string())),
        };
        let manifest = &accepted.manifest;
        let file = match &path.resource {
            Resource::Manifest => {
                return small("application/json", accepted.text.as_bytes()).map_err(thrown);
            }
            Resource::Artifact(file) | Resource::LeafTable(file) => file,
        };
        let Some(artifact) = manifest.artifact(file) else {
            let detail = format!("{} {} has no file {file:?}", manifest.id, manifest.version);
            return problem(StatusCode::NOT_FOUND, &detail);
        };
        if let Resource::LeafTable(_) = path.resource {
            let known = self
                .artifact(manifest, artifact)
                .await
                .map_err(|error| self.failed(&path, &error))?;
            return small("application/octet-stream", &known.table.to_bytes()).map_err(thrown);
        }
        let method = if request.method() == "HEAD" { Method::HEAD } else { Method::GET };
        let fields = fields_of(&request.headers()).unwrap_or_default();
        let (head, bytes) =
            semantics::answer(&method, &fields, manifest, artifact, path.freshness()).into_parts();
        let body = match bytes {
            None => JsValue::NULL,
            Some(bytes) => self
                .read(manifest, artifact, bytes)
                .await
                .map_err(|error| self.failed(&path, &error))?,
        };
        respond(head.status, &head.headers, &body).map_err(thrown)
    }

    /// Verified bytes: a blob where all of them are kept, else a stream, whose download starts when it is first read.
    async fn read(
        &self,
        manifest: &Manifest,
        file: &manifest::Artifact,
        bytes: Range<u64>,
    ) -> Result<JsValue, String> {
        let artifact = self.artifact(manifest, file).await?;
        let blob = if bytes.is_empty() { None } else { artifact.kept(&bytes).await };
        if let Some(blob) = blob {
            let report =
                reports::of_download(self.teller.clone(), manifest, file, Vec::new(), || {});
            for segment in file.layout().segments_of_bytes(&bytes) {
                report(download::Report::Verified { segment, origins: Vec::new() });
            }
            return Ok(blob.into());
        }
        // A download nobody reads is over; the next one gives sources that failed a new chance.
        if artifact.download.borrow().as_ref().is_none_or(Session::is_idle) {
            let download = self.download(manifest, file, &artifact);
            artifact.download.replace(Some(download));
        }
        let download = artifact.download.borrow().clone().ok_or("the download ended")?;
        into_stream(None, download.read(bytes)).map(JsValue::from).map_err(|error| message(&error))
    }

    fn download(
        &self,
        manifest: &Manifest,
        file: &manifest::Artifact,
        artifact: &Rc<Artifact>,
    ) -> Session<Segments> {
        let locate = |source: &edge_net_core::transfer::source::Source| Location {
            name: source.kind.name().to_owned(),
            url: source.artifact_url(manifest, file),
        };
        let locations: Vec<Location> = self.config.sources.iter().map(locate).collect();
        let names = locations.iter().map(|location| location.name.clone()).collect();
        let artifacts = Rc::clone(&self.artifacts);
        let in_use = move |cid: &str| {
            artifacts.borrow().iter().any(|artifact| artifact.cid == cid && artifact.is_in_use())
        };
        let table = Arc::clone(&artifact.table);
        let keep = Segments {
            cid: artifact.cid.clone(),
            table: Arc::clone(&table),
            budget: Rc::clone(&self.budget),
            in_use: Rc::new(in_use),
        };
        let complete = Rc::downgrade(artifact);
        let pack = move || {
            if let Some(artifact) = complete.upgrade() {
                artifact.pack_later();
            }
        };
        let report = reports::of_download(self.teller.clone(), manifest, file, names, pack);
        // What can never be kept whole lets nothing else go.
        let fits = self.config.budget.is_none_or(|budget| file.size <= budget);
        let limits = download::Config {
            lanes: self.config.lanes,
            store: fits,
            seed: seed(),
            ..download::Config::default()
        };
        let paces = self.last.borrow().as_ref().map(Session::paces).unwrap_or_default();
        let session = Session::new(table, locations, fetch_options(), keep, limits, &paces, report);
        self.last.replace(Some(session.clone()));
        session
    }

    fn places<'a>(&'a self, init: &'a Object) -> Places<'a, Public> {
        Places { sources: &self.config.sources, init, access: &Public }
    }

    /// What is known of an artifact; its leaf table is looked up, once however many ask.
    async fn artifact(
        &self,
        manifest: &Manifest,
        file: &manifest::Artifact,
    ) -> Result<Rc<Artifact>, String> {
        let cid = cid_text(&file.cid);
        let known = || self.artifacts.borrow().iter().find(|artifact| artifact.cid == cid).cloned();
        let turn = self.turn(&cid);
        let _turn = turn.lock().await;
        if let Some(artifact) = known() {
            return Ok(artifact);
        }
        let kept = store::get(LEAF_TABLES, &cid).await.dyn_into::<Uint8Array>().ok();
        let table = if let Some(table) =
            kept.and_then(|table| LeafTable::verify(&table.to_vec(), file.size, &file.cid).ok())
        {
            table
        } else {
            let found = lookup::leaf_table(&self.places(&fetch_options()), manifest, file).await;
            let table = found.map_err(|error| error.to_string())?;
            store::put(LEAF_TABLES, &cid, &Uint8Array::from(&*table.to_bytes()).into()).await;
            table
        };
        let artifact = Rc::new(Artifact::new(cid, table.into()));
        let mut artifacts = self.artifacts.borrow_mut();
        if artifacts.len() >= REMEMBERED
            && let Some(idle) = artifacts.iter().position(|artifact| !artifact.is_in_use())
        {
            artifacts.remove(idle);
        }
        artifacts.push(Rc::clone(&artifact));
        Ok(artifact)
    }

    /// The manifest of a model: of a version, as kept or as found; or the newest, which is asked for
    /// again every minute and may not go back.
    pub async fn manifest(
        &self,
        id: &str,
        version: Option<&Version>,
    ) -> Result<Rc<Accepted>, NoManifest> {
        let name = version.map_or_else(|| id.to_owned(), |version| format!("{id}@{version}"));
        let turn = self.turn(&name);
        let _turn = turn.lock().await;
        let now = js_sys::Date::now();
        let known = |(of, accepted, until): &(String, Rc<Accepted>, f64)| {
            (*of == name && now < *until).then(|| Rc::clone(accepted))
        };
        if let Some(accepted) = self.accepted.borrow().iter().find_map(known) {
            return Ok(accepted);
        }
        let kept = store::get(MANIFESTS, &name).await.as_string();
        // Verified again: a key may have been unpinned since, or the storage altered.
        let kept =
            kept.and_then(|text| lookup::accept(text, &self.config.keys, id, version, None).ok());
        let accepted = match (kept, version) {
            (Some(kept), Some(_)) => kept,
            (kept, _) => {
                let floor = kept.as_ref().map(|kept| kept.manifest.floor());
                let options = fetch_options();
                let found = lookup::manifest(
                    &self.places(&options),
                    &self.config.keys,
                    id,
                    version,
                    floor.as_ref(),
                )
                .await;
                match (found, kept) {
                    (Ok(found), _) => {
                        store::put(MANIFESTS, &name, &found.text.as_str().into()).await;
                        found
                    }
                    // Offline, gone from where it was, or behind: what was accepted before still holds, unless it expired.
                    (Err(NoManifest::Unreachable(_) | NoManifest::NotFound(_)), Some(kept)) => {
                        lookup::current(kept, version)
                            .map_err(|refusal| NoManifest::Refused(refusal.to_string()))?
                    }
                    (Err(NoManifest::Older(reason)), Some(kept)) => {
                        let detail = [
                            ("model", id.into()),
                            ("file", "manifest.json".into()),
                            ("reason", reason.into()),
                        ];
                        self.teller.tell("refused", &detail);
                        lookup::current(kept, version)
                            .map_err(|refusal| NoManifest::Refused(refusal.to_string()))?
                    }
                    (Err(error), _) => return Err(error),
                }
            }
        };
        let accepted = Rc::new(accepted);
        let until = if version.is_some() { f64::INFINITY } else { now + FRESH };
        let mut all = self.accepted.borrow_mut();
        all.retain(|(of, ..)| *of != name);
        all.push((name, Rc::clone(&accepted), until));
        Ok(accepted)
    }

    /// See [`crate::Models::list`].
    pub async fn list(&self) -> Array {
        let (rows, index) = (Array::new(), store::index().await);
        for manifest in manifests().await {
            for file in &manifest.artifacts {
                let cid = cid_text(&file.cid);
                if let Some(kept) =
                    index.iter().find(|row| row.cid == cid && (row.bytes > 0 || row.pinned))
                {
                    rows.push(&object(&[
                        ("model", manifest.id.as_str().into()),
                        ("version", manifest.version.to_string().into()),
                        ("file", file.filename.as_str().into()),
                        ("cid", cid.into()),
                        ("size", number(file.size).into()),
                        ("cachedBytes", number(kept.bytes).into()),
                        ("lastUsed", number(kept.used).into()),
                        ("pinned", kept.pinned.into()),
                    ]));
                }
            }
        }
        rows
    }

    /// See [`crate::Models::remove`].
    pub async fn remove(&self, id: &str) {
        for manifest in manifests().await.iter().filter(|manifest| manifest.id == id) {
            for file in &manifest.artifacts {
                let cid = cid_text(&file.cid);
                self.artifacts
                    .borrow()
                    .iter()
                    .filter(|artifact| artifact.cid == cid)
                    .for_each(|artifact| artifact.forget_verified());
                store::let_go(&cid, number(file.size)).await;
            }
        }
    }

    /// See [`crate::Models::clear`].
    pub async fn clear(&self) {
        self.artifacts.borrow().iter().for_each(|artifact| artifact.forget_verified());
        store::clear().await;
    }

    /// See [`crate::Models::pin`].
    pub async fn pin(&self, id: &str, pinned: bool) -> Result<(), NoManifest> {
        for file in &self.manifest(id, None).await?.manifest.artifacts {
            store::pin(&cid_text(&file.cid), number(file.size), pinned).await;
        }
        Ok(())
    }

    /// See [`crate::Models::verify`].
    pub async fn verify(&self, id: &str) -> Result<Array, String> {
        let accepted = self.manifest(id, None).await.map_err(|error| error.to_string())?;
        let rows = Array::new();
        for file in &accepted.manifest.artifacts {
            let (good, bad) = self.artifact(&accepted.manifest, file).await?.verify_now().await;
            let bad: Array =
                bad.into_iter().map(|segment| JsValue::from(number(segment))).collect();
            let segments = number(file.layout().segments());
            rows.push(&object(&[
                ("file", file.filename.as_str().into()),
                ("segments", segments.into()),
                ("good", number(good).into()),
                ("bad", bad.into()),
            ]));
        }
        Ok(rows)
    }

    /// See [`crate::Models::usage`].
    pub async fn usage(&self) -> JsValue {
        let (told, bytes) =
            (store::estimate().await, store::index().await.iter().map(|row| row.bytes).sum());
        let member = |name: &str| Reflect::get(&told, &name.into()).unwrap_or_default();
        let budget = self.config.budget.map_or(JsValue::UNDEFINED, |budget| number(budget).into());
        object(&[
            ("bytes", number(bytes).into()),
            ("budget", budget),
            ("quota", member("quota")),
            ("usage", member("usage")),
        ])
    }

    /// See [`crate::Models::downloads`].
    pub fn downloads(&self) -> Array {
        let artifacts = self.artifacts.borrow();
        artifacts
            .iter()
            .filter(|artifact| artifact.is_in_use())
            .map(|artifact| JsValue::from(artifact.cid.as_str()))
            .collect()
    }

    fn failed(&self, path: &ModelPath, message: &str) -> String {
        let file = match &path.resource {
            Resource::Manifest => "manifest.json",
            Resource::LeafTable(file) | Resource::Artifact(file) => file.as_str(),
        };
        let detail = [
            ("model", path.id.as_str().into()),
            ("file", file.into()),
            ("message", message.into()),
        ];
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
    // After those of the scheme.
    let (start, _) = url.match_indices('/').nth(2)?;
    url[start..].split(['?', '#']).next()
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

/// Every accepted manifest, once.
async fn manifests() -> Vec<Manifest> {
    let mut all: Vec<Manifest> = Vec::new();
    for text in Array::from(&store::manifests().await).iter().filter_map(|text| text.as_string()) {
        let Ok(manifest) = Manifest::parse(&text) else { continue };
        // The newest version is noted twice: as such, and by its number where a URL named it.
        if !all.iter().any(|known| known.id == manifest.id && known.version == manifest.version) {
            all.push(manifest);
        }
    }
    all
}

fn respond(status: StatusCode, fields: &HeaderMap, body: &JsValue) -> Result<Response, JsValue> {
    Ok(AnyResponse::new(body, &init(status, fields)?)?.into())
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

fn small(media_type: &'static str, body: &[u8]) -> Result<Response, JsValue> {
    with_body(StatusCode::OK, media_type, body)
}

fn problem(status: StatusCode, detail: &str) -> Result<Response, String> {
    with_body(status, PROBLEM_JSON, semantics::problem(status, detail).as_bytes())
        .map_err(|error| message(&error))
}

fn with_body(
    status: StatusCode,
    media_type: &'static str,
    body: &[u8],
) -> Result<Response, JsValue> {
    let mut fields = HeaderMap::new();
    fields.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    respond(status, &fields, &Uint8Array::from(body))
}

fn seed() -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Any 53 bits will do.
    let seed = (js_sys::Math::random() * 9_007_199_254_740_992.0) as u64;
    seed
}
