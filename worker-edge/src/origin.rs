//! Downloads of one artifact from the bucket and the gateways, for one request.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::layout::LEAVES_PER_SEGMENT;
use edge_net_core::dag::unixfs::cid_text;
use edge_net_core::transfer::download::{self, Report};
use edge_net_core::transfer::source::Failure;
use edge_net_core::trust::manifest::Artifact;
use edge_net_driver::lookup::{Accepted, Access as _, NoLeafTable};
use edge_net_driver::rows::InRows;
use edge_net_driver::session::{Location, Reader, Session};
use js_sys::Object;

use crate::config::Config;
use crate::subrequests::{Counted, Subrequests};
use crate::{catalog, log, segments};

/// Requests to sources at once, of the six a Worker may have under way.
const LANES: usize = 2;
/// Segments in memory at the most.
const HELD: usize = 3;
/// The same where they come out of one body, besides the one on its way to the client.
const HELD_OF_ROW: usize = 2;
/// Times a source is asked for a segment: the client's own machine asks again.
const ATTEMPTS: u32 = 3;

/// Keeps nothing; counts.
pub type Store = InRows<Subrequests>;
/// A download for one request.
pub type Download = Session<Store>;

/// Where one artifact is downloaded from.
pub struct Origin {
    config: Rc<Config>,
    accepted: Rc<Accepted>,
    /// The artifact.
    pub artifact: Artifact,
    /// What may still be asked.
    pub subrequests: Rc<Subrequests>,
    session: OnceCell<Download>,
    came_from: Rc<RefCell<BTreeMap<u64, String>>>,
}

impl Origin {
    /// The origins of `artifact`, which `accepted` lists.
    pub fn new(config: Rc<Config>, accepted: Rc<Accepted>, artifact: Artifact) -> Self {
        let subrequests = Rc::new(Subrequests::new(config.subrequests));
        Self {
            config,
            accepted,
            artifact,
            subrequests,
            session: OnceCell::new(),
            came_from: Rc::default(),
        }
    }

    /// The download of single segments. Its leaf table is fetched when this is first called.
    ///
    /// # Errors
    /// Where there is no leaf table.
    pub async fn session(&self) -> Result<&Download, NoLeafTable> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let session = self.open(LANES, HELD, 0).await?;
        Ok(self.session.get_or_init(|| session))
    }

    /// Reads bytes past the cache, as few requests as can be: one, unless something is wrong with what it brings.
    ///
    /// # Errors
    /// Where there is no leaf table.
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

    /// A download with so many lanes that holds so many segments, and asks for all that comes before `row_end` at once.
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
                    log::error("not-signed").fact("source", source.kind.name()).say(failure)
                }
            }
        }
        // Whole segments: what the head says of the first is then true of all that follows it.
        let limits = download::Config {
            whole: true,
            lanes,
            held,
            attempts: ATTEMPTS,
            probe: LEAVES_PER_SEGMENT,
            share: false,
            store: false,
            seed: seed(),
            ..download::Config::default()
        };
        let report = self.report(locations.iter().map(|location| location.name.clone()).collect());
        let store = InRows::new(Rc::clone(&self.subrequests), row_end);
        Ok(Session::new(table, locations, Object::new(), store, limits, &[], report))
    }

    /// Where a segment was downloaded from, such as `gcs` or `gcs+ipfs`; empty while it was not.
    pub fn came_from(&self, segment: u64) -> String {
        self.came_from.borrow().get(&segment).cloned().unwrap_or_default()
    }

    fn report(&self, sources: Vec<String>) -> impl Fn(Report) + 'static {
        let came_from = Rc::clone(&self.came_from);
        let manifest = &self.accepted.manifest;
        let (model, version, file) =
            (manifest.id.clone(), manifest.version.to_string(), self.artifact.filename.clone());
        let about = move |line: log::Line| {
            line.fact("model", &*model).fact("version", &*version).fact("file", &*file)
        };
        let cid = cid_text(&self.artifact.cid);
        move |report| match report {
            Report::Verified { segment, origins } => {
                drop(came_from.borrow_mut().insert(segment, origins.join("+")))
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
            Report::Received { .. } => segments::alive(&cid),
            _ => {}
        }
    }
}

fn seed() -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Any 53 bits will do.
    let seed = (js_sys::Math::random() * 9_007_199_254_740_992.0) as u64;
    seed
}
