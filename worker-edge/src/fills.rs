//! The fills of the isolate: a segment that the cache lacks is downloaded by one request, and the
//! requests that want it meanwhile wait for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use edge_net_driver::host;
use edge_net_driver::lease::{Attempt, Lease, Leases, Pauses, Terms};

/// Fills at once in the isolate: each holds its segment up to three times.
const MAX_FILLS: usize = 4;
/// A fill that made no progress for this long was cancelled with its request, in milliseconds. A
/// download waits less for a source that stalls.
const EXPIRY: u64 = 25_000;
/// How long a failure answers the requests that waited for the fill, in milliseconds.
const FAILED_FOR: u64 = 2_000;
/// Number of segments whose fills and failures are remembered.
const MAX_REMEMBERED: usize = 4096;
/// Shortest and longest pause of a request that waits, in milliseconds.
const PAUSES: (u64, u64) = (5, 100);
/// How long a request waits while no fill makes progress, in milliseconds: long enough to see that
/// one expired.
const PATIENCE: u64 = EXPIRY + 5_000;
/// How long a request waits for a fill at all, in milliseconds.
const LONGEST: u64 = 100_000;

thread_local! {
    static OF_ISOLATE: Fills = Fills::new();
}

/// Renews a fill at the time that it is given.
type Renewal = Box<dyn Fn(u64)>;

/// The right to fill one segment.
pub type Fill = Lease<String>;

/// A fill failed a short time ago, with this error.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed(pub String);

/// Fills by segment: the artifact's CID, a slash, and the segment's number.
struct Fills {
    leases: Leases<String>,
    /// How often a segment was filled.
    counts: RefCell<HashMap<String, u32>>,
    /// When a fill was begun, renewed or ended.
    progressed: Cell<u64>,
}

impl Fills {
    fn new() -> Self {
        let leases = Leases::new(Terms {
            expiry: EXPIRY,
            max_leases: MAX_FILLS,
            max_failures: MAX_REMEMBERED,
        });
        Self { leases, counts: RefCell::default(), progressed: Cell::default() }
    }

    fn count(&self, segment: &str) -> u32 {
        self.counts.borrow().get(segment).copied().unwrap_or_default()
    }

    /// Tries to take a fill. `None` if the segment was filled since `seen` was its count.
    fn attempt(&self, segment: &str, seen: Option<u32>, now: u64) -> Option<Attempt<String>> {
        let is_filled = seen.is_some_and(|seen| seen != self.count(segment));
        let attempt = (!is_filled).then(|| self.leases.attempt(segment, now));
        if let Some(Attempt::Granted(_)) = attempt {
            self.progressed.set(now);
        }
        attempt
    }

    /// Whether a request that waits since `started` waits in vain. While fills make progress it
    /// must not read on its own: a thousand that wait would all ask the source.
    fn is_stuck(&self, started: u64, now: u64) -> bool {
        now >= started.max(self.progressed.get()) + PATIENCE
    }

    fn end(&self, segment: &str, fill: Fill, result: Result<(), String>, now: u64) {
        self.progressed.set(now);
        match result {
            Ok(()) => {
                let _ = fill.succeed(); // Another fill of the segment does no harm.
                let mut counts = self.counts.borrow_mut();
                if counts.len() >= MAX_REMEMBERED {
                    counts.clear();
                }
                *counts.entry(segment.to_owned()).or_default() += 1;
            }
            Err(error) => drop(fill.fail(error, now, now + FAILED_FOR)),
        }
    }
}

/// The fills of one request. Its downloads renew them, and no others: a request that died must not
/// be taken for one that works because another reads the same file.
#[derive(Clone, Default)]
pub struct OwnFills(Rc<RefCell<HashMap<String, Renewal>>>);

impl OwnFills {
    /// Adds the fill of a segment.
    pub fn add(&self, segment: &str, fill: &Fill) {
        self.0.borrow_mut().insert(segment.to_owned(), Box::new(fill.renewal()));
    }

    /// Renews all: a download of the request makes progress.
    pub fn renew(&self) {
        let now = host::now();
        self.0.borrow().values().for_each(|renew| renew(now));
        OF_ISOLATE.with(|fills| fills.progressed.set(now));
    }

    /// Ends the fill of a segment.
    pub fn end(&self, segment: &str, fill: Fill, result: Result<(), String>) {
        self.0.borrow_mut().remove(segment);
        OF_ISOLATE.with(|fills| fills.end(segment, fill, result, host::now()));
    }
}

/// What a request gets that wants to fill a segment.
pub enum Turn {
    /// The right to fill it.
    Fill(Fill),
    /// Another request filled it meanwhile.
    Filled,
    /// Nothing, for too long, and no fill makes progress.
    Late,
}

/// How often a segment was filled.
pub fn count(segment: &str) -> u32 {
    OF_ISOLATE.with(|fills| fills.count(segment))
}

/// Waits for the right to fill a segment, until another request filled it since `seen` was its
/// count, or until [`PATIENCE`] passed without progress.
///
/// # Errors
/// [`Failed`] if another request failed to fill it, or after [`LONGEST`].
pub async fn acquire(segment: &str, seen: Option<u32>) -> Result<Turn, Failed> {
    let (shortest, longest) = PAUSES;
    let started = host::now();
    let mut pauses = Pauses::new(shortest, longest, started + LONGEST);
    loop {
        let now = host::now();
        match OF_ISOLATE.with(|fills| fills.attempt(segment, seen, now)) {
            None => return Ok(Turn::Filled),
            Some(Attempt::Granted(fill)) => return Ok(Turn::Fill(fill)),
            Some(Attempt::Failed(error)) => return Err(Failed(error)),
            Some(Attempt::Wait) if OF_ISOLATE.with(|fills| fills.is_stuck(started, now)) => {
                return Ok(Turn::Late);
            }
            Some(Attempt::Wait) => match pauses.next(now) {
                Some(pause) => host::sleep(pause).await,
                None => return Err(Failed("too many segments are wanted at once".into())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(fills: &Fills, segment: &str, seen: Option<u32>, now: u64) -> Fill {
        match fills.attempt(segment, seen, now) {
            Some(Attempt::Granted(fill)) => fill,
            other => panic!("{segment} at {now}: {other:?}"),
        }
    }

    #[test]
    fn a_request_that_waited_sees_that_the_segment_was_filled() {
        let fills = Fills::new();
        let seen = fills.count("cid/0");
        let fill = granted(&fills, "cid/0", Some(seen), 0);
        assert!(matches!(fills.attempt("cid/0", Some(seen), 1), Some(Attempt::Wait)));
        fills.end("cid/0", fill, Ok(()), 2);
        assert!(fills.attempt("cid/0", Some(seen), 3).is_none());
        // A cache that keeps nothing: the request fills the segment for itself.
        drop(granted(&fills, "cid/0", None, 3));
    }

    #[test]
    fn a_failure_answers_those_that_waited_and_is_forgotten_soon() {
        let fills = Fills::new();
        fills.end("cid/0", granted(&fills, "cid/0", Some(0), 0), Err("no source".into()), 10);
        let Some(Attempt::Failed(error)) = fills.attempt("cid/0", Some(0), 2009) else {
            panic!("the failure is not remembered");
        };
        assert_eq!(error, "no source");
        drop(granted(&fills, "cid/0", Some(0), 2010));
    }

    #[test]
    fn so_many_segments_are_filled_at_once() {
        let fills = Fills::new();
        let held: Vec<_> =
            (0..MAX_FILLS).map(|i| granted(&fills, &format!("cid/{i}"), Some(0), 0)).collect();
        assert!(matches!(fills.attempt("other/0", Some(0), 0), Some(Attempt::Wait)));
        drop(held);
        drop(granted(&fills, "other/0", Some(0), 0));
    }

    #[test]
    fn requests_wait_on_while_some_fill_makes_progress() {
        let fills = Fills::new();
        let _fill = granted(&fills, "cid/0", Some(0), 0);
        assert!(!fills.is_stuck(5, PATIENCE));
        assert!(fills.is_stuck(5, 5 + PATIENCE));
        fills.end("cid/1", granted(&fills, "cid/1", Some(0), 40_000), Ok(()), 50_000);
        assert!(!fills.is_stuck(5, 49_999 + PATIENCE));
        assert!(fills.is_stuck(5, 50_000 + PATIENCE));
    }

    #[test]
    fn a_fill_without_progress_is_taken_over_though_others_of_its_file_have_some() {
        let fills = Fills::new();
        let cancelled = granted(&fills, "cid/0", Some(0), 0);
        cancelled.renewal()(10_000);
        let other = granted(&fills, "cid/1", Some(0), 0);
        other.renewal()(34_000);
        assert!(matches!(fills.attempt("cid/0", Some(0), 34_999), Some(Attempt::Wait)));
        let successor = granted(&fills, "cid/0", Some(0), 35_000);
        fills.end("cid/0", cancelled, Err("late".into()), 35_001);
        assert!(matches!(fills.attempt("cid/0", Some(0), 35_002), Some(Attempt::Wait)));
        fills.end("cid/0", successor, Ok(()), 35_003);
        assert_eq!(fills.count("cid/0"), 1);
    }
}
