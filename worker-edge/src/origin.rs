//! Downloads of one artifact from the bucket and the gateways, for one request.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::layout::LEAVES_PER_SEGMENT;
use edge_net_core::transfer::download::{self, Report};
use edge_net_core::transfer::source::Failure;
use edge_net_core::trust::manifest::Artifact;
use edge_net_driver::log;
use edge_net_driver::lookup::{Accepted, Access as _, NoLeafTable};
use edge_net_driver::rows::InRows;
use edge_net_driver::session::{Location, Reader, Session};
use js_sys::Object;

use crate::catalog;
use crate::config::Config;
use crate::subrequests::{Counted, Subrequests};

/// Requests to sources at once. A worker may have six open connections.
const LANES: usize = 2;
/// Maximum number of segments in memory.
const HELD: usize = 3;
/// The same where all segments come out of one response body, besides the segment that is being
/// sent to the client.
const HELD_OF_ROW: usize = 2;
/// Requests to a source for one segment. The client tries again itself.
const ATTEMPTS: u32 = 3;

/// Keeps no segments, and counts subrequests.
pub type Store = InRows<Subrequests>;
/// A download for one request.
pub type Download = Session<Store>;

/// The sources of one artifact.
pub struct Origin {
    config: Rc<Config>,
    accepted: Rc<Accepted>,
    /// The artifact.
    pub artifact: Artifact,
    /// The subrequests of the request.
    pub subrequests: Rc<Subrequests>,
    progress: Rc<dyn Fn()>,
    session: OnceCell<Download>,
    origins: Rc<RefCell<BTreeMap<u64, String>>>,
}

impl Origin {
    /// The sources of `artifact`, which `accepted` lists.
    pub fn new(config: Rc<Config>, accepted: Rc<Accepted>, artifact: Artifact) -> Self {
        let subrequests = Rc::new(Subrequests::new(config.subrequests));
        Self {
            config,
            accepted,
            artifact,
            subrequests,
            progress: Rc::new(|| ()),
            session: OnceCell::new(),
            origins: Rc::default(),
        }
    }

    /// Calls `progress` whenever bytes arrive.
    pub fn on_progress(self, progress: impl Fn() + 'static) -> Self {
        Self { progress: Rc::new(progress), ..self }
    }

    /// The download of single segments. The first call fetches the leaf table.
    ///
    /// # Errors
    /// If there is no leaf table.
    pub async fn session(&self) -> Result<&Download, NoLeafTable> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let session = self.open(LANES, HELD, 0).await?;
        Ok(self.session.get_or_init(|| session))
    }

    /// Reads bytes without the cache, with as few requests as possible: one, unless its response is
    /// bad.
    ///
    /// # Errors
    /// If there is no leaf table.
    pub async fn read(&self, bytes: Range<u64>) -> Result<Reader<Store>, NoLeafTable> {
        let layout = self.artifact.layout();
        let segments = layout.segments_of_bytes(&bytes);
        let session = if segments.end - segments.start > 1 {
            let end = layout.bytes_of_segment(segments.end - 1).end;
            &self.open(1, HELD_OF_ROW, end).await?
        } else {
            self.session().await?
        };
        Ok(session.read(bytes))
    }

    /// A download with `lanes` requests at once that holds `held` segments. Each request asks for
    /// all bytes up to `row_end`.
    async fn open(&self, lanes: usize, held: usize, row_end: u64) -> Result<Download, NoLeafTable> {
        let credential = &self.config.credential;
        let counted = Counted(credential, &self.subrequests);
        let table =
            catalog::leaf_table_by(&counted, &self.config, &self.accepted.manifest, &self.artifact)
                .await?;
        let mut locations = Vec::new();
        for source in &self.config.sources {
            let url = source.artifact_url(&self.accepted.manifest, &self.artifact);
            match credential.admit(source, url).await {
                Ok(url) => locations.push(Location { name: source.kind.name().to_owned(), url }),
                Err(failure) => {
                    log::error("not-signed").fact("source", source.kind.name()).say(failure);
                }
            }
        }
        // Whole segments from one source, so that the origin in the head is true of what follows.
        let limits = download::Config {
            whole: true,
            lanes,
            held,
            attempts: ATTEMPTS,
            probe: LEAVES_PER_SEGMENT,
            share: false,
            enough: 0,
            store: false,
            seed: seed(),
            ..download::Config::default()
        };
        let report = self.report(locations.iter().map(|location| location.name.clone()).collect());
        let store = InRows::new(Rc::clone(&self.subrequests), row_end);
        Session::new(table, locations, Object::new(), store, limits, &[], report)
            .map_err(|error| NoLeafTable::of(&self.artifact, &error))
    }

    /// The sources that a segment was downloaded from, such as `gcs` or `gcs+ipfs`; empty if it was
    /// not downloaded.
    pub fn origin_of(&self, segment: u64) -> String {
        self.origins.borrow().get(&segment).cloned().unwrap_or_default()
    }

    /// Handles the reports of a download from `sources`.
    fn report(&self, sources: Vec<String>) -> impl Fn(Report) + 'static {
        let (origins, progress) = (Rc::clone(&self.origins), Rc::clone(&self.progress));
        let manifest = &self.accepted.manifest;
        let (model, version, file) =
            (manifest.id.clone(), manifest.version.to_string(), self.artifact.filename.clone());
        let about = move |line: log::Line| {
            line.fact("model", &*model).fact("version", &*version).fact("file", &*file)
        };
        move |report| match report {
            Report::Verified { segment, origins: names } => {
                origins.borrow_mut().insert(segment, names.join("+"));
            }
            Report::Refused { segment, source, failure } => {
                let line = about(log::warn("refused"))
                    .fact("segment", segment)
                    .fact("source", &*sources[source.index()]);
                let line = if let Failure::Status(status) = failure {
                    line.fact("status", status)
                } else {
                    line
                };
                line.say(failure);
            }
            Report::Failed(error) => about(log::error("no-good-copy")).say(error),
            Report::Received { .. } => progress(),
            _ => {}
        }
    }
}

/// A seed of the download's random choices.
fn seed() -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Any 53 bits will do.
    let seed = (js_sys::Math::random() * 9_007_199_254_740_992.0) as u64;
    seed
}
