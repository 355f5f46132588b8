//! Responses to requests for a model's files: artifacts, their leaf tables, and manifests.

use std::rc::Rc;

use edge_net_core::http::answer::{self as semantics, ModelPath, Resource};
use edge_net_core::trust::manifest::Manifest;
use edge_net_driver::lookup::{Accepted, NoManifest};
use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderName, StatusCode};
use web_sys::Response;

use crate::call::Call;
use crate::origin::Origin;
use crate::send::send;
use crate::{catalog, registry, reply};

/// Request headers that the response to a request for an artifact depends on.
const CONDITIONS: [HeaderName; 4] = [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH];

/// The response to a GET or HEAD of `path`.
pub async fn answer(call: &Call<'_>, path: &ModelPath) -> worker::Result<Response> {
    let config = &call.config;
    let (id, version) = (&path.id, path.version.as_ref());
    let found = match catalog::manifest(config, id, version).await {
        Err(absent @ NoManifest::Unreachable(_)) => {
            registry::instead(call.env, config, id, version, absent).await
        }
        found => found,
    };
    let accepted = match found {
        Ok(accepted) => accepted,
        Err(error) => return reply::no_manifest(&error),
    };
    match &path.resource {
        Resource::Manifest => {
            let body = accepted.text.as_bytes();
            reply::small(call, path.freshness(), "application/json", body)
        }
        Resource::LeafTable(file) => leaf_table(call, path, &accepted, file).await,
        Resource::Artifact(file) => artifact(call, path, &accepted, file).await,
    }
}

async fn leaf_table(
    call: &Call<'_>,
    path: &ModelPath,
    accepted: &Accepted,
    file: &str,
) -> worker::Result<Response> {
    let manifest = &accepted.manifest;
    let Some(artifact) = manifest.artifact(file) else { return no_file(manifest, file) };
    match catalog::leaf_table(&call.config, manifest, artifact).await {
        Ok(table) => {
            let body = table.to_bytes();
            reply::small(call, path.freshness(), "application/octet-stream", &body)
        }
        Err(error) => reply::bad_gateway(&error.to_string()),
    }
}

async fn artifact(
    call: &Call<'_>,
    path: &ModelPath,
    accepted: &Rc<Accepted>,
    file: &str,
) -> worker::Result<Response> {
    let config = &call.config;
    let manifest = &accepted.manifest;
    let Some(artifact) = manifest.artifact(file) else { return no_file(manifest, file) };
    let conditions = call.headers(&CONDITIONS);
    let (head, bytes) =
        semantics::answer(&call.method, &conditions, manifest, artifact, path.freshness())
            .into_parts();
    match (head.status, bytes) {
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            let detail =
                format!("{file} has {} bytes; the requested range has none of them", artifact.size);
            let response = reply::problem(head.status, &detail)?;
            response.headers().set("Content-Range", &format!("bytes */{}", artifact.size))?;
            Ok(response)
        }
        (StatusCode::PRECONDITION_FAILED, _) => {
            let detail = format!("the entity tag of {file} is {}", semantics::entity_tag(artifact));
            reply::problem(head.status, &detail)
        }
        (status, None) => reply::with_fields(status, &head.headers, None),
        (status, Some(bytes)) => {
            let origin = Origin::new(Rc::clone(config), Rc::clone(accepted), artifact.clone());
            // Every request for a private model needs a check of its link.
            let validity = catalog::validity(accepted, &path.id, path.version.as_ref())
                .filter(|_| !config.private.contains(&path.id));
            send(call, origin, validity, status, head.headers, bytes).await
        }
    }
}

/// The problem that a model has no file of this name.
fn no_file(manifest: &Manifest, file: &str) -> worker::Result<Response> {
    let files: Vec<&str> =
        manifest.artifacts.iter().map(|artifact| artifact.filename.as_str()).collect();
    let (id, version, files) = (&manifest.id, &manifest.version, files.join(", "));
    let detail = format!("{id} {version} has no file {file:?}; it has {files}");
    reply::problem(StatusCode::NOT_FOUND, &detail)
}
