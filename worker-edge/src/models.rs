//! Answers below `/models/`: artifacts, their leaf tables, and manifests.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::Digest;
use edge_net_core::download::{self, Report};
use edge_net_core::http::{self as semantics, Freshness, ModelPath, Resource};
use edge_net_core::layout::LEAVES_PER_SEGMENT;
use edge_net_core::manifest::{Artifact, Manifest};
use edge_net_core::verify::Bytes as _;
use edge_net_driver::into_stream;
use edge_net_driver::lookup::NoManifest;
use edge_net_driver::session::{Location, NoStore, Session};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use js_sys::{Object, Uint8Array};
use worker::Request;

use crate::config::Config;
use crate::{catalog, reply};

/// Requests to sources at once, of the six a Worker may have under way.
const LANES: usize = 2;
/// Segments in memory for each request at the most.
const HELD: usize = 3;

/// The answer to a GET or HEAD of `path`.
pub async fn answer(request: &Request, config: &Config, path: &ModelPath) -> worker::Result<web_sys::Response> {
    let accepted = match catalog::manifest(config, &path.id, path.version.as_ref()).await {
        Ok(accepted) => accepted,
        Err(error) => return no_manifest(&error),
    };
    let manifest = &accepted.manifest;
    let method = if matches!(request.method(), worker::Method::Head) { Method::HEAD } else { Method::GET };
    let fields = fields_of(request);
    let file = match &path.resource {
        Resource::Manifest => {
            return small(&method, &fields, path.freshness(), "application/json", accepted.text.as_bytes());
        }
        Resource::Artifact(file) | Resource::LeafTable(file) => file,
    };
    let Some(artifact) = manifest.artifact(file) else {
        let files: Vec<&str> = manifest.artifacts.iter().map(|artifact| artifact.filename.as_str()).collect();
        let detail = format!("{} {} has no file {file:?}; it has {}", manifest.id, manifest.version, files.join(", "));
        return reply::problem(StatusCode::NOT_FOUND, &detail);
    };
    if let Resource::LeafTable(_) = path.resource {
        return match catalog::leaf_table(config, manifest, artifact).await {
            Ok(table) => small(&method, &fields, path.freshness(), "application/octet-stream", &table.to_bytes()),
            Err(error) => bad_gateway(&error.to_string()),
        };
    }
    let (head, bytes) = semantics::answer(&method, &fields, manifest, artifact, path.freshness()).into_parts();
    match (head.status, bytes) {
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            let detail = format!("{file} has {} bytes; the range asked for has none of them", artifact.size);
            let response = reply::problem(head.status, &detail)?;
            response.headers().set("Content-Range", &format!("bytes */{}", artifact.size))?;
            Ok(response)
        }
        (StatusCode::PRECONDITION_FAILED, _) => {
            let detail = format!("the entity tag of {file} is {}", semantics::entity_tag(artifact));
            reply::problem(head.status, &detail)
        }
        (status, None) => reply::with_fields(status, &head.headers, None),
        (status, Some(bytes)) => send(config, manifest, artifact, status, head.headers, bytes).await,
    }
}

/// Sends verified bytes. The head waits for the first of them, so that it can still tell of a failure.
async fn send(
    config: &Config,
    manifest: &Manifest,
    artifact: &Artifact,
    status: StatusCode,
    mut fields: HeaderMap,
    bytes: Range<u64>,
) -> worker::Result<web_sys::Response> {
    if bytes.is_empty() {
        return reply::with_fields(status, &fields, Some(&Uint8Array::new_with_length(0)));
    }
    let table = match catalog::leaf_table(config, manifest, artifact).await {
        Ok(table) => table,
        Err(error) => return bad_gateway(&error.to_string()),
    };
    let locate = |source: &edge_net_core::source::Source| Location {
        name: source.kind.name().to_owned(),
        url: source.artifact_url(manifest, artifact),
    };
    let locations: Vec<Location> = config.sources.iter().map(locate).collect();
    let names: Vec<String> = locations.iter().map(|location| location.name.clone()).collect();
    let first_origins: Rc<RefCell<Option<Vec<String>>>> = Rc::default();
    let heard = Rc::clone(&first_origins);
    let what = format!("{} {} {}", manifest.id, manifest.version, artifact.filename);
    let report = move |report: Report| match report {
        Report::Verified { origins, .. } => {
            heard.borrow_mut().get_or_insert(origins);
        }
        Report::Refused { segment, source, failure } => {
            worker::console_warn!("{what}, segment {segment}: {}: {failure}", names[source]);
        }
        Report::Failed(error) => worker::console_error!("{what}: {error}"),
        Report::Received { .. } => {}
    };
    // Whole segments, so that the head can say where the first of them came from.
    let limits = download::Config {
        whole: true,
        lanes: LANES,
        held: HELD,
        probe: LEAVES_PER_SEGMENT,
        share: false,
        store: false,
        seed: seed(),
        ..download::Config::default()
    };
    let session = Session::new(table, locations, Object::new(), NoStore, limits, &[], report);
    let length = bytes.end - bytes.start;
    let mut reader = session.read(bytes);
    let first = match reader.next().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return bad_gateway(&error.to_string()),
        None => return bad_gateway("the download ended before it began"),
    };
    let origin = first_origins.borrow().as_ref().map(|origins| origins.join("+")).unwrap_or_default();
    if let Ok(timing) = HeaderValue::from_str(&format!("origin;desc=\"{origin}\"")) {
        fields.insert(HeaderName::from_static("server-timing"), timing);
    }
    if first.len() == length {
        return reply::with_fields(status, &fields, Some(&first.view));
    }
    let body = reply::of_length(&into_stream(Some(first), reader)?, length);
    reply::with_fields(status, &fields, Some(body.as_ref()))
}

/// A small body that is at hand.
fn small(
    method: &Method,
    asked: &HeaderMap,
    freshness: Freshness,
    media_type: &'static str,
    body: &[u8],
) -> worker::Result<web_sys::Response> {
    let tag = format!("\"{}\"", Digest::of(body).to_hex());
    let unchanged = asked.get(IF_NONE_MATCH).is_some_and(|listed| listed.to_str().is_ok_and(|listed| listed.contains(&tag)));
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(freshness.cache_control()));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        fields.insert(ETAG, tag);
    }
    match (unchanged, *method == Method::HEAD) {
        (true, _) => reply::with_fields(StatusCode::NOT_MODIFIED, &fields, None),
        (_, true) => reply::with_fields(StatusCode::OK, &fields, None),
        _ => reply::with_fields(StatusCode::OK, &fields, Some(&Uint8Array::from(body))),
    }
}

fn no_manifest(error: &NoManifest) -> worker::Result<web_sys::Response> {
    match error {
        NoManifest::NotFound(_) => reply::problem(StatusCode::NOT_FOUND, &error.to_string()),
        NoManifest::Refused(_) | NoManifest::Older(_) | NoManifest::Unreachable(_) => bad_gateway(&error.to_string()),
    }
}

/// The sources failed, not the client; it may ask again.
fn bad_gateway(detail: &str) -> worker::Result<web_sys::Response> {
    worker::console_error!("{detail}");
    let response = reply::problem(StatusCode::BAD_GATEWAY, detail)?;
    response.headers().set(RETRY_AFTER.as_str(), "5")?;
    Ok(response)
}

fn fields_of(request: &Request) -> HeaderMap {
    let field = |(name, value): (String, String)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(&value).ok()?));
    request.headers().entries().filter_map(field).collect()
}

fn seed() -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Any 53 bits will do.
    let seed = (js_sys::Math::random() * 9_007_199_254_740_992.0) as u64;
    seed
}
