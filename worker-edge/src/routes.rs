//! The routing table: which handler serves a path, which methods it allows, and which paths are
//! rate limited.

use edge_net_core::http::answer::ModelPath;
use edge_net_core::http::hub;
use edge_net_core::http::path::decoded;
use http::Method;

/// Path of the embeddings endpoint.
pub const EMBEDDINGS: &str = "/v1/embeddings";
/// Path of the health check.
pub const HEALTH: &str = "/healthz";
/// Prefix of the artifacts' paths.
pub const MODELS: &str = "/models/";
/// Prefix of the registry API's paths.
const API: &str = "/v1/";
/// Prefix of the IPFS gateway's paths.
const IPFS: &str = "/ipfs/";
/// Prefix of the paths of the hub's API.
const HUB: &str = "/api/";
/// Prefix of the paths that answer in the form of OpenAI's API, whoever asks.
const OPENAI: &str = "/openai";
/// The request headers that a page on another origin may send to most paths. Monitoring adds the
/// last four to all requests of a page.
const HEADERS: &str = "Range, If-Range, If-Match, If-None-Match, Authorization, Content-Type, \
    baggage, sentry-trace, traceparent, tracestate";

/// The handler of a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `POST /v1/embeddings`.
    Embeddings,
    /// The registry API, and the path below `/v1/`.
    Api(&'a str),
    /// `/healthz`.
    Health,
    /// The IPFS gateway, and the path below `/ipfs/`.
    Ipfs(&'a str),
    /// A resource of the hub's API.
    Hub(hub::Resource),
    /// A file of a model.
    Model(ModelPath),
    /// A path below `/models/` that names no file.
    NotAModelFile,
    /// Any other path.
    Unknown,
}

impl<'a> Route<'a> {
    /// The route of a path.
    pub fn of(path: &'a str) -> Self {
        let path = canonical(path);
        if path == EMBEDDINGS {
            Self::Embeddings
        } else if let Some(below) = path.strip_prefix(API) {
            Self::Api(below)
        } else if path == HEALTH {
            Self::Health
        } else if let Some(below) = path.strip_prefix(IPFS) {
            Self::Ipfs(below)
        } else if let Some(below) = path.strip_prefix(MODELS) {
            ModelPath::parse(below).map_or(Self::NotAModelFile, Self::Model)
        } else if let Some(resource) = hub_api(path) {
            Self::Hub(resource)
        } else {
            let hub = path.strip_prefix('/').and_then(|path| {
                // Some models of the hub have no organization.
                ModelPath::parse_hub(path).or_else(|| ModelPath::parse_hub(&format!("hub/{path}")))
            });
            hub.map_or(Self::Unknown, Self::Model)
        }
    }
}

/// The path that one in the form of OpenAI's API stands for: `/v1/…` for `/openai/v1/…`.
fn canonical(path: &str) -> &str {
    if is_openai(path) { &path[OPENAI.len()..] } else { path }
}

/// Whether the answer at a path has the form of OpenAI's API, whoever asks.
pub fn is_openai(path: &str) -> bool {
    path.strip_prefix(OPENAI).is_some_and(|path| path.starts_with(API))
}

fn hub_api(path: &str) -> Option<hub::Resource> {
    hub::Resource::parse(path.strip_prefix(HUB)?.strip_prefix("models/")?)
}

/// A resource of the registry API.
#[derive(Debug, PartialEq, Eq)]
pub enum Resource {
    /// `openapi.json`.
    OpenApi,
    /// `models`: the list of models.
    Models,
    /// A resource of the model with this id.
    Model(String, ModelResource),
}

/// A resource of one model.
#[derive(Debug, PartialEq, Eq)]
pub enum ModelResource {
    /// `models/{id}`: the newest manifest.
    Newest,
    /// `models/{id}/versions`: the list of versions.
    Versions,
    /// `models/{id}/versions/{version}`: the manifest of a version.
    Version(String),
    /// `models/{id}/download`: the download URLs.
    Download,
}

impl Resource {
    /// The resource at `path`, which is the part below `/v1/`.
    pub fn of(path: &str) -> Option<Self> {
        let parts = path.split('/').map(decoded).collect::<Option<Vec<_>>>()?;
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let (id, resource) = match *parts.as_slice() {
            ["openapi.json"] => return Some(Self::OpenApi),
            ["models"] => return Some(Self::Models),
            ["models", id] => (id, ModelResource::Newest),
            ["models", id, "versions"] => (id, ModelResource::Versions),
            ["models", id, "versions", version] => (id, ModelResource::Version(version.to_owned())),
            ["models", id, "download"] => (id, ModelResource::Download),
            _ => return None,
        };
        Some(Self::Model(id.to_owned(), resource))
    }
}

/// The methods that a path allows, besides OPTIONS.
pub fn allowed_methods(path: &str) -> &'static [Method] {
    match canonical(path) {
        EMBEDDINGS => &[Method::POST],
        "/v1/models" => &[Method::GET, Method::HEAD, Method::POST],
        _ => &[Method::GET, Method::HEAD],
    }
}

/// The value of `Allow` (RFC 9110, 10.2.1) for a path.
pub fn allow(path: &str) -> String {
    format!("{}, OPTIONS", methods(path, ", "))
}

/// The detail of the problem that a path does not allow `method`.
pub fn method_not_allowed(method: &Method, path: &str) -> String {
    format!("{method} is not allowed here; use {}", methods(path, " or "))
}

fn methods(path: &str, separator: &str) -> String {
    allowed_methods(path).iter().map(Method::as_str).collect::<Vec<_>>().join(separator)
}

/// The request headers that a page on another origin may send to a path.
pub fn allowed_headers(path: &str) -> &'static str {
    match canonical(path) {
        // OpenAI clients send a dozen headers of their own. `*` does not include Authorization.
        EMBEDDINGS | "/v1/models" => "*, Authorization",
        _ => HEADERS,
    }
}

/// The prefix under which requests for a path count against the rate limit. Requests for the bytes
/// of models are not limited.
pub fn rate_limited(path: &str) -> Option<&'static str> {
    let path = canonical(path);
    [API, HEALTH, HUB].into_iter().find(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_has_its_handler() {
        assert_eq!(Route::of("/v1/embeddings"), Route::Embeddings);
        assert_eq!(Route::of("/v1/embeddings/x"), Route::Api("embeddings/x"));
        assert_eq!(Route::of("/v1/models"), Route::Api("models"));
        assert_eq!(Route::of("/openai/v1/models"), Route::Api("models"));
        assert_eq!(Route::of("/openai/v1/embeddings"), Route::Embeddings);
        assert_eq!(Route::of("/healthz"), Route::Health);
        assert_eq!(Route::of("/ipfs/bafy/x"), Route::Ipfs("bafy/x"));
        for path in ["/", "", "/v1", "/models", "/healthz/", "//models/demo/model.onnx"] {
            assert_eq!(Route::of(path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn artifacts_have_our_paths_and_those_of_the_hub() {
        let model = |path: &str| match Route::of(path) {
            Route::Model(path) => (path.id, path.version.map(|version| version.to_string())),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(model("/models/demo/model.onnx"), ("demo".into(), None));
        assert_eq!(model("/models/demo/v1.2.3/model.onnx"), ("demo".into(), Some("1.2.3".into())));
        assert_eq!(model("/org/demo/resolve/main/model.onnx"), ("demo".into(), None));
        assert_eq!(model("/demo/resolve/main/onnx/model.onnx"), ("demo".into(), None));
        assert_eq!(model("/api/models/resolve/main/x"), ("models".into(), None));
        assert!(matches!(Route::of("/api/models/org/demo/tree/main"), Route::Hub(_)));
        assert_eq!(Route::of("/api/models/org/demo/settings"), Route::Unknown);
        assert_eq!(Route::of("/models/"), Route::NotAModelFile);
        assert_eq!(Route::of("/models/demo"), Route::NotAModelFile);
    }

    #[test]
    fn the_api_has_these_resources_and_no_others() {
        let model = |resource| Some(Resource::Model("demo".into(), resource));
        assert_eq!(Resource::of("openapi.json"), Some(Resource::OpenApi));
        assert_eq!(Resource::of("models"), Some(Resource::Models));
        assert_eq!(Resource::of("models/demo"), model(ModelResource::Newest));
        assert_eq!(Resource::of("models/demo/versions"), model(ModelResource::Versions));
        assert_eq!(
            Resource::of("models/demo/versions/1.0.0"),
            model(ModelResource::Version("1.0.0".into()))
        );
        assert_eq!(
            Resource::of("models/d%65mo/versions/1.0.0%2Bb.1"),
            model(ModelResource::Version("1.0.0+b.1".into()))
        );
        assert_eq!(Resource::of("models/demo/download"), model(ModelResource::Download));
        for path in
            ["", "model", "models/demo/upload", "models/demo/versions/1.0.0/x", "openapi.json/"]
        {
            assert_eq!(Resource::of(path), None, "{path}");
        }
    }

    #[test]
    fn methods_follow_the_path() {
        assert_eq!(allow("/v1/embeddings"), "POST, OPTIONS");
        assert_eq!(allow("/v1/models"), "GET, HEAD, POST, OPTIONS");
        assert_eq!(allow("/v1/models/demo"), "GET, HEAD, OPTIONS");
        assert_eq!(
            method_not_allowed(&Method::DELETE, "/models/demo/model.onnx"),
            "DELETE is not allowed here; use GET or HEAD"
        );
        assert!(allowed_headers("/v1/embeddings").starts_with('*'));
        for header in ["If-Range", "baggage", "sentry-trace", "traceparent", "tracestate"] {
            assert!(allowed_headers("/models/demo/model.onnx").contains(header), "{header}");
        }
    }

    #[test]
    fn only_the_api_and_the_health_check_are_rate_limited() {
        assert_eq!(rate_limited("/v1/models/demo"), Some("/v1/"));
        assert_eq!(rate_limited("/openai/v1/models"), Some("/v1/"));
        assert_eq!(rate_limited("/healthz"), Some("/healthz"));
        assert_eq!(rate_limited("/api/models/org/demo"), Some("/api/"));
        for path in ["/models/demo/model.onnx", "/ipfs/bafy", "/org/demo/resolve/main/v1/x", "/v1"]
        {
            assert_eq!(rate_limited(path), None, "{path}");
        }
    }
}
