// The edge's segment cache in workerd: what is fetched from the bucket, how often, and what is
// cached.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startStack } from '../dev/stack.mjs';
import { publishFile, setFault } from './publisher.mjs';
import { SEED, anyRange, random } from './ranges.mjs';

const SEGMENT = 4 << 20;

let published = 0;

/** Publishes random bytes, which are in no cache; resolves to them and their URL. */
async function publishTo(stack, size) {
  const bytes = randomBytes(size);
  const id = `random-${published++}`;
  await publishFile(stack, 'weights.bin', bytes, { id });
  return { bytes, id, url: `${stack.urls.edge}/models/${id}/weights.bin` };
}

async function get(url, range) {
  const response = await fetch(url, { headers: range ? { range } : {} });
  const body = Buffer.from(await response.arrayBuffer());
  const cache = /cache;desc=(\w+)/.exec(response.headers.get('server-timing') ?? '')?.[1];
  return { status: response.status, headers: response.headers, body, cache };
}

/** A fault without delay, which counts. */
const COUNT = { mode: 'slow', rate: Number.MAX_SAFE_INTEGER };

/** Sets a fault of dev/faults.mjs; resolves to its counts. */
const faultOf = async (url) => (await fetch(url)).json();

describe("the edge's segment cache", () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;

  before(async () => {
    stack = await startStack();
  });
  after(() => stack?.stop());
  afterEach(async () => {
    for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault])
      await setFault(url, { mode: 'none' });
  });

  const publish = (size) => publishTo(stack, size);
  /** Counts the requests for artifacts that reach the bucket. */
  const count = () => setFault(stack.urls.gcsFault, COUNT);
  const counted = async () => (await faultOf(stack.urls.gcsFault)).hits;

  test('a range fetches the segments that it touches, once', async () => {
    const { bytes, id, url } = await publish(5 * SEGMENT + 1234);
    await count();
    const across = `bytes=${2 * SEGMENT - 10}-${2 * SEGMENT + 9}`;
    for (const cache of ['miss', 'hit']) {
      const answer = await get(url, across);
      assert.equal(answer.status, 206);
      assert.equal(answer.cache, cache);
      const timing = answer.headers.get('server-timing');
      assert.match(timing, /origin;desc="gcs"/);
      // Cached segments were verified before they were stored.
      assert.equal(/, verify;dur=\d+$/.test(timing), cache === 'miss', timing);
      assert.equal(answer.headers.get('content-length'), '20');
      assert.ok(answer.body.equals(bytes.subarray(2 * SEGMENT - 10, 2 * SEGMENT + 10)));
      assert.equal(await counted(), 2);
    }
    // The same content at another URL is the same entry; the last segment is short.
    const tail = await get(url.replace(id, `${id}/v1.0.0`), 'bytes=-1');
    assert.ok(tail.body.equals(bytes.subarray(-1)));
    assert.equal(await counted(), 3);
    const whole = await get(url);
    assert.equal(whole.status, 200);
    assert.equal(whole.headers.get('content-length'), String(bytes.length));
    assert.ok(whole.body.equals(bytes));
    assert.equal(await counted(), 6);
  });

  test('a segment is fetched once for all waiting readers', async () => {
    const { bytes, url } = await publish(6 * SEGMENT);
    await count();
    const next = random(SEED);
    const asked = Array.from({ length: 200 }, () => anyRange(next, bytes.length)).filter(
      ({ bytes }) => bytes,
    );
    await Promise.all(
      asked.map(async ({ field, bytes: [start, end] }) => {
        const { status, body } = await get(url, field);
        assert.equal(status, 206, `SEED=${SEED}, ${field}`);
        assert.ok(body.equals(bytes.subarray(start, end)), `SEED=${SEED}, ${field}`);
      }),
    );
    assert.equal(await counted(), 6);
  });

  test('a segment with one leaf from another source is complete, and cached', async () => {
    const { bytes, url } = await publish(2 * SEGMENT);
    await setFault(stack.urls.gcsFault, { mode: 'corrupt', offset: SEGMENT + 1_000_000 });
    for (const cache of ['miss', 'hit']) {
      const { status, headers, body, cache: was } = await get(url, `bytes=${SEGMENT + 10}-`);
      assert.equal(status, 206);
      assert.ok(body.equals(bytes.subarray(SEGMENT + 10)));
      assert.equal(was, cache);
      assert.match(headers.get('server-timing'), /origin;desc="gcs\+ipfs"/);
    }
  });

  test('wrong bytes are never cached', async () => {
    const { bytes, url } = await publish(SEGMENT + 10);
    await setFault(stack.urls.gcsFault, { mode: 'corrupt', offset: 1000 });
    await setFault(stack.urls.ipfsFault, { mode: 'corrupt', offset: 1000 });
    const refused = await get(url, 'bytes=2000-2009');
    assert.equal(refused.status, 502);
    assert.match(
      JSON.parse(refused.body).detail,
      /gcs: it sent wrong bytes in leaf 0; ipfs: it sent wrong bytes in leaf 0/,
    );
    await setFault(stack.urls.ipfsFault, { mode: 'none' });
    await sleep(2100); // a failure is shared for two seconds
    const healed = await get(url, 'bytes=900-1100');
    assert.ok(healed.body.equals(bytes.subarray(900, 1101)));
    assert.equal(healed.cache, 'miss');
    assert.match(healed.headers.get('server-timing'), /ipfs/);
    assert.equal((await get(url, 'bytes=900-1100')).cache, 'hit');
  });

  test('a segment whose client disconnects is cached for the next', async () => {
    const { bytes, url } = await publish(SEGMENT);
    await setFault(stack.urls.gcsFault, { mode: 'slow', rate: SEGMENT });
    const left = new AbortController();
    const asked = fetch(url, { headers: { range: 'bytes=0-9' }, signal: left.signal });
    const open = async () => (await faultOf(stack.urls.gcsFault)).open;
    while ((await open()) === 0) await sleep(20);
    left.abort();
    await assert.rejects(asked);
    while ((await open()) > 0) await sleep(20);
    // It is cached a moment after it arrived; a request before that waits for it.
    const { body } = await get(url, 'bytes=10-19');
    assert.ok(body.equals(bytes.subarray(10, 20)));
    assert.equal((await get(url, 'bytes=10-19')).cache, 'hit');
    assert.equal(await counted(), 1);
  });

  test('with bucket and IPFS stopped, cached segments are served', async () => {
    const { bytes, url } = await publish(2 * SEGMENT);
    assert.ok((await get(url)).body.equals(bytes));
    await Promise.all([stack.stopGcs(), stack.stopIpfs()]);
    try {
      const { body, cache } = await get(url, `bytes=${SEGMENT - 5}-${SEGMENT + 4}`);
      assert.ok(body.equals(bytes.subarray(SEGMENT - 5, SEGMENT + 5)));
      assert.equal(cache, 'hit');
    } finally {
      await Promise.all([stack.startGcs(), stack.startIpfs()]);
    }
  });
});

// A hit takes one subrequest, a miss four. The manifest, the leaf table and four for the rest are
// reserved: of 20 subrequests, three segments are filled.
describe('with 20 subrequests', () => {
  const SEGMENTS = 16;
  const FILLED = 3;
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let uncached;

  before(async () => {
    stack = await startStack({ vars: { SUBREQUESTS: '20' } });
    uncached = await startStack({ vars: { SUBREQUESTS: '10', SEGMENT_CACHE: 'off' } });
  });
  after(() => Promise.all([stack?.stop(), uncached?.stop()]));
  afterEach(() => faults({ mode: 'none' }));

  /** Sets a fault of the bucket, and counts the requests to the IPFS node. */
  const faults = async (gcs, ipfs = gcs.mode === 'none' ? gcs : COUNT) => {
    await setFault(stack.urls.gcsFault, gcs);
    await setFault(stack.urls.ipfsFault, ipfs);
  };
  const counted = async () => [
    (await faultOf(stack.urls.gcsFault)).hits,
    (await faultOf(stack.urls.ipfsFault)).hits,
  ];

  test('the rest of an artifact comes in one body, bypassing the cache', async () => {
    const { bytes, url } = await publishTo(stack, SEGMENTS * SEGMENT - 1234);
    await faults(COUNT);
    const whole = await get(url);
    assert.equal(whole.headers.get('content-length'), String(bytes.length));
    assert.ok(whole.body.equals(bytes));
    assert.equal(whole.cache, 'miss');
    assert.deepEqual(await counted(), [FILLED + 1, 0]);
    assert.equal(
      (await get(url, `bytes=${FILLED * SEGMENT - 1}-${FILLED * SEGMENT - 1}`)).cache,
      'hit',
    );
    assert.equal((await get(url, `bytes=${FILLED * SEGMENT}-${FILLED * SEGMENT}`)).cache, 'miss');
    // The next request finds four, and fills as many as it may.
    await faults(COUNT);
    const [start, end] = [1000, bytes.length - 1000];
    const again = await get(url, `bytes=${start}-${end - 1}`);
    assert.ok(again.body.equals(bytes.subarray(start, end)));
    assert.equal(again.cache, 'hit');
    assert.deepEqual(await counted(), [3, 0]);
  });

  test('a wrong byte in the rest is replaced by another source', async () => {
    const { bytes, url } = await publishTo(stack, SEGMENTS * SEGMENT);
    await faults({ mode: 'corrupt', offset: 9 * SEGMENT + 5_000 });
    assert.ok((await get(url)).body.equals(bytes));
    assert.deepEqual(await counted(), [FILLED + 1, 2]); // the leaf, and all after its segment
  });

  test('a connection lost in the rest is replaced', async () => {
    const { bytes, url } = await publishTo(stack, SEGMENTS * SEGMENT);
    await faults({ mode: 'cut' });
    assert.ok((await get(url)).body.equals(bytes));
    const [gcs, ipfs] = await counted();
    assert.ok(gcs + ipfs < 10, `${gcs} + ${ipfs}`);
  });

  test('without the cache, the whole artifact comes in one body', async () => {
    const { bytes, url } = await publishTo(uncached, SEGMENTS * SEGMENT);
    await setFault(uncached.urls.gcsFault, COUNT);
    const { body, cache, headers } = await get(url, `bytes=5000-${bytes.length - 2}`);
    assert.ok(body.equals(bytes.subarray(5000, -1)));
    assert.equal(cache, 'off');
    assert.match(headers.get('server-timing'), /, verify;dur=\d+$/);
    assert.equal((await faultOf(uncached.urls.gcsFault)).hits, 1);
  });

  test('wrong at every source: the body is cut off and does not look complete', async () => {
    const { url } = await publishTo(stack, SEGMENTS * SEGMENT);
    const wrong = { mode: 'corrupt', offset: 9 * SEGMENT + 5_000 };
    await faults(wrong, wrong);
    await assert.rejects(get(url));
  });

  test('a slow client limits the read-ahead; a disconnect ends the request', async () => {
    const { bytes, url } = await publishTo(stack, 2 * SEGMENTS * SEGMENT);
    await faults(COUNT);
    const response = await fetch(url);
    const reader = response.body.getReader();
    for (let got = 0; got <= FILLED * SEGMENT;) got += (await reader.read()).value.length;
    let { sent, open } = await faultOf(stack.urls.gcsFault);
    // Until no more bytes arrive.
    for (let before = -1; sent !== before;) {
      before = sent;
      await sleep(500);
      ({ sent, open } = await faultOf(stack.urls.gcsFault));
    }
    // Most of the read-ahead is in sockets and proxies on the way.
    assert.equal(open, 1);
    assert.ok(sent < bytes.length, `${sent} of ${bytes.length}`);
    await reader.cancel();
    for (let i = 0; open && i < 100; i++) {
      await sleep(100);
      ({ sent, open } = await faultOf(stack.urls.gcsFault));
    }
    assert.equal(open, 0);
    assert.ok(sent < bytes.length, `${sent} of ${bytes.length}`);
  });
});
