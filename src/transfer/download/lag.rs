//! In order: when the working source lags, and which source works instead.
//!
//! A source that delivers [`Config::enough`](super::Config::enough) is well, whatever others could
//! do: their bytes have a price. A fetch is late when it is behind that rate, with some time to
//! start with. Its source then counts as slow, and the next source in order whose pace is not known
//! is asked for the first few of the same leaves. Only measured paces are compared. If the other
//! source is more than twice as quick, late fetches are stopped and it works instead, until the
//! pace of the preferred source is too old to count.

use std::ops::Range;
use std::time::Duration;

use crate::dag::layout::LEAVES_PER_SEGMENT;
use crate::dag::verify::Bytes;
use crate::time::{Instant, millis};
use crate::transfer::download::machine::Download;
use crate::transfer::download::protocol::{Action, FetchId, SourceId};
use crate::transfer::download::segment::{Fetch, Segment};
use crate::transfer::health::Pace;

/// How long a source may take to respond.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the bytes of a response may stay away, at least: connections start slowly. As long as
/// the response itself took, if that is longer.
const START: Duration = Duration::from_millis(50);
/// How long a fetch of a source whose pace is known may take, besides three times that.
const DELAY: Duration = Duration::from_millis(500);
/// How much quicker than a late fetch the other source must be to stop it.
const GAIN: Duration = Duration::from_millis(50);
/// How long the pace of a source counts.
const MEMORY: Duration = Duration::from_mins(1);
/// A host that is later than this was busy: bytes that arrived meanwhile are not reported yet.
const BUSY: Duration = Duration::from_millis(20);
/// A fetch without a response is taken for as many times longer than it took so far.
const UNHEARD: u32 = 16;
/// Bytes that may have arrived and are not reported yet.
const UNTOLD: u64 = 64 << 10;
/// How long fetches are not judged after that.
const RESPITE: Duration = Duration::from_millis(25);
/// How long a host can be excused.
const MOST_RESPITE: Duration = Duration::from_millis(500);

impl<B: Bytes> Download<B> {
    /// Whether paces decide which source works.
    fn compares(&self) -> bool {
        !self.config.share && self.config.enough > 0 && self.sources.len() > 1
    }

    /// The pace of a source, if it is known and counts.
    pub(super) fn pace(&self, source: SourceId) -> Option<Pace> {
        let counts = |pace: &Pace| !self.compares() || pace.is_fresh(self.now, MEMORY);
        self.sources[source.index()].pace.filter(counts)
    }

    pub(super) fn is_slow(&self, source: SourceId) -> bool {
        self.pace(source).is_some_and(|pace| pace.rate() < self.config.enough)
    }

    /// Whether `best` is slow and `other` more than twice as quick: a fetch, or all fetches that
    /// were measured together. A link that they share is no reason for either.
    pub(super) fn outdoes(&self, other: SourceId, best: SourceId) -> bool {
        let (Some(theirs), Some(ours)) = (self.pace(other), self.pace(best)) else { return false };
        let takes = |pace: Pace| pace.expected(LEAVES_PER_SEGMENT);
        let quicker = takes(theirs) * 2 < takes(ours) || theirs.rate() / 2 > ours.rate();
        self.is_slow(best) && quicker
    }

    /// When a fetch will be late if no more bytes arrive.
    fn due(&self, fetch: &Fetch) -> Instant {
        match (fetch.answered, fetch.quick) {
            (None, _) => fetch.started + PATIENCE,
            (Some(_), Some(expected)) => fetch.started + DELAY.saturating_add(expected * 3),
            (Some(answered), None) => {
                let start = START.max(answered.duration_since(fetch.started));
                let all = fetch.got.saturating_mul(fetch.beside).saturating_mul(1000);
                let sent = all.checked_div(self.config.enough).unwrap_or(u64::MAX);
                answered + start + Duration::from_millis(sent)
            }
        }
    }

    /// When a fetch counts as late.
    fn late_from(&self, fetch: &Fetch) -> Instant {
        self.due(fetch).max(self.judge_from)
    }

    /// When the next fetch will count as late.
    pub(super) fn next_late(&self) -> Option<Instant> {
        let open = self.receiving().filter(|fetch| self.compares() && !fetch.late);
        open.map(|fetch| self.late_from(fetch)).min()
    }

    /// Gives a host that was busy time to report what arrived, before an event is handled.
    pub(super) fn excuse_host(&mut self, now: Instant) {
        let busy = |fetch: &Fetch| {
            !fetch.late
                && self.late_from(fetch) + BUSY <= now
                && self.due(fetch) + MOST_RESPITE > now
        };
        if self.compares() && self.receiving().any(busy) {
            self.judge_from = now + RESPITE;
        }
    }

    /// Marks late fetches, notes the pace of their sources, and stops those whose leaves another
    /// source is known to deliver much sooner.
    pub(super) fn judge(&mut self) {
        if !self.compares() {
            return;
        }
        let late = self
            .receiving()
            .filter(|fetch| !fetch.late && self.late_from(fetch) <= self.now)
            .map(|fetch| (fetch.id, self.estimate(fetch)));
        for (id, takes) in late.collect::<Vec<_>>() {
            let fetches = self.segments.iter_mut().flat_map(|segment| &mut segment.fetches);
            for fetch in fetches.filter(|fetch| fetch.id == id) {
                fetch.late = true;
                let health = &mut self.sources[fetch.source.index()];
                health.outlasted(self.now, fetch.count(), takes, fetch.beside);
            }
        }
        while let Some((at, id)) = self.outdone() {
            self.segments[at].fetches.retain(|fetch| fetch.id != id);
            self.actions.push_back(Action::Abort(id));
        }
    }

    /// How long a fetch takes if it goes on like this.
    fn estimate(&self, fetch: &Fetch) -> Duration {
        let Some(answered) = fetch.answered else {
            return self.now.duration_since(fetch.started).saturating_mul(UNHEARD);
        };
        let arriving = millis(self.now.duration_since(answered));
        let all = arriving * self.bytes_of(&fetch.leaves) / (fetch.got + UNTOLD);
        answered.duration_since(fetch.started) + Duration::from_millis(all)
    }

    /// How long a fetch would have taken that another one overtook; `None` if it had no time to
    /// show.
    pub(super) fn overtaken(&self, fetch: &Fetch) -> Option<Duration> {
        let elapsed = self.now.duration_since(fetch.started);
        if !self.compares() {
            return Some(elapsed);
        }
        (elapsed >= START).then(|| self.estimate(fetch))
    }

    /// A late fetch whose leaves another source is known to deliver much sooner: the place of its
    /// segment, and its name.
    fn outdone(&self) -> Option<(usize, FetchId)> {
        let is_outdone = |segment: &Segment<B>, fetch: &Fetch| {
            let other = self.choose(segment, &fetch.leaves);
            let needs = other
                .filter(|other| self.outdoes(*other, fetch.source))
                .and_then(|other| Some(self.pace(other)?.expected(fetch.count())));
            let remaining = fetch.remaining(self.bytes_of(&fetch.leaves), self.now);
            needs.is_some_and(|needs| remaining.is_none_or(|left| left > needs * 2 + GAIN))
        };
        self.segments.iter().enumerate().find_map(|(at, segment)| {
            let late = segment.fetches.iter().filter(|fetch| fetch.late);
            late.into_iter().find(|fetch| is_outdone(segment, fetch)).map(|fetch| (at, fetch.id))
        })
    }

    /// The fetch that measures the next source while one lags: a segment, a few leaves of a late
    /// fetch, and the source. There is one at a time, and it has a lane of its own. Sources after
    /// one that is known to be much quicker are not measured.
    pub(super) fn next_comparison(&self) -> Option<(u64, Range<u64>, SourceId)> {
        let unknown = |source: SourceId| self.pace(source).is_none();
        if !self.compares()
            || self.receiving().count() > self.config.lanes
            || self.fetches().any(|fetch| unknown(fetch.source))
        {
            return None;
        }
        self.in_order().into_iter().filter_map(|index| self.segment(index)).find_map(|segment| {
            let fetch = segment.alone().filter(|fetch| fetch.late)?;
            if self.source_ids().any(|source| self.outdoes(source, fetch.source)) {
                return None;
            }
            let leaves = segment.gap(&fetch.leaves, &[])?;
            // Half a probe: the late fetch goes on, so these bytes may arrive twice.
            let end = leaves.end.min(leaves.start + self.config.probe.div_ceil(2));
            let other = self
                .source_ids()
                .find(|source| unknown(*source) && self.may_ask(segment, *source))?;
            Some((segment.index, leaves.start..end, other))
        })
    }
}
