//! Bindings to the host: `fetch`, streams, WebCrypto, the clock and timers.

use std::ops::Range;
use std::time::Duration;

use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::LEAF_SIZE;
use edge_net_core::dag::verify::{Bytes, Hashed};
use edge_net_core::time::{Instant, UnixTime};
use edge_net_core::transfer::source::Failure;
use js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, Blob, ReadableStreamDefaultReader, Response};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = fetch)]
    fn host_fetch(url: &str, init: &Object) -> Promise;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = digest)]
    fn subtle_digest(algorithm: &str, bytes: &Uint8Array) -> Promise;

    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &Function, milliseconds: f64);

    /// A `ReadableStream` of bytes, which fills the caller's buffers: one call for each leaf
    /// instead of one for each packet.
    type ByteStream;
    #[wasm_bindgen(method, catch, js_name = getReader)]
    fn get_reader(this: &ByteStream, options: &Object) -> Result<ByobReader, JsValue>;

    #[derive(Debug)]
    type ByobReader;
    #[wasm_bindgen(method)]
    fn read(this: &ByobReader, view: &Uint8Array, options: &Object) -> Promise;
    #[wasm_bindgen(method)]
    fn cancel(this: &ByobReader) -> Promise;
}

/// Bytes in the host's memory.
#[derive(Debug, Clone)]
pub struct HostBytes {
    /// A view of the bytes.
    pub view: Uint8Array,
    /// The blob with the same bytes, if they were read from one: a browser stores a blob without
    /// another copy.
    pub blob: Option<Blob>,
}

impl From<Uint8Array> for HostBytes {
    fn from(view: Uint8Array) -> Self {
        Self { view, blob: None }
    }
}

impl Bytes for HostBytes {
    fn len(&self) -> u64 {
        self.view.length().into()
    }

    fn slice(&self, range: Range<u64>) -> Self {
        self.view.subarray(small(range.start), small(range.end)).into()
    }
}

/// A length within a segment or a table: far below 4 GiB.
pub(crate) fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The time on the host's wall clock.
#[must_use]
pub fn unix_time() -> UnixTime {
    UnixTime::from_millis(now())
}

/// The time on the clock of downloads: the wall clock, which goes on while a worker sleeps.
#[must_use]
pub fn instant() -> Instant {
    Instant::from_millis(now())
}

/// Milliseconds of the host's wall clock.
#[must_use]
pub fn now() -> u64 {
    whole(js_sys::Date::now())
}

/// A whole number of JavaScript; NaN and negative numbers are 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Saturates.
#[must_use]
pub const fn whole(number: f64) -> u64 {
    number as u64
}

/// Waits for some milliseconds.
pub async fn sleep(milliseconds: u64) {
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    let promise = Promise::new(&mut |resolve, _| set_timeout(&resolve, milliseconds as f64));
    let _ = JsFuture::from(promise).await;
}

/// The message of a thrown JavaScript value.
#[must_use]
pub fn message(error: &JsValue) -> String {
    error
        .dyn_ref::<js_sys::Error>()
        .map_or_else(|| error.as_string().unwrap_or_default(), |error| error.message().into())
}

/// Sends a GET with the header `fields` and the options of `init`.
///
/// # Errors
/// [`Failure::Unreachable`] when there is no response.
pub async fn get(
    url: &str,
    fields: &[(&str, &str)],
    init: &Object,
    signal: &AbortSignal,
) -> Result<Response, Failure> {
    let headers = Object::new();
    for (name, value) in fields {
        let _ = Reflect::set(&headers, &(*name).into(), &(*value).into());
    }
    let init = Object::assign(&Object::new(), init);
    let _ = Reflect::set(&init, &"headers".into(), &headers);
    let _ = Reflect::set(&init, &"signal".into(), signal);
    JsFuture::from(host_fetch(url, &init))
        .await
        .map(Response::from)
        .map_err(|error| Failure::Unreachable(message(&error)))
}

/// Lets go of a response whose body is not wanted: unread, it would keep its connection busy.
pub fn discard(response: &Response) {
    if let Some(body) = response.body() {
        // Not awaited: nothing depends on when the source notices.
        let _ = body.cancel();
    }
}

/// The value of a header field; `None` when it is missing or hidden by CORS.
#[must_use]
pub fn field(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).ok().flatten()
}

/// The length of `Retry-After` (RFC 9110, section 10.2.3), which is in seconds or a date.
#[must_use]
pub fn retry_after(response: &Response) -> Option<Duration> {
    let value = field(response, "Retry-After")?;
    let until = || UnixTime::from_millis(whole(js_sys::Date::parse(&value)));
    let length = value
        .parse::<u64>()
        .map_or_else(|_| until().duration_since(unix_time()), Duration::from_secs);
    Some(length)
}

/// Least bytes of each read: few enough that a fetch on a slow link makes progress long before its
/// stall limit.
const BATCH: u64 = 65_536;
/// The same of a body that is in memory already.
const LARGE_BATCH: u64 = 1 << 20;

/// Reads exactly `want` bytes of a body and calls `progressed` with the number of bytes so far. A
/// longer body is cancelled at once, so that no source can send without end.
///
/// # Errors
/// [`Failure::WrongLength`] for a shorter or longer body; [`Failure::Unreachable`] when the
/// connection breaks.
pub async fn read_exactly(
    response: &Response,
    want: u64,
    progressed: &dyn Fn(u64),
) -> Result<Uint8Array, Failure> {
    read_in_batches(response, want, BATCH, progressed).await
}

async fn read_in_batches(
    response: &Response,
    want: u64,
    batch: u64,
    progressed: &dyn Fn(u64),
) -> Result<Uint8Array, Failure> {
    let Ok(body) = ByteBody::of(response) else {
        return read_chunks(response, want, progressed).await;
    };
    let bytes = body.read_in_batches(want, batch, progressed).await?;
    body.end(want).await?;
    Ok(bytes)
}

/// A body that is a byte stream and is read in pieces.
#[derive(Debug)]
pub struct ByteBody(ByobReader);

impl ByteBody {
    /// The body of a response.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when there is no body, or it is not a byte stream.
    pub fn of(response: &Response) -> Result<Self, Failure> {
        let body =
            response.body().ok_or_else(|| Failure::Unreachable("there is no body".into()))?;
        let byob = Object::new();
        let _ = Reflect::set(&byob, &"mode".into(), &"byob".into());
        let reader = body.unchecked_ref::<ByteStream>().get_reader(&byob);
        reader.map(Self).map_err(|error| Failure::Unreachable(message(&error)))
    }

    /// Reads the next `want` bytes and leaves later ones in the body.
    ///
    /// # Errors
    /// [`Failure::WrongLength`] when the body ends before; [`Failure::Unreachable`] when the
    /// connection breaks.
    pub async fn read(&self, want: u64, progressed: &dyn Fn(u64)) -> Result<Uint8Array, Failure> {
        self.read_in_batches(want, BATCH, progressed).await
    }

    async fn read_in_batches(
        &self,
        want: u64,
        batch: u64,
        progressed: &dyn Fn(u64),
    ) -> Result<Uint8Array, Failure> {
        let broken = |error: JsValue| Failure::Unreachable(message(&error));
        let mut buffer = Uint8Array::new_with_length(small(want)).buffer();
        let mut got = 0;
        while got < want {
            let room = (want - got).min(batch.max(LEAF_SIZE));
            let least = Object::new();
            let _ = Reflect::set(&least, &"min".into(), &small(room.min(batch)).into());
            let view =
                Uint8Array::new_with_byte_offset_and_length(&buffer, small(got), small(room));
            let read = JsFuture::from(self.0.read(&view, &least)).await.map_err(broken)?;
            let value: Uint8Array =
                Reflect::get(&read, &"value".into()).map_err(broken)?.unchecked_into();
            if value.is_undefined() || value.length() == 0 {
                return Err(Failure::WrongLength { got, want });
            }
            got += u64::from(value.length());
            buffer = value.buffer();
            progressed(got);
        }
        Ok(Uint8Array::new(&buffer))
    }

    /// Waits for the end of a body from which `want` bytes were read.
    ///
    /// # Errors
    /// [`Failure::WrongLength`] when the body has more bytes.
    pub async fn end(&self, want: u64) -> Result<(), Failure> {
        let read =
            JsFuture::from(self.0.read(&Uint8Array::new_with_length(1), &Object::new())).await;
        let done = read
            .and_then(|read| Reflect::get(&read, &"done".into()))
            .map_err(|error| Failure::Unreachable(message(&error)))?;
        if done.is_truthy() {
            return Ok(());
        }
        // Not awaited: nothing depends on when the source notices.
        let _ = self.0.cancel();
        Err(Failure::WrongLength { got: want + 1, want })
    }
}

/// Reads exactly `want` bytes of a body with that `Content-Length` as a blob, without a task for
/// each packet, and then out of the blob. `progressed` is called once, when the last byte arrived.
///
/// # Errors
/// The same as [`read_exactly`].
pub async fn read_at_once(
    response: &Response,
    want: u64,
    progressed: &dyn Fn(u64),
) -> Result<HostBytes, Failure> {
    let broken = |error: JsValue| Failure::Unreachable(message(&error));
    let blob: Blob =
        JsFuture::from(response.blob().map_err(broken)?).await.map_err(broken)?.unchecked_into();
    progressed(want);
    let view = bytes_of(&blob).await?;
    match u64::from(view.length()) {
        got if got == want => Ok(HostBytes { view, blob: Some(blob) }),
        got => Err(Failure::WrongLength { got, want }),
    }
}

/// Reads a blob by its stream, which takes less processor time than its `arrayBuffer()`
/// (benches/README.md).
///
/// # Errors
/// [`Failure::Unreachable`] when the browser lost it.
pub async fn bytes_of(blob: &Blob) -> Result<Uint8Array, Failure> {
    let response = Response::new_with_opt_blob(Some(blob));
    let response = response.map_err(|error| Failure::Unreachable(message(&error)))?;
    read_in_batches(&response, whole(blob.size()), LARGE_BATCH, &|_| ()).await
}

/// [`read_exactly`] for a body that is not a byte stream.
async fn read_chunks(
    response: &Response,
    want: u64,
    progressed: &dyn Fn(u64),
) -> Result<Uint8Array, Failure> {
    let all = Uint8Array::new_with_length(small(want));
    let mut got = 0;
    each_chunk(response, |chunk| {
        let at = got;
        got += u64::from(chunk.length());
        if got > want {
            return false;
        }
        all.set(chunk, small(at));
        progressed(got);
        true
    })
    .await?;
    if got == want { Ok(all) } else { Err(Failure::WrongLength { got, want }) }
}

/// Reads a body of at most `most` bytes into the memory of WebAssembly: a manifest, table or block.
///
/// # Errors
/// [`Failure::WrongLength`] for a longer body; [`Failure::Unreachable`] when the connection breaks.
pub async fn read_at_most(response: &Response, most: u64) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    let mut got = 0;
    each_chunk(response, |chunk| {
        got += u64::from(chunk.length());
        let fits = got <= most;
        if fits {
            all.extend(chunk.to_vec());
        }
        fits
    })
    .await?;
    if got <= most { Ok(all) } else { Err(Failure::WrongLength { got, want: most }) }
}

/// Passes each chunk of a body to `take` until that returns false.
async fn each_chunk(
    response: &Response,
    mut take: impl FnMut(&Uint8Array) -> bool,
) -> Result<(), Failure> {
    let Some(body) = response.body() else {
        return Ok(());
    };
    let broken = |error: JsValue| Failure::Unreachable(message(&error));
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    loop {
        let read = JsFuture::from(reader.read()).await.map_err(broken)?;
        let done = Reflect::get(&read, &"done".into()).is_ok_and(|done| done.is_truthy());
        if done {
            return Ok(());
        }
        let chunk: Uint8Array =
            Reflect::get(&read, &"value".into()).map_err(broken)?.unchecked_into();
        if !take(&chunk) {
            // Not awaited: nothing depends on when the source notices.
            let _ = reader.cancel();
            return Ok(());
        }
    }
}

/// Hashes the leaves of `bytes`, which start at a leaf, with WebCrypto.
///
/// # Errors
/// [`Failure::Unreachable`] when the host cannot hash, as without a secure context.
pub async fn hash_leaves(bytes: HostBytes) -> Result<Hashed<HostBytes>, Failure> {
    let length = bytes.len();
    let digests = (0..length.div_ceil(LEAF_SIZE)).map(|leaf| {
        let view = bytes
            .view
            .subarray(small(leaf * LEAF_SIZE), small(((leaf + 1) * LEAF_SIZE).min(length)));
        subtle_digest("SHA-256", &view)
    });
    let digests = JsFuture::from(Promise::all(&digests.collect::<Array>())).await;
    let digests: Array =
        digests.map_err(|error| Failure::Unreachable(message(&error)))?.unchecked_into();
    let digests = digests.iter().map(|digest| {
        let mut array = [0; 32];
        Uint8Array::new(&digest).copy_to(&mut array);
        Digest(array)
    });
    let digests = digests.collect();
    Ok(Hashed::by_host(bytes, digests))
}
