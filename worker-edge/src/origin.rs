//! Downloads of one artifact from the bucket and the gateways, for one request.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use edge_net_core::dag::cid_text;
use edge_net_core::download::{self, Report};
use edge_net_core::layout::LEAVES_PER_SEGMENT;
use edge_net_core::manifest::Artifact;
use edge_net_core::source::Failure;
use edge_net_driver::lookup::{Accepted, Access as _, NoLeafTable};
use edge_net_driver::session::{Location, NoStore, Session};
use js_sys::Object;

use crate::config::Config;
use crate::{catalog, log, segments};

/// Requests to sources at once, of the six a Worker may have under way.
const LANES: usize = 2;
/// Segments in memory at the most.
const HELD: usize = 3;
/// Times a source is asked for a segment: the client's own machine asks again.
const ATTEMPTS: u32 = 3;

/// Where one artifact is downloaded from.
pub struct Origin {
    config: Rc<Config>,
    accepted: Rc<Accepted>,
    /// The artifact.
    pub artifact: Artifact,
    session: OnceCell<Session<NoStore>>,
    came_from: Rc<RefCell<BTreeMap<u64, String>>>,
}

impl Origin {
    /// The origins of `artifact`, which `accepted` lists.
    pub fn new(config: Rc<Config>, accepted: Rc<Accepted>, artifact: Artifact) -> Self {
        Self { config, accepted, artifact, session: OnceCell::new(), came_from: Rc::default() }
    }

    /// The download. Its leaf table is fetched when this is first called.
    ///
    /// # Errors
    /// Where there is no leaf table.
    pub async fn session(&self) -> Result<&Session<NoStore>, NoLeafTable> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let table = catalog::leaf_table(&self.config, &self.accepted.manifest, &self.artifact).await?;
        let mut locations = Vec::new();
        for source in &self.config.sources {
            let url = source.artifact_url(&self.accepted.manifest, &self.artifact);
            match self.config.credential.admit(source, url).await {
                Ok(url) => locations.push(Location { name: source.kind.name().to_owned(), url }),
                Err(failure) => log::error("not-signed").fact("source", source.kind.name()).say(failure),
            }
        }
        Ok(self.session.get_or_init(|| {
            // Whole segments: what the head says of the first is then true of all that follows it.
            let limits = download::Config {
                whole: true,
                lanes: LANES,
                held: HELD,
                attempts: ATTEMPTS,
                probe: LEAVES_PER_SEGMENT,
                share: false,
                store: false,
                seed: seed(),
                ..download::Config::default()
            };
            let report = self.report(locations.iter().map(|location| location.name.clone()).collect());
            Session::new(table, locations, Object::new(), NoStore, limits, &[], report)
        }))
    }

    /// Where a segment was downloaded from, such as `gcs` or `gcs+ipfs`; empty while it was not.
    pub fn came_from(&self, segment: u64) -> String {
        self.came_from.borrow().get(&segment).cloned().unwrap_or_default()
    }

    fn report(&self, sources: Vec<String>) -> impl Fn(Report) + 'static {
        let came_from = Rc::clone(&self.came_from);
        let manifest = &self.accepted.manifest;
        let (model, version, file) = (manifest.id.clone(), manifest.version.to_string(), self.artifact.filename.clone());
        let about = move |line: log::Line| line.fact("model", &*model).fact("version", &*version).fact("file", &*file);
        let cid = cid_text(&self.artifact.cid);
        move |report| match report {
            Report::Verified { segment, origins } => drop(came_from.borrow_mut().insert(segment, origins.join("+"))),
            Report::Refused { segment, source, failure } => {
                let line = about(log::warn("refused")).fact("segment", segment).fact("source", &*sources[source]);
                let line = if let Failure::Status(status) = failure { line.fact("status", status) } else { line };
                line.say(failure);
            }
            Report::Failed(error) => about(log::error("no-good-copy")).say(error),
            Report::Received { .. } => segments::alive(&cid),
        }
    }
}

fn seed() -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Any 53 bits will do.
    let seed = (js_sys::Math::random() * 9_007_199_254_740_992.0) as u64;
    seed
}
