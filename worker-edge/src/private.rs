//! Private models: whose files need a link ([`edge_net_core::http::link`]), and who is given links.

use std::time::Duration;

use edge_net_core::dag::unixfs::Digest;
use edge_net_core::http::link::{LinkKeys, Reach};
use edge_net_core::time::UnixTime;
use edge_net_driver::host;
use http::StatusCode;
use web_sys::Request;
use worker::Url;

use crate::log;

/// Which models are private, and the keys to them.
pub struct Private {
    /// Their ids.
    pub models: Vec<String>,
    /// What links are signed with.
    pub keys: Option<LinkKeys>,
    /// SHA-256 of the token that links are given for.
    pub token: Option<Digest>,
}

/// A request that is turned away, and what its problem says.
pub type Refused = (StatusCode, String);

impl Private {
    /// Whether a model's files need a link.
    pub fn contains(&self, id: &str) -> bool {
        self.models.iter().any(|model| model == id)
    }

    /// Lets a request for a file of the model `id` pass, if it may.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&self, id: &str, url: &Url) -> Result<(), Refused> {
        if !self.contains(id) {
            return Ok(());
        }
        let known = self.keys.as_ref().ok_or_else(unavailable)?;
        let checked = known.check(url.path(), url.query().unwrap_or_default(), host::unix_time());
        checked.map_err(|error| {
            let detail = format!(
                "{id} is private, and {error}; ask /v1/models/{id}/download for a new link"
            );
            (StatusCode::FORBIDDEN, detail)
        })
    }

    /// The query that makes a URL below `folder` a link for `lifetime`; `None` where none is needed.
    ///
    /// # Errors
    /// [`Refused`], when `request` does not come from who may have links.
    pub fn link(
        &self,
        id: &str,
        folder: &str,
        request: &Request,
        lifetime: Duration,
    ) -> Result<Option<Link>, Refused> {
        if !self.contains(id) {
            return Ok(None);
        }
        let (Some(keys), Some(token)) = (&self.keys, &self.token) else {
            return Err(unavailable());
        };
        let given = request.headers().get("Authorization").ok().flatten();
        let given = given.as_deref().and_then(|given| given.strip_prefix("Bearer "));
        // Digests are compared: how many bytes of a guess are right shows nowhere.
        if given.is_none_or(|given| Digest::of(given.as_bytes()) != *token) {
            let detail = format!(
                "{id} is private: send Authorization: Bearer with the token that its owner gave you"
            );
            return Err((StatusCode::UNAUTHORIZED, detail));
        }
        let expires = host::unix_time() + lifetime;
        Ok(Some(Link { query: keys.query(Reach::Below(folder), expires), expires }))
    }
}

/// See [`Private::link`].
pub struct Link {
    /// What is appended to a URL, after a question mark.
    pub query: String,
    /// When it ends.
    pub expires: UnixTime,
}

fn unavailable() -> Refused {
    log::error("not-configured")
        .say("PRIVATE_MODELS is set, but the secrets LINK_KEYS or LINK_TOKEN are not");
    (StatusCode::SERVICE_UNAVAILABLE, "links to private models are not configured here".into())
}
