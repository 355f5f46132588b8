//! A request and its context.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use web_sys::Request;
use worker::{Context, Env};

use crate::config::Config;

/// A request, and what is needed to respond to it.
pub struct Call<'a> {
    /// The request.
    pub request: &'a Request,
    /// Its method.
    pub method: Method,
    /// Its URL.
    pub url: worker::Url,
    /// The bindings of the deployment.
    pub env: &'a Env,
    /// The configuration of the worker.
    pub config: Rc<Config>,
    /// Keeps the isolate alive for work that continues after the response.
    pub context: Rc<Context>,
}

impl Call<'_> {
    /// The request's headers among `names`. Each costs a call out of WASM.
    pub fn headers(&self, names: &[HeaderName]) -> HeaderMap {
        let headers = self.request.headers();
        let read = |name: &HeaderName| {
            let value = headers.get(name.as_str()).ok()??;
            Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?))
        };
        names.iter().filter_map(read).collect()
    }
}
