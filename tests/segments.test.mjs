// The edge's segment cache, in workerd: what is fetched from the bucket, how often, and what is kept.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startStack } from '../dev/stack.mjs';
import { setFault } from './publisher.mjs';
import { SEED, anyRange, random } from './ranges.mjs';

const SEGMENT = 4 << 20;

describe("the edge's segment cache", () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  let published = 0;

  before(async () => {
    stack = await startStack();
  });
  after(() => stack?.stop());
  afterEach(async () => {
    for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault]) await setFault(url, { mode: 'none' });
  });

  /** Publishes random bytes, which no cache has, and resolves to them and their URL. */
  const publish = async (size) => {
    const bytes = randomBytes(size);
    const id = `random-${published++}`;
    const dir = await mkdtemp(join(tmpdir(), 'edge-net-model-'));
    await writeFile(join(dir, 'weights.bin'), bytes);
    await stack.publish({ dir, id, version: '1.0.0', type: 'embedding', name: id });
    await rm(dir, { recursive: true });
    return { bytes, id, url: `${stack.urls.edge}/models/${id}/weights.bin` };
  };
  const get = async (url, range) => {
    const response = await fetch(url, { headers: range ? { range } : {} });
    const body = Buffer.from(await response.arrayBuffer());
    const cache = /cache;desc=(\w+)/.exec(response.headers.get('server-timing') ?? '')?.[1];
    return { status: response.status, headers: response.headers, body, cache };
  };
  /** Counts the requests for artifacts that reach the bucket: a fault that slows nothing down. */
  const count = () => setFault(stack.urls.gcsFault, { mode: 'slow', rate: Number.MAX_SAFE_INTEGER });
  const counted = async () => (await (await fetch(stack.urls.gcsFault)).json()).hits;

  test('a range costs the segments that it touches, once', async () => {
    const { bytes, id, url } = await publish(5 * SEGMENT + 1234);
    await count();
    const across = `bytes=${2 * SEGMENT - 10}-${2 * SEGMENT + 9}`;
    for (const cache of ['miss', 'hit']) {
      const answer = await get(url, across);
      assert.equal(answer.status, 206);
      assert.equal(answer.cache, cache);
      assert.match(answer.headers.get('server-timing'), /origin;desc="gcs"/);
      assert.equal(answer.headers.get('content-length'), '20');
      assert.ok(answer.body.equals(bytes.subarray(2 * SEGMENT - 10, 2 * SEGMENT + 10)));
      assert.equal(await counted(), 2);
    }
    // The same content by another URL is the same entry; the last segment is short.
    const tail = await get(url.replace(id, `${id}/v1.0.0`), 'bytes=-1');
    assert.ok(tail.body.equals(bytes.subarray(-1)));
    assert.equal(await counted(), 3);
    const whole = await get(url);
    assert.equal(whole.status, 200);
    assert.equal(whole.headers.get('content-length'), String(bytes.length));
    assert.ok(whole.body.equals(bytes));
    assert.equal(await counted(), 6);
  });

  test('however many readers wait for a segment, it is fetched once', async () => {
    const { bytes, url } = await publish(6 * SEGMENT);
    await count();
    const next = random(SEED);
    const asked = Array.from({ length: 200 }, () => anyRange(next, bytes.length)).filter(({ bytes }) => bytes);
    await Promise.all(
      asked.map(async ({ field, bytes: [start, end] }) => {
        const { status, body } = await get(url, field);
        assert.equal(status, 206, `SEED=${SEED}, ${field}`);
        assert.ok(body.equals(bytes.subarray(start, end)), `SEED=${SEED}, ${field}`);
      }),
    );
    assert.equal(await counted(), 6);
  });

  test('a segment of which one leaf is fetched from elsewhere is whole, and kept', async () => {
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

  test('wrong bytes are never kept', async () => {
    const { bytes, url } = await publish(SEGMENT + 10);
    await setFault(stack.urls.gcsFault, { mode: 'corrupt', offset: 1000 });
    await setFault(stack.urls.ipfsFault, { mode: 'corrupt', offset: 1000 });
    const refused = await get(url, 'bytes=2000-2009');
    assert.equal(refused.status, 502);
    assert.match(JSON.parse(refused.body).detail, /gcs: it sent wrong bytes in leaf 0; ipfs: it sent wrong bytes in leaf 0/);
    await setFault(stack.urls.ipfsFault, { mode: 'none' });
    await sleep(2100); // a failure speaks for those who ask in the next two seconds
    const healed = await get(url, 'bytes=900-1100');
    assert.ok(healed.body.equals(bytes.subarray(900, 1101)));
    assert.equal(healed.cache, 'miss');
    assert.match(healed.headers.get('server-timing'), /ipfs/);
    assert.equal((await get(url, 'bytes=900-1100')).cache, 'hit');
  });

  test('what a client left is kept for the next', async () => {
    const { bytes, url } = await publish(SEGMENT);
    await setFault(stack.urls.gcsFault, { mode: 'slow', rate: 4 * SEGMENT });
    const left = new AbortController();
    const asked = fetch(url, { headers: { range: 'bytes=0-9' }, signal: left.signal });
    await sleep(100);
    left.abort();
    await assert.rejects(asked);
    await sleep(1500);
    const { body, cache } = await get(url, 'bytes=10-19');
    assert.ok(body.equals(bytes.subarray(10, 20)));
    assert.equal(cache, 'hit');
  });

  test('with bucket and IPFS stopped, what is kept is served', async () => {
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
