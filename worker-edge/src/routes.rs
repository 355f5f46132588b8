//! The routing table: which handler serves a path, which methods it allows, and which paths are
//! rate limited.

use edge_net_core::http::answer::ModelPath;
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
        } else {
            let hub = path.strip_prefix('/').and_then(ModelPath::parse_hub);
            hub.map_or(Self::Unknown, Self::Model)
        }
    }
}

/// A resource of the registry API.
#[derive(Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// `openapi.json`.
    OpenApi,
    /// `models`: the list of models.
    Models,
    /// A resource of the model with this id.
    Model(&'a str, ModelResource<'a>),
}

/// A resource of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelResource<'a> {
    /// `models/{id}`: the newest manifest.
    Newest,
    /// `models/{id}/versions`: the list of versions.
    Versions,
    /// `models/{id}/versions/{version}`: the manifest of a version.
    Version(&'a str),
    /// `models/{id}/download`: the download URLs.
    Download,
}

impl<'a> Resource<'a> {
    /// The resource at `path`, which is the part below `/v1/`.
    pub fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        Some(match parts.as_slice() {
            ["openapi.json"] => Self::OpenApi,
            ["models"] => Self::Models,
            ["models", id] => Self::Model(id, ModelResource::Newest),
            ["models", id, "versions"] => Self::Model(id, ModelResource::Versions),
            ["models", id, "versions", version] => Self::Model(id, ModelResource::Version(version)),
            ["models", id, "download"] => Self::Model(id, ModelResource::Download),
            _ => return None,
        })
    }
}

/// The methods that a path allows, besides OPTIONS.
pub fn allowed_methods(path: &str) -> &'static [Method] {
    match path {
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
    match path {
        // OpenAI clients send a dozen headers of their own. `*` does not include Authorization.
        EMBEDDINGS => "*, Authorization",
        _ => "Range, If-Range, If-Match, If-None-Match, Authorization, Content-Type",
    }
}

/// The prefix under which requests for a path count against the rate limit. Requests for the bytes
/// of models are not limited.
pub fn rate_limited(path: &str) -> Option<&'static str> {
    [API, HEALTH].into_iter().find(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_has_its_handler() {
        assert_eq!(Route::of("/v1/embeddings"), Route::Embeddings);
        assert_eq!(Route::of("/v1/embeddings/x"), Route::Api("embeddings/x"));
        assert_eq!(Route::of("/v1/models"), Route::Api("models"));
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
        assert_eq!(Route::of("/models/"), Route::NotAModelFile);
        assert_eq!(Route::of("/models/demo"), Route::NotAModelFile);
    }

    #[test]
    fn the_api_has_these_resources_and_no_others() {
        let model = |resource| Some(Resource::Model("demo", resource));
        assert_eq!(Resource::of("openapi.json"), Some(Resource::OpenApi));
        assert_eq!(Resource::of("models"), Some(Resource::Models));
        assert_eq!(Resource::of("models/demo"), model(ModelResource::Newest));
        assert_eq!(Resource::of("models/demo/versions"), model(ModelResource::Versions));
        assert_eq!(
            Resource::of("models/demo/versions/1.0.0"),
            model(ModelResource::Version("1.0.0"))
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
        assert!(allowed_headers("/models/demo/model.onnx").contains("If-Range"));
    }

    #[test]
    fn only_the_api_and_the_health_check_are_rate_limited() {
        assert_eq!(rate_limited("/v1/models/demo"), Some("/v1/"));
        assert_eq!(rate_limited("/healthz"), Some("/healthz"));
        for path in ["/models/demo/model.onnx", "/ipfs/bafy", "/org/demo/resolve/main/v1/x", "/v1"]
        {
            assert_eq!(rate_limited(path), None, "{path}");
        }
    }
}
