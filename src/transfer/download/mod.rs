//! The download of one artifact, as a state machine without I/O.
//!
//! A driver reports what happened ([`Download::handle`]) and obeys the machine's actions
//! ([`Download::poll`]): load a segment from the store, fetch leaves from a source, emit bytes to a
//! reader. Bytes are opaque handles ([`Bytes`](crate::dag::verify::Bytes)); only those that
//! [`LeafTable::verify_leaves`](crate::dag::verify::LeafTable::verify_leaves) accepts reach a
//! reader or the store.
//!
//! # Rules
//!
//! - Readers pull. A segment is fetched when it is one of the next [`Config::held`] segments of a
//!   reader. The next segment of every reader comes before segments further ahead, and the reader
//!   with the fewest bytes left comes first, so that a small range overtakes a whole file.
//! - All readers of the artifact share its segments.
//! - Sources work in order: the preferred one alone, while it is well ([`Config::enough`]). When it
//!   lags, the next one is asked for a few leaves, and takes over if it is more than twice as
//!   quick. When it fails, the next one works until it may be asked again.
//! - Or all sources work at once ([`Config::share`]). A segment goes to the source that is expected
//!   to deliver it first, judged by its earlier fetches. A source without earlier fetches gets a
//!   few leaves as a probe.
//! - A quick and near source is asked for few segments at once ([`Config::near`]), so that bytes
//!   arrive in order.
//! - A fetch that takes far longer than another source would need is repeated at that source. The
//!   first to deliver wins.
//! - Bad leaves are fetched again, alone, from another source. The source that sent them gets no
//!   more requests. Other failures are retried with exponential backoff and jitter, or when the
//!   source asks for it (`Retry-After`).
//! - A reader fails when no source is left for its next segment. It never ends short.
//!
//! # Run loop
//!
//! This loop downloads a range from two sources in memory, one of which is down. Its clock jumps to
//! the next event; a driver takes a real clock, runs fetches in parallel, and sleeps until
//! [`Download::next_timeout`] when nothing else happens before.
//!
//! ```
//! use std::collections::VecDeque;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use edge_net_core::dag::hasher::FileHasher;
//! use edge_net_core::dag::verify::{Hashed, LeafTable};
//! use edge_net_core::time::Instant;
//! use edge_net_core::transfer::download::{Action, Config, Download, Event, ReaderId};
//! use edge_net_core::transfer::source::Failure;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let artifact: Vec<u8> = (0..6_000_000_u32).map(|i| (i / 1000) as u8).collect();
//! let mut hasher = FileHasher::default();
//! hasher.update(&artifact);
//! let file = hasher.finish();
//!
//! // A client gets the size and the CID from a verified manifest, and the table from anywhere.
//! let table = LeafTable::from_digests(file.leaves, file.size, &file.cid)?;
//! let sources = vec!["down".to_owned(), "up".to_owned()];
//! let mut download = Download::<Arc<[u8]>>::new(table, sources, Config::default())?;
//!
//! let reader = ReaderId(0);
//! let mut received = Vec::new();
//! let mut now = Instant::EPOCH;
//! let mut events = VecDeque::from([
//!     Event::Opened { reader, bytes: 1_000_000..5_000_000 },
//!     Event::Pulled(reader),
//! ]);
//! 'run: loop {
//!     // 1. Report what happened, or that the time of the next timeout has come.
//!     let event = events.pop_front().unwrap_or_else(|| {
//!         now = download.next_timeout().expect("without a timeout, an event is to come");
//!         Event::Tick
//!     });
//!     download.handle(now, event);
//!
//!     // 2. Obey every action.
//!     while let Some(action) = download.poll() {
//!         match action {
//!             Action::Fetch { fetch, source, bytes, .. } => {
//!                 now = now + Duration::from_millis(5);
//!                 let range = usize::try_from(bytes.start)?..usize::try_from(bytes.end)?;
//!                 events.push_back(match source.index() {
//!                     0 => Event::Failed { fetch, failure: Failure::Status(503), rest: None },
//!                     _ => Event::Fetched {
//!                         fetch,
//!                         hashed: Hashed::here(artifact[range].into()),
//!                         origin: "up".to_owned(),
//!                     },
//!                 });
//!             }
//!             Action::Emit { bytes, .. } => {
//!                 received.extend_from_slice(&bytes);
//!                 events.push_back(Event::Pulled(reader));
//!             }
//!             Action::Close(_) => break 'run,
//!             Action::Fail { error, .. } => return Err(error.into()),
//!             // The store is empty and keeps nothing.
//!             Action::Load(segment) => events.push_back(Event::Loaded { segment, found: None }),
//!             Action::Forget(_) | Action::Store { .. } => {}
//!             // An event for an aborted fetch does no harm.
//!             Action::Abort(_) => {}
//!             Action::Report(report) => println!("{now:?}: {report:?}"),
//!         }
//!     }
//! }
//! assert!(received == artifact[1_000_000..5_000_000]);
//! # Ok(())
//! # }
//! ```

mod lag;
mod machine;
mod protocol;
mod segment;

pub use crate::transfer::health::Pace;
pub use machine::Download;
pub use protocol::{
    Action, BadConfig, Config, DownloadError, Event, FetchId, ReaderId, Report, SourceId,
};
