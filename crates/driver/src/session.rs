//! Runs one [`Download`] on the host.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use edge_net_core::dag::layout::LEAF_SIZE;
use edge_net_core::dag::verify::{Hashed, LeafTable};
use edge_net_core::time::Instant;
use edge_net_core::transfer::download::{
    Action, BadConfig, Config, Download, DownloadError, Event, FetchId, Pace, ReaderId, Report,
    SourceId,
};
use edge_net_core::transfer::source::{self, Failure, REFUSES_RANGES, check_head, range_field};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use js_sys::{Object, Uint8Array};
use wasm_bindgen_futures::spawn_local;
use web_sys::{AbortController, AbortSignal, Response};

use crate::host::{self, HostBytes, small};

/// A store of verified segments. Its segments are verified again when they are loaded.
#[allow(async_fn_in_trait)] // Nothing here leaves its thread.
pub trait SegmentStore: 'static {
    /// Whether it stores blobs: then responses are best read as blobs.
    const BLOBS: bool;
    /// The bytes of a segment, if the store has it.
    async fn load(&self, segment: u64) -> Option<Uint8Array>;
    /// Saves a segment, given in parts. A failure is silent: the download goes on.
    async fn save(&self, segment: u64, parts: Vec<HostBytes>);
    /// Removes a damaged segment.
    async fn forget(&self, segment: u64);
    /// Fetches whole leaves from a source and sets `rest` to its `Retry-After`. A type chooses the
    /// way, so that a module contains only one: code that a constant excludes would stay in the
    /// state machine of the future.
    fn fetch(
        session: &Session<Self>,
        fetch: FetchId,
        source: SourceId,
        bytes: &Range<u64>,
        quick: bool,
        rest: &Rest,
    ) -> impl Future<Output = Result<Fetched, Failure>>
    where
        Self: Sized,
    {
        session.fetch(fetch, source, bytes, quick, rest)
    }
    /// Notes that a reader left before its end.
    fn left(&self) {}
}

/// The bytes of a fetch, and their origin.
pub type Fetched = (Hashed<HostBytes>, String);
/// How long a source wants no requests (`Retry-After`).
pub type Rest = Cell<Option<Duration>>;

/// A source of a session.
#[derive(Debug, Clone)]
pub struct Location {
    /// Name for people, such as `gcs`.
    pub name: String,
    /// URL of the artifact at the source.
    pub url: String,
}

/// What a reader receives.
type Delivery = Result<HostBytes, DownloadError>;

/// A download that runs as long as it has readers.
pub struct Session<S>(Rc<Inner<S>>);

impl<S> Clone for Session<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("locations", &self.0.locations).finish_non_exhaustive()
    }
}

struct Inner<S> {
    machine: RefCell<Download<HostBytes>>,
    table: Arc<LeafTable>,
    locations: Vec<Location>,
    /// Sources that refused a range, by their index: they are asked for single leaves.
    by_leaf: RefCell<Vec<SourceId>>,
    init: Object,
    store: S,
    report: Box<dyn Fn(Report)>,
    readers: RefCell<Vec<(ReaderId, UnboundedSender<Delivery>)>>,
    next_reader: Cell<u64>,
    under_way: RefCell<Vec<(FetchId, AbortController)>>,
    /// Number of segments that are being saved.
    storing: Cell<usize>,
    /// When the earliest timer fires.
    timer: Cell<Option<Instant>>,
}

impl<S: SegmentStore> Session<S> {
    /// A session for the artifact of `table`. `init` has options of every `fetch`; `paces` are
    /// those that an earlier session with the same sources measured; `report` is called with each
    /// [`Report`].
    ///
    /// # Errors
    /// [`BadConfig`].
    pub fn new(
        table: Arc<LeafTable>,
        locations: Vec<Location>,
        init: Object,
        store: S,
        config: Config,
        paces: &[Option<Pace>],
        report: impl Fn(Report) + 'static,
    ) -> Result<Self, BadConfig> {
        let names = locations.iter().map(|location| location.name.clone()).collect();
        let machine = Download::new(Arc::clone(&table), names, config)?.knowing(paces);
        Ok(Self(Rc::new(Inner {
            machine: RefCell::new(machine),
            table,
            locations,
            by_leaf: RefCell::default(),
            init,
            store,
            report: Box::new(report),
            readers: RefCell::default(),
            next_reader: Cell::default(),
            under_way: RefCell::default(),
            storing: Cell::default(),
            timer: Cell::default(),
        })))
    }

    /// Opens a reader of a byte range. Fetching starts when the reader is first asked for bytes.
    #[must_use]
    pub fn read(&self, bytes: Range<u64>) -> Reader<S> {
        let id = ReaderId(self.0.next_reader.replace(self.0.next_reader.get() + 1));
        let (sender, receiver) = unbounded();
        self.0.readers.borrow_mut().push((id, sender));
        self.step(Event::Opened { reader: id, bytes });
        Reader { session: self.clone(), id, receiver }
    }

    /// The pace of each source, where known.
    #[must_use]
    pub fn paces(&self) -> Vec<Option<Pace>> {
        self.0.machine.borrow().paces()
    }

    /// Whether the session has no reader.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.machine.borrow().is_idle()
    }

    /// Whether a segment is being saved.
    #[must_use]
    pub fn is_storing(&self) -> bool {
        self.0.storing.get() > 0
    }

    pub(crate) fn step(&self, event: Event<HostBytes>) {
        self.0.machine.borrow_mut().handle(host::instant(), event);
        loop {
            let action = self.0.machine.borrow_mut().poll();
            let Some(action) = action else { break };
            self.perform(action);
        }
        self.set_timer();
    }

    fn perform(&self, action: Action<HostBytes>) {
        let this = self.clone();
        match action {
            Action::Load(segment) => spawn_local(async move {
                let found = this.load(segment).await;
                this.step(Event::Loaded { segment, found });
            }),
            Action::Forget(segment) => {
                spawn_local(async move {
                    this.0.store.forget(segment).await;
                });
            }
            Action::Store { segment, parts } => {
                self.0.storing.update(|storing| storing + 1);
                spawn_local(async move {
                    let parts = parts.into_iter().map(|part| part.bytes().clone()).collect();
                    this.0.store.save(segment, parts).await;
                    this.0.storing.update(|storing| storing - 1);
                });
            }
            Action::Fetch { fetch, source, bytes, quick } => spawn_local(async move {
                let rest = Cell::default();
                let event = match S::fetch(&this, fetch, source, &bytes, quick, &rest).await {
                    Ok((hashed, origin)) => Event::Fetched { fetch, hashed, origin },
                    Err(failure) => Event::Failed { fetch, failure, rest: rest.get() },
                };
                take(&this.0.under_way, fetch);
                this.step(event);
            }),
            Action::Abort(fetch) => {
                if let Some(controller) = take(&self.0.under_way, fetch) {
                    controller.abort();
                }
            }
            Action::Emit { reader, bytes } => self.tell(reader, Ok(bytes)),
            Action::Fail { reader, error } => {
                self.tell(reader, Err(error));
                take(&self.0.readers, reader);
            }
            Action::Close(reader) => drop(take(&self.0.readers, reader)),
            Action::Report(report) => (self.0.report)(report),
        }
    }

    fn tell(&self, reader: ReaderId, what: Delivery) {
        if let Some((_, sender)) = self.0.readers.borrow().iter().find(|(id, _)| *id == reader) {
            // A missing receiver has cancelled, which the machine learns from `Reader::drop`.
            let _ = sender.unbounded_send(what);
        }
    }

    /// Cancels a reader, unless it has ended.
    fn leave(&self, reader: ReaderId) {
        if take(&self.0.readers, reader).is_some() {
            self.step(Event::Cancelled(reader));
            self.0.store.left();
        }
    }

    async fn load(&self, segment: u64) -> Option<Hashed<HostBytes>> {
        host::hash_leaves(self.0.store.load(segment).await?.into()).await.ok()
    }

    pub(crate) fn store(&self) -> &S {
        &self.0.store
    }

    /// Fetches under way, with their abort controllers.
    pub(crate) fn under_way(&self) -> &RefCell<Vec<(FetchId, AbortController)>> {
        &self.0.under_way
    }

    /// Requests `bytes` from a source and checks the head of the response.
    pub(crate) async fn ask(
        &self,
        fetch: FetchId,
        source: SourceId,
        bytes: &Range<u64>,
        rest: &Rest,
    ) -> Result<Response, Failure> {
        let signal = self.begin(fetch)?;
        let size = self.0.table.layout().size();
        let range = range_field(bytes, size);
        let fields: Vec<(&str, &str)> =
            range.iter().map(|range| ("Range", range.as_str())).collect();
        let response =
            host::get(&self.0.locations[source.index()].url, &fields, &self.0.init, &signal)
                .await?;
        rest.set(host::retry_after(&response));
        let content_range = host::field(&response, "Content-Range");
        let checked = check_head(response.status(), content_range.as_deref(), bytes, size);
        if checked.is_err() {
            host::discard(&response);
        }
        if checked == Err(REFUSES_RANGES) {
            self.0.by_leaf.borrow_mut().push(source);
        }
        checked.map(|()| response)
    }

    /// Notes a fetch as under way; returns the signal that ends it.
    fn begin(&self, fetch: FetchId) -> Result<AbortSignal, Failure> {
        let refused = |error| Failure::Unreachable(host::message(&error));
        take(&self.0.under_way, fetch);
        let controller = AbortController::new().map_err(refused)?;
        let signal = controller.signal();
        self.0.under_way.borrow_mut().push((fetch, controller));
        Ok(signal)
    }

    /// Whether a source refused a range, and is asked for single leaves.
    pub(crate) fn refuses_ranges(&self, source: SourceId) -> bool {
        self.0.by_leaf.borrow().contains(&source)
    }

    /// Fetches leaves one after the other, as raw blocks of a gateway. `ask` is called before each
    /// request.
    pub(crate) async fn leaf_by_leaf(
        &self,
        fetch: FetchId,
        source: SourceId,
        bytes: &Range<u64>,
        ask: impl Fn() -> Result<(), Failure>,
    ) -> Result<HostBytes, Failure> {
        let signal = self.begin(fetch)?;
        let digests = self.0.table.digests();
        let all = Uint8Array::new_with_length(small(bytes.end - bytes.start));
        let mut at = bytes.start;
        while at < bytes.end {
            let digest = usize::try_from(at / LEAF_SIZE).ok().and_then(|leaf| digests.get(leaf));
            let url = &self.0.locations[source.index()].url;
            let url = digest.and_then(|leaf| source::leaf_url(url, leaf)).ok_or(REFUSES_RANGES)?;
            ask()?;
            let response = host::get(&url, &[], &self.0.init, &signal).await?;
            if response.status() != 200 {
                host::discard(&response);
                return Err(Failure::Status(response.status()));
            }
            let done = at - bytes.start;
            let progressed = |got| self.step(Event::Progressed { fetch, bytes: done + got });
            let length = LEAF_SIZE.min(bytes.end - at);
            let body = host::read_exactly(&response, length, &progressed).await?;
            all.set(&body, small(done));
            at += length;
        }
        Ok(all.into())
    }

    /// The name of a source.
    pub(crate) fn name(&self, source: SourceId) -> String {
        self.0.locations[source.index()].name.clone()
    }

    /// The origin of a response's bytes.
    pub(crate) fn origin(&self, id: SourceId, response: &Response) -> String {
        let timing = host::field(response, "Server-Timing");
        source::origin(&self.0.locations[id.index()].name, timing.as_deref())
    }

    async fn fetch(
        &self,
        fetch: FetchId,
        source: SourceId,
        bytes: &Range<u64>,
        quick: bool,
        rest: &Rest,
    ) -> Result<Fetched, Failure> {
        let response = if self.refuses_ranges(source) {
            Err(REFUSES_RANGES)
        } else {
            self.ask(fetch, source, bytes, rest).await
        };
        let response = match response {
            Err(REFUSES_RANGES) => {
                let body = self.leaf_by_leaf(fetch, source, bytes, || Ok(())).await?;
                return Ok((host::hash_leaves(body).await?, self.name(source)));
            }
            response => response?,
        };
        // The response's head marks the source's latency.
        self.step(Event::Progressed { fetch, bytes: 0 });
        let want = bytes.end - bytes.start;
        // A body of unknown or unexpected length is read in pieces.
        let as_long = host::field(&response, "Content-Length")
            .is_some_and(|length| length.parse() == Ok(want));
        let progressed = |bytes| self.step(Event::Progressed { fetch, bytes });
        let body = if S::BLOBS && quick && as_long {
            host::read_at_once(&response, want, &progressed).await?
        } else {
            host::read_exactly(&response, want, &progressed).await?.into()
        };
        let origin = self.origin(source, &response);
        Ok((host::hash_leaves(body).await?, origin))
    }

    /// Sets a timer for the machine's next timeout, unless one fires before.
    fn set_timer(&self) {
        let Some(at) = self.0.machine.borrow().next_timeout() else {
            return;
        };
        if self.0.timer.get().is_some_and(|timer| timer <= at) {
            return;
        }
        self.0.timer.set(Some(at));
        let this = Rc::downgrade(&self.0);
        spawn_local(async move {
            host::sleep(at.as_millis().saturating_sub(host::now())).await;
            if let Some(inner) = this.upgrade() {
                if inner.timer.get() == Some(at) {
                    inner.timer.set(None);
                }
                Self(inner).step(Event::Tick);
            }
        });
    }
}

/// Removes the entry with this key from a short list.
fn take<K: Copy + PartialEq, T>(list: &RefCell<Vec<(K, T)>>, key: K) -> Option<T> {
    let mut list = list.borrow_mut();
    let at = list.iter().position(|(id, _)| *id == key)?;
    Some(list.swap_remove(at).1)
}

/// Reads a byte range of an artifact; its bytes are verified.
pub struct Reader<S: SegmentStore> {
    session: Session<S>,
    id: ReaderId,
    receiver: UnboundedReceiver<Delivery>,
}

impl<S: SegmentStore> fmt::Debug for Reader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<S: SegmentStore> Reader<S> {
    /// The next bytes; `None` after the last.
    pub async fn next(&mut self) -> Option<Delivery> {
        if let Ok(ready) = self.receiver.try_recv() {
            return Some(ready);
        }
        self.session.step(Event::Pulled(self.id));
        self.receiver.next().await
    }

    /// A function that cancels this reader while it waits.
    pub(crate) fn canceller(&self) -> impl Fn() + 'static {
        let (session, id) = (self.session.clone(), self.id);
        move || session.leave(id)
    }
}

impl<S: SegmentStore> Drop for Reader<S> {
    fn drop(&mut self) {
        self.session.leave(self.id);
    }
}
