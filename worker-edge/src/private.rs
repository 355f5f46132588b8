//! Private models: their files need a link ([`edge_net_core::http::link`]), and a token gives
//! links.

use std::time::Duration;

use edge_net_core::dag::digest::Digest;
use edge_net_core::http::link::{LinkKeys, Reach};
use edge_net_core::time::UnixTime;
use edge_net_driver::log;
use http::StatusCode;
use serde_json::{Map, Value};

/// Lifetime of the links of an embedding request.
const EMBEDDING: Duration = Duration::from_mins(10);

/// The private models, and their keys.
pub struct Private {
    /// Their ids.
    pub models: Vec<String>,
    /// The keys that sign links.
    pub keys: Option<LinkKeys>,
    /// SHA-256 of the token that gives links.
    pub token: Option<Digest>,
}

/// The status and the detail of the problem that a request is refused.
pub type Refused = (StatusCode, String);

impl Private {
    /// Whether a model's files need a link.
    pub fn contains(&self, id: &str) -> bool {
        self.models.iter().any(|model| model == id)
    }

    /// Checks that a request for a file of the model `id` may pass at `now`.
    ///
    /// # Errors
    /// [`Refused`], if the model is private and the URL is not a valid link.
    pub fn admit(&self, id: &str, path: &str, query: &str, now: UnixTime) -> Result<(), Refused> {
        if !self.contains(id) {
            return Ok(());
        }
        let keys = self.keys.as_ref().ok_or_else(unavailable)?;
        keys.check(path, query, now).map_err(|error| {
            let detail = format!(
                "{id} is private, and {error}; ask /v1/models/{id}/download for a new link"
            );
            (StatusCode::FORBIDDEN, detail)
        })
    }

    /// The query that makes a URL below `folder` a link for `lifetime` after `now`. `None` if the
    /// model is not private. `authorization` is the request's header.
    ///
    /// # Errors
    /// [`Refused`], if the header does not have the token.
    pub fn link(
        &self,
        id: &str,
        folder: &str,
        authorization: Option<&str>,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<Option<Link>, Refused> {
        if !self.contains(id) {
            return Ok(None);
        }
        let (Some(keys), Some(token)) = (&self.keys, &self.token) else {
            return Err(unavailable());
        };
        if !holds(authorization, *token) {
            let detail = format!(
                "{id} is private: send Authorization: Bearer with the token that its owner gave you"
            );
            return Err((StatusCode::UNAUTHORIZED, detail));
        }
        let expires = now + lifetime;
        Ok(Some(Link { query: keys.query(Reach::Below(folder), expires), expires }))
    }

    /// For each private model, the query of a link to its files, or null if the client of an
    /// embedding request may not have it: it needs the token, or the `query` of a link.
    pub fn links(&self, authorization: Option<&str>, query: &str, now: UnixTime) -> Value {
        let link = |id: &String| {
            let (folder, keys) = (format!("/models/{id}/"), self.keys.as_ref()?);
            let may = self.token.is_some_and(|token| holds(authorization, token))
                || keys.check(&folder, query, now).is_ok();
            may.then(|| keys.query(Reach::Below(&folder), now + EMBEDDING))
        };
        Value::Object(
            self.models.iter().map(|id| (id.clone(), link(id).into())).collect::<Map<_, _>>(),
        )
    }
}

/// Whether a request's `Authorization` has the token.
fn holds(authorization: Option<&str>, token: Digest) -> bool {
    let given = authorization.and_then(|given| given.strip_prefix("Bearer "));
    // The time to compare digests does not tell how many bytes of a guess are right.
    given.is_some_and(|given| Digest::of(given.as_bytes()) == token)
}

/// A link: see [`Private::link`].
#[derive(Debug)]
pub struct Link {
    /// The query of the URL.
    pub query: String,
    /// Its end.
    pub expires: UnixTime,
}

fn unavailable() -> Refused {
    log::error("not-configured")
        .say("PRIVATE_MODELS is set, but the secrets LINK_KEYS or LINK_TOKEN are not");
    (StatusCode::SERVICE_UNAVAILABLE, "links to private models are not configured here".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
    const MINUTE: Duration = Duration::from_mins(1);
    const FILE: &str = "/models/secret/model.onnx";

    fn private() -> Private {
        let keys = format!(r#"{{"current": "a", "keys": {{"a": "{}"}}}}"#, "A".repeat(43) + "=");
        Private {
            models: vec!["secret".into()],
            keys: Some(LinkKeys::parse(&keys).unwrap()),
            token: Some(Digest::of(b"token")),
        }
    }

    fn link(authorization: Option<&str>) -> Result<Option<Link>, Refused> {
        private().link("secret", "/models/secret/", authorization, MINUTE, NOW)
    }

    #[test]
    fn public_models_need_no_link_and_get_none() {
        assert!(private().admit("demo", "/models/demo/model.onnx", "", NOW).is_ok());
        assert!(private().link("demo", "/models/demo/", None, MINUTE, NOW).unwrap().is_none());
    }

    #[test]
    fn the_token_gives_a_link_that_expires() {
        let link = link(Some("Bearer token")).unwrap().unwrap();
        assert_eq!(link.expires, NOW + MINUTE);
        let admit = |path: &str, now| private().admit("secret", path, &link.query, now);
        assert_eq!(admit(FILE, NOW), Ok(()));
        assert_eq!(
            admit(FILE, NOW + Duration::from_secs(61)).unwrap_err().0,
            StatusCode::FORBIDDEN
        );
        assert_eq!(admit("/models/other/model.onnx", NOW).unwrap_err().0, StatusCode::FORBIDDEN);
    }

    #[test]
    fn without_a_link_a_file_is_forbidden() {
        let (status, detail) = private().admit("secret", FILE, "", NOW).unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(detail.contains("/v1/models/secret/download"), "{detail}");
    }

    #[test]
    fn an_embedding_needs_the_token_or_a_link() {
        let may = |authorization, query: &str| {
            private().links(authorization, query, NOW)["secret"].as_str().map(str::to_owned)
        };
        let query = may(Some("Bearer token"), "").unwrap();
        assert_eq!(private().admit("secret", FILE, &query, NOW), Ok(()));
        assert!(may(None, &query).is_some());
        assert_eq!(may(None, ""), None);
        assert_eq!(may(Some("Bearer other"), "expires=1"), None);
        let file = private().keys.unwrap().query(Reach::Path(FILE), NOW + MINUTE);
        assert_eq!(may(None, &file), None, "a link to one file");
    }

    #[test]
    fn without_the_token_there_is_no_link() {
        for given in
            [None, Some("token"), Some("Bearer other"), Some("Bearer "), Some("bearer token")]
        {
            assert_eq!(link(given).unwrap_err().0, StatusCode::UNAUTHORIZED, "{given:?}");
        }
    }
}
