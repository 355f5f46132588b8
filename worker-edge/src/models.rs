//! Responses to requests for a model's files: artifacts, their leaf tables, and manifests.

use std::rc::Rc;

use edge_net_core::http::answer::{self as semantics, ModelPath, Resource};
use edge_net_core::http::hub;
use edge_net_core::trust::manifest::Manifest;
use edge_net_driver::lookup::{Accepted, NoManifest};
use semver::Version;
use web_sys::Response;

use crate::call::Call;
use crate::catalog::Recalled;
use crate::limit::{self, LOOKUPS};
use crate::origin::Origin;
use crate::send::send;
use crate::{catalog, registry, reply};

/// The response to a GET or HEAD of `path`.
pub async fn answer(call: &Call<'_>, path: &ModelPath) -> worker::Result<Response> {
    let accepted = match find(call, &path.id, path.version.as_ref()).await? {
        Ok(accepted) => accepted,
        Err(response) => return Ok(response),
    };
    match &path.resource {
        Resource::Manifest => {
            document(call, path, &accepted, "application/json", accepted.text.as_bytes())
        }
        Resource::LeafTable(file) => leaf_table(call, path, &accepted, file).await,
        Resource::Artifact(file) => artifact(call, path, &accepted, file).await,
    }
}

/// The manifest that a request for files means, or the response that there is none. Requests that
/// ask a source for it count against the client's limit: names have no end.
pub async fn find(
    call: &Call<'_>,
    id: &str,
    version: Option<&Version>,
) -> worker::Result<Result<Rc<Accepted>, Response>> {
    let config = &call.config;
    if matches!(catalog::recall(config, id, version), Recalled::Unknown)
        && !limit::admits(call, LOOKUPS).await?
    {
        return match catalog::valid(config, id, version) {
            Some(accepted) => Ok(Ok(accepted)),
            None => limit::refused(LOOKUPS).map(Err),
        };
    }
    let found = match catalog::manifest(config, id, version).await {
        Err(absent @ NoManifest::Unreachable(_)) => {
            registry::instead(call.env, config, id, version, absent).await
        }
        found => found,
    };
    match found {
        Ok(accepted) => Ok(Ok(accepted)),
        Err(error) => reply::no_manifest(&error, version).map(Err),
    }
}

/// The response with a document about a version of a model.
fn document(
    call: &Call<'_>,
    path: &ModelPath,
    accepted: &Accepted,
    media_type: &'static str,
    body: &[u8],
) -> worker::Result<Response> {
    let response = reply::document(call, path.freshness(), media_type, body)?;
    for (name, value) in &semantics::model_fields(&accepted.manifest) {
        response.headers().set(name.as_str(), value.to_str().unwrap_or_default())?;
    }
    Ok(response)
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
        Ok(table) => document(call, path, accepted, "application/octet-stream", &table.to_bytes()),
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
    let conditions = call.headers(&reply::CONDITIONS);
    let (head, bytes) =
        semantics::answer(&call.method, &conditions, manifest, artifact, path.freshness())
            .into_parts();
    if head.status.is_client_error() {
        return reply::refused(head.status, &head.headers, file);
    }
    let Some(bytes) = bytes else { return reply::with_fields(head.status, &head.headers, None) };
    let origin = Origin::new(Rc::clone(config), Rc::clone(accepted), artifact.clone());
    // Every request for a private model needs a check of its link.
    let validity = catalog::validity(accepted, &path.id, path.version.as_ref())
        .filter(|_| !config.private.contains(&path.id));
    send(call, origin, validity, head.status, head.headers, bytes).await
}

/// The problem that a model has no file of this name.
fn no_file(manifest: &Manifest, file: &str) -> worker::Result<Response> {
    let files: Vec<&str> =
        manifest.artifacts.iter().map(|artifact| artifact.filename.as_str()).collect();
    let (id, version, files) = (&manifest.id, &manifest.version, files.join(", "));
    let detail = format!("{id} {version} has no file {file:?}; it has {files}");
    let response = reply::not_found(&detail, hub::ENTRY)?;
    if let Some(commit) = hub::commit(version) {
        response.headers().set(hub::X_REPO_COMMIT.as_str(), &commit)?;
    }
    Ok(response)
}
