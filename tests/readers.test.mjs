// A thousand concurrent readers for half a minute.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startIsolate } from '../dev/isolate.mjs';
import { KEYS, startStack } from '../dev/stack.mjs';
import { publishFile, setFault } from './publisher.mjs';
import { SEED, random } from './ranges.mjs';

const READERS = 1000;
const DURATION = 30_000;
const SIZE = 24 * 4_194_304 + 12_345;
const SEGMENTS = 25;
const LONGEST = 64 << 10;
/** Cloudflare's memory limit of an isolate, in bytes. */
const LIMIT = 128_000_000;
/** The interval at which its memory is measured, in milliseconds. */
const LOOK_EVERY = 250;

describe('a thousand readers of random ranges', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startIsolate>>} */
  let edge;
  let data;
  const bytes = randomBytes(SIZE);

  before(async () => {
    stack = await startStack();
    data = await mkdtemp(join(tmpdir(), 'edge-net-isolate-'));
    await publishFile(stack, 'weights.bin', bytes, { id: 'crowd' });
    edge = await startIsolate({
      variables: { GCS_BASE: stack.urls.gcs, IPFS_GATEWAYS: '', PINNED_KEYS: JSON.stringify(KEYS) },
      data,
    });
  });
  after(async () => {
    await edge?.stop();
    await stack?.stop();
    if (data) await rm(data, { recursive: true, force: true });
  });

  test(
    'no byte is wrong, each segment is fetched once, and the isolate stays within its memory',
    { timeout: 180_000 },
    async (context) => {
      const url = new URL(`${edge.url}/models/crowd/v1.0.0/weights.bin`);
      const agent = new http.Agent({ keepAlive: true, maxSockets: READERS });
      const get = (start, end) =>
        new Promise((resolve, reject) => {
          const request = http.get(
            url,
            { agent, headers: { range: `bytes=${start}-${end - 1}` } },
            (response) => {
              const chunks = [];
              response.on('data', (chunk) => chunks.push(chunk));
              response.on('end', () =>
                resolve({ status: response.statusCode, body: Buffer.concat(chunks) }),
              );
              response.on('error', reject);
            },
          );
          request.on('error', reject);
        });
      await get(0, 1); // manifest and leaf table are cached from here on
      const inspector = await edge.inspect();
      // A fault without delay counts the requests to the bucket.
      await setFault(stack.urls.gcsFault, {
        mode: 'slow',
        rate: Number.MAX_SAFE_INTEGER,
        match: 'weights\\.bin$',
      });
      const until = Date.now() + DURATION;
      let answers = 0;
      const read = async (_, reader) => {
        const next = random(SEED + reader);
        while (Date.now() < until) {
          const start = Math.floor(next() * SIZE);
          const end = Math.min(SIZE, start + 1 + Math.floor(next() * LONGEST));
          const { status, body } = await get(start, end);
          assert.equal(status, 206, body.toString().slice(0, 500));
          assert.ok(
            body.equals(bytes.subarray(start, end)),
            `SEED=${SEED}: wrong bytes in ${start}-${end}`,
          );
          answers += 1;
        }
      };
      const seen = [];
      const watch = async () => {
        for (; Date.now() < until; await sleep(LOOK_EVERY)) seen.push(await inspector.memory());
      };
      await Promise.all([watch(), ...Array.from({ length: READERS }, read)]);
      agent.destroy();
      inspector.close();
      const { hits } = await (await fetch(stack.urls.gcsFault)).json();
      const most = Math.max(...seen);
      context.diagnostic(
        `${answers} responses; the isolate had at most ${(most / 1e6).toFixed(0)} MB ` +
          `in ${seen.length} measurements`,
      );
      // The first was fetched before counting began.
      assert.equal(hits, SEGMENTS - 1);
      assert.ok(seen.length > 0);
      assert.ok(most < LIMIT, `${most} bytes`);
    },
  );
});
