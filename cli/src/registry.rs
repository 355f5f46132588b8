//! The client of an edge worker's registry.

use edge_net_core::http::registry::{Limit, Summary};
use edge_net_core::trust::manifest::MAX_MANIFEST_BYTES;
use semver::Version;
use serde_json::Value;
use ureq::Agent;

use crate::http::{self, HttpError, of_url};

/// The registry of an edge worker.
pub struct Registry {
    agent: Agent,
    base: String,
}

impl Registry {
    /// Returns the registry of the worker at the URL `edge`.
    pub fn new(edge: &str) -> Self {
        Self { agent: http::agent(), base: format!("{}/v1/models", edge.trim_end_matches('/')) }
    }

    /// Lists the models that match a query, from all pages.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn list(&self, query: &[(&str, &str)]) -> Result<Vec<Summary>, HttpError> {
        let mut models: Vec<Summary> = Vec::new();
        loop {
            let mut request = self
                .agent
                .get(&self.base)
                .query("limit", Limit::MOST.to_string())
                .query_pairs(query.iter().copied());
            if let Some(last) = models.last() {
                request = request.query("cursor", &last.id);
            }
            let url = &self.base;
            let response = http::accepted(url, request.call().map_err(of_url(url))?)?;
            let more = response.headers().get("Link").is_some();
            let text = http::text(url, response, MAX_MANIFEST_BYTES)?;
            let page: Vec<Summary> =
                serde_json::from_str(&text).map_err(|error| HttpError::BadResponse {
                    url: url.clone(),
                    problem: format!("not a list of models: {error}"),
                })?;
            // Identifiers ascend. A registry that sends the same page again must not keep us here.
            let new = page
                .last()
                .is_some_and(|last| models.last().is_none_or(|before| last.id > before.id));
            models.extend(page);
            if !more || !new {
                return Ok(models);
            }
        }
    }

    /// Returns the URL of a version's manifest.
    pub fn version(&self, id: &str, version: &Version) -> String {
        format!("{}/{id}/versions/{version}", self.base)
    }

    /// Reads the text at a URL; `None` when the status is 404.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn read(&self, url: &str) -> Result<Option<String>, HttpError> {
        let response = self.agent.get(url).call().map_err(of_url(url))?;
        if response.status() == 404 {
            return Ok(None);
        }
        http::text(url, http::accepted(url, response)?, MAX_MANIFEST_BYTES).map(Some)
    }

    /// Returns whether the registry lists a version, with exactly this manifest. The list is
    /// checked too because the manifest alone may come from the bucket.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn has(&self, id: &str, version: &Version, text: &str) -> Result<bool, HttpError> {
        let listed = self.read(&format!("{}/{id}/versions", self.base))?.unwrap_or_default();
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap_or_default();
        let listed = listed.iter().any(|release| release["version"] == version.to_string());
        Ok(listed && self.read(&self.version(id, version))?.as_deref() == Some(text))
    }

    /// Publishes a signed manifest.
    ///
    /// # Errors
    /// [`HttpError`]; a version that is already published has status 409.
    pub fn publish(&self, manifest: &str) -> Result<(), HttpError> {
        let url = &self.base;
        let sent = self.agent.post(url).header("Content-Type", "application/json").send(manifest);
        http::accepted(url, sent.map_err(of_url(url))?).map(drop)
    }
}
