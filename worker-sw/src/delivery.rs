//! The bytes of an artifact: a blob from the store, or a stream from a download.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::transfer::download::{self, BadConfig, Report};
use edge_net_core::transfer::source::Source;
use edge_net_core::trust::manifest::{self, Manifest};
use edge_net_driver::host::message;
use edge_net_driver::into_stream;
use edge_net_driver::session::{Location, Session};
use wasm_bindgen::prelude::*;

use crate::artifact::Artifact;
use crate::config::{Config, fetch_options};
use crate::keeping::Artifacts;
use crate::reports::{self, Teller};
use crate::segments::Segments;

/// Delivers verified bytes.
pub struct Delivery {
    config: Rc<Config>,
    teller: Teller,
    artifacts: Rc<Artifacts>,
    /// The latest download: it has measured the sources most recently.
    last: RefCell<Option<Session<Segments>>>,
}

impl Delivery {
    /// A delivery without downloads.
    pub fn new(config: Rc<Config>, teller: Teller, artifacts: Rc<Artifacts>) -> Self {
        Self { config, teller, artifacts, last: RefCell::default() }
    }

    /// A byte range as the body of a response: a `Blob` when all of it is stored, else a
    /// `ReadableStream`, whose download starts when the stream is first read.
    ///
    /// # Errors
    /// A text that says why there is no leaf table, or no stream.
    pub async fn body(
        &self,
        manifest: &Manifest,
        file: &manifest::Artifact,
        bytes: Range<u64>,
    ) -> Result<JsValue, String> {
        let artifact = self.artifacts.find(manifest, file).await?;
        let blob = if bytes.is_empty() { None } else { artifact.kept(&bytes).await };
        if let Some(blob) = blob {
            let report =
                reports::of_download(self.teller.clone(), manifest, file, Vec::new(), || {});
            for segment in file.layout().segments_of_bytes(&bytes) {
                report(Report::Verified { segment, origins: Vec::new() });
            }
            return Ok(blob.into());
        }
        // An idle download has ended; a new one asks sources that failed again.
        if artifact.download.borrow().as_ref().is_none_or(Session::is_idle) {
            let download = self.download(manifest, file, &artifact);
            let download = download.map_err(|error| error.to_string())?;
            artifact.download.replace(Some(download));
        }
        let download = artifact.download.borrow().clone().ok_or("the download ended")?;
        into_stream(None, download.read(bytes)).map(JsValue::from).map_err(|error| message(&error))
    }

    fn download(
        &self,
        manifest: &Manifest,
        file: &manifest::Artifact,
        artifact: &Rc<Artifact>,
    ) -> Result<Session<Segments>, BadConfig> {
        let locate = |source: &Source| Location {
            name: source.kind.name().to_owned(),
            url: source.artifact_url(manifest, file),
        };
        let locations: Vec<Location> = self.config.sources.iter().map(locate).collect();
        let names = locations.iter().map(|location| location.name.clone()).collect();
        let complete = Rc::downgrade(artifact);
        let pack = move || {
            if let Some(artifact) = complete.upgrade() {
                artifact.pack_later();
            }
        };
        let report = reports::of_download(self.teller.clone(), manifest, file, names, pack);
        // A file larger than the budget is not stored and evicts nothing.
        let fits = self.config.budget.is_none_or(|budget| file.size <= budget);
        let limits = download::Config {
            lanes: self.config.lanes,
            share: self.config.share,
            store: fits,
            seed: seed(),
            ..download::Config::default()
        };
        let paces = self.last.borrow().as_ref().map(Session::paces).unwrap_or_default();
        let session = Session::new(
            Arc::clone(&artifact.table),
            locations,
            fetch_options(),
            self.artifacts.segments(artifact),
            limits,
            &paces,
            report,
        )?;
        self.last.replace(Some(session.clone()));
        Ok(session)
    }
}

/// A seed for the jitter of retries.
fn seed() -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Any 53 bits will do.
    let seed = (js_sys::Math::random() * 9_007_199_254_740_992.0) as u64;
    seed
}
