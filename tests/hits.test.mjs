// Responses of the edge's entry.js without Rust: when, and that they equal those of Rust.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startIsolate } from '../dev/isolate.mjs';
import { KEYS, startStack } from '../dev/stack.mjs';
import { publishFile, publishSmall, putObject, resign } from './publisher.mjs';
import { SEED, anyRange, random } from './ranges.mjs';

const SEGMENT = 4 << 20;
const SIZE = 2 * SEGMENT + 1234;
const MINUTE = 60_000;

describe('hits that do not enter WASM', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startIsolate>>} */
  let edge;
  let data;
  const weights = randomBytes(SIZE);

  before(async () => {
    stack = await startStack();
    data = await mkdtemp(join(tmpdir(), 'edge-net-isolate-'));
    const links = {
      PRIVATE_MODELS: 'secret',
      LINK_TOKEN: 'the-token',
      LINK_KEYS: JSON.stringify({
        current: 'key',
        keys: { key: randomBytes(32).toString('base64') },
      }),
    };
    const variables = {
      GCS_BASE: stack.urls.gcs,
      IPFS_GATEWAYS: '',
      PINNED_KEYS: JSON.stringify(KEYS),
      ...links,
    };
    edge = await startIsolate({ variables, data, main: 'tests/witness.js' });
    await publishFile(stack, 'weights.bin', weights, { id: 'large' });
  });
  after(async () => {
    await edge?.stop();
    await stack?.stop();
    if (data) await rm(data, { recursive: true, force: true });
  });

  /** @param {string} url @param {Record<string, string>} [headers] */
  const get = async (url, headers = {}, method = 'GET') => {
    const response = await fetch(new URL(url, edge.url), { method, headers });
    const body = Buffer.from(await response.arrayBuffer());
    const { 'x-rust': rust, ...fields } = Object.fromEntries(response.headers);
    return { status: response.status, rust: rust !== undefined, fields, body };
  };

  for (const url of [
    '/models/large/weights.bin',
    '/models/large/v1.0.0/weights.bin',
    '/any/large/resolve/main/weights.bin?download=true',
  ]) {
    test(`${url}: the same responses as from Rust`, async () => {
      for (let segment = 0; segment < 3; segment++) {
        const range = `bytes=${segment * SEGMENT}-${segment * SEGMENT}`;
        assert.equal((await get(url, { range })).rust, true, 'the first time it is not known yet');
        assert.equal((await get(url, { range })).rust, false);
      }
      const edges = [
        'bytes=0-0',
        `bytes=${SEGMENT - 1}-${SEGMENT - 1}`,
        `bytes=${SEGMENT}-${2 * SEGMENT - 1}`,
        `bytes=${SIZE - 1}-${SIZE - 1}`,
        `bytes=${SIZE - 5}-${SIZE + 5}`,
        'bytes=007-0010',
      ];
      const next = random(SEED);
      const others = Array.from({ length: 60 }, () => anyRange(next, SIZE).field);
      for (const range of [...edges, ...others]) {
        const answer = await get(url, { range });
        // A condition that always holds: only Rust evaluates conditions.
        const { rust, ...other } = await get(url, { range, 'if-match': '*' });
        assert.equal(rust, true);
        if (edges.includes(range)) assert.equal(answer.rust, false, range);
        assert.deepEqual(
          { ...answer, rust: undefined },
          { ...other, rust: undefined },
          `SEED=${SEED}, ${range}`,
        );
        const [, first, last] =
          /^bytes (\d+)-(\d+)\//.exec(answer.fields['content-range'] ?? '') ?? [];
        if (answer.status === 206)
          assert.ok(
            answer.body.equals(weights.subarray(Number(first), Number(last) + 1)),
            `SEED=${SEED}, ${range}`,
          );
      }
    });
  }

  test('a file of one segment, whole', async () => {
    await publishSmall(stack, { id: 'small', version: '1.0.0' });
    const url = '/models/small/notes.txt';
    assert.equal((await get(url)).rust, true);
    for (const headers of [{}, { range: 'bytes=1-3' }, {}]) {
      const { rust, ...answer } = await get(url, headers);
      assert.equal(rust, false);
      const { rust: _, ...other } = await get(url, { ...headers, 'if-match': '*' });
      assert.deepEqual(answer, other);
    }
  });

  test('other requests are left to Rust', async () => {
    const url = '/models/large/weights.bin';
    const range = 'bytes=0-9';
    const { fields } = await get(url, { range });
    assert.equal((await get(url, { range })).rust, false);
    for (const [headers, status, method] of [
      [{}, 200, 'HEAD'],
      [{ range }, 200, 'HEAD'],
      [{ range }, 405, 'POST'],
      [{ range }, 204, 'OPTIONS'],
      [{}, 200],
      [{ range, 'if-none-match': fields.etag }, 304],
      [{ range, 'if-match': '"other"' }, 412],
      [{ range, 'if-range': '"other"' }, 200],
      [{ range: 'bytes=0-9,20-29' }, 200],
      [{ range: 'bytes=9-0' }, 200],
      [{ range: 'items=0-9' }, 200],
      [{ range: '' }, 200],
      [{ range: 'bytes=-9' }, 206],
      [{ range: 'bytes=9-' }, 206],
      [{ range: `bytes=${SEGMENT - 1}-${SEGMENT}` }, 206],
      [{ range: `bytes=${SIZE}-${SIZE + 9}` }, 416],
      [{ range: 'bytes=99999999999999999999-999999999999999999999' }, 416],
    ]) {
      const answer = await get(url, headers, method);
      assert.equal(answer.rust, true, JSON.stringify(headers));
      assert.equal(answer.status, status, JSON.stringify(headers));
    }
  });

  test('a new version is noticed when the earlier one is stale', async () => {
    await publishSmall(stack, { id: 'renewed', version: '1.0.0' });
    const url = '/models/renewed/notes.txt';
    const version = async (headers) => {
      const { rust, fields, body } = await get(url, headers);
      return [rust, fields['x-model-version'], body.toString()];
    };
    assert.deepEqual(await version(), [true, '1.0.0', 'notes of renewed 1.0.0']);
    await publishSmall(stack, { id: 'renewed', version: '1.0.1' });
    assert.deepEqual(await version(), [false, '1.0.0', 'notes of renewed 1.0.0']);
    assert.deepEqual(await version({ 'x-ahead': `${MINUTE}` }), [
      true,
      '1.0.1',
      'notes of renewed 1.0.1',
    ]);
    assert.deepEqual(await version(), [false, '1.0.1', 'notes of renewed 1.0.1']);
  });

  test('a refused manifest ends hits without a version; versioned ones stay', async () => {
    const manifest = await publishSmall(stack, { id: 'spoilt', version: '1.0.0' });
    const [url, versioned] = ['/models/spoilt/notes.txt', '/models/spoilt/v1.0.0/notes.txt'];
    for (const rust of [true, false])
      for (const known of [url, versioned]) assert.equal((await get(known)).rust, rust);
    await putObject(
      stack,
      'spoilt/manifest.json',
      JSON.stringify(await resign(manifest, 'stranger')),
    );
    assert.equal((await get(url, { 'x-ahead': `${MINUTE}` })).status, 502);
    assert.equal((await get(url)).status, 502);
    const { rust, status } = await get(versioned, { 'x-ahead': `${MINUTE}` });
    assert.deepEqual({ rust, status }, { rust: false, status: 200 });
  });

  test('each request for a private model is checked', async () => {
    await publishSmall(stack, { id: 'secret', version: '1.0.0' });
    const { body } = await get('/v1/models/secret/download?lifetime=60', {
      authorization: 'Bearer the-token',
    });
    const { notes } = JSON.parse(body.toString());
    for (let i = 0; i < 3; i++) {
      const { status, rust } = await get(notes);
      assert.deepEqual({ status, rust }, { status: 200, rust: true });
    }
    assert.equal((await get(notes, { 'x-ahead': `${2 * MINUTE}` })).status, 403);
  });

  test('the number of remembered URLs is bounded', async () => {
    await publishSmall(stack, { id: 'many', version: '1.0.0' });
    const url = (n) => `/models/many/v1.0.0/notes.txt?${n}`;
    for (const rust of [true, false]) assert.equal((await get(url(0))).rust, rust);
    for (let n = 1; n <= 1024; n++) await get(url(n));
    assert.equal((await get(url(0))).rust, true);
  });

  test('after a panic WASM starts anew, with an empty memory', async () => {
    await publishSmall(stack, { id: 'panic', version: '1.0.0' });
    const url = (n) => `/models/panic/v1.0.0/notes.txt?${n}`;
    for (const rust of [true, false]) assert.equal((await get(url(0))).rust, rust);
    assert.equal((await get(url(1), { 'x-panic': '1' })).status, 200);
    for (const rust of [true, false]) {
      const response = await get(url(0));
      assert.deepEqual({ status: response.status, rust: response.rust }, { status: 200, rust });
    }
  });
});
