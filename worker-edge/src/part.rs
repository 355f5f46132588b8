//! Verified bytes of one segment, and the reasons why they are not available.

use edge_net_core::transfer::download::DownloadError;
use edge_net_driver::host::{self, HostBytes};
use edge_net_driver::lookup::NoLeafTable;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{StreamPipeOptions, WritableStream};

use crate::fills::Failed;
use crate::streams;

/// Why bytes of an artifact are not available.
#[derive(Debug, thiserror::Error)]
pub enum NoPart {
    /// No source has a good copy.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// No source has a leaf table.
    #[error(transparent)]
    LeafTable(#[from] NoLeafTable),
    /// Another request failed a short time ago.
    #[error("{0}")]
    Earlier(String),
    /// The host ended the download.
    #[error("the download of segment {0} was ended")]
    Ended(u64),
}

impl From<Failed> for NoPart {
    fn from(Failed(error): Failed) -> Self {
        Self::Earlier(error)
    }
}

/// Bytes of one segment.
pub struct Part {
    /// The bytes.
    pub body: Body,
    /// Their sources, such as `gcs` or `gcs+ipfs`.
    pub origin: String,
    /// Whether the cache had them.
    pub hit: bool,
    /// Their number.
    pub length: u64,
    /// Time to verify them, in milliseconds, if this request did.
    pub verifying: Option<u64>,
}

/// The place of the bytes of a [`Part`].
pub enum Body {
    /// The cache's response.
    Cached(web_sys::Response),
    /// Memory: the cache did not keep them.
    InMemory(HostBytes),
}

impl Body {
    /// Lets go of the bytes unread.
    pub fn discard(&self) {
        if let Self::Cached(response) = self {
            host::discard(response);
        }
    }

    /// Writes all bytes. The host copies those of the cache without WASM.
    ///
    /// # Errors
    /// When the client left.
    pub async fn send(&self, writable: &WritableStream) -> Result<(), JsValue> {
        match self {
            Self::Cached(response) => {
                let options = StreamPipeOptions::new();
                options.set_prevent_close(true);
                let body = response.body().ok_or(JsValue::NULL)?;
                JsFuture::from(body.pipe_to_with_options(writable, &options)).await.map(drop)
            }
            Self::InMemory(bytes) => streams::write(writable, &bytes.view).await,
        }
    }
}
