// A thousand readers at once, for half a minute.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { readFileSync, readdirSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startStack } from '../dev/stack.mjs';
import { setFault } from './publisher.mjs';
import { SEED, random } from './ranges.mjs';

const READERS = 1000;
const DURATION = 30_000;
const SIZE = 24 * 4_194_304 + 12_345;
const SEGMENTS = 25;
const LONGEST = 64 << 10;
const MB = 1_000_000;

/**
 * The most memory that workerd had, in bytes. It is a descendant of this process. The isolate's share cannot be told from that of the
 * local cache, the connections and the garbage that nobody limits here: it is printed, not asserted.
 */
function memoryOfWorkerd() {
  const status = (pid) => readFileSync(`/proc/${pid}/status`, 'utf8');
  const parent = (pid) => Number(/^PPid:\s+(\d+)/m.exec(status(pid))[1]);
  const ours = (pid) => pid === process.pid || (pid > 1 && ours(parent(pid)));
  const peaks = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const text = status(name);
        return /^Name:\s+workerd/.test(text) && ours(Number(name)) ? [Number(/^VmHWM:\s+(\d+)/m.exec(text)[1]) * 1024] : [];
      } catch {
        return []; // it has ended
      }
    });
  return Math.max(...peaks);
}

describe('a thousand readers of random ranges', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  const bytes = randomBytes(SIZE);

  before(async () => {
    stack = await startStack({ vars: { IPFS_GATEWAYS: '' } });
    const dir = await mkdtemp(join(tmpdir(), 'edge-net-model-'));
    await writeFile(join(dir, 'weights.bin'), bytes);
    await stack.publish({ dir, id: 'crowd', version: '1.0.0', type: 'embedding', name: 'crowd' });
    await rm(dir, { recursive: true });
  });
  after(() => stack?.stop());

  test('no byte is wrong, and each segment is fetched once', { timeout: 180_000 }, async (context) => {
    const url = new URL(`${stack.urls.edge}/models/crowd/v1.0.0/weights.bin`);
    const agent = new http.Agent({ keepAlive: true, maxSockets: READERS });
    const get = (start, end) =>
      new Promise((resolve, reject) => {
        const request = http.get(url, { agent, headers: { range: `bytes=${start}-${end - 1}` } }, (response) => {
          const chunks = [];
          response.on('data', (chunk) => chunks.push(chunk));
          response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(chunks) }));
          response.on('error', reject);
        });
        request.on('error', reject);
      });
    await get(0, 1); // the manifest and the leaf table are known from here on
    const idle = memoryOfWorkerd();
    // A fault that slows nothing down counts what reaches the bucket.
    await setFault(stack.urls.gcsFault, { mode: 'slow', rate: Number.MAX_SAFE_INTEGER, match: 'weights\\.bin$' });
    const until = Date.now() + DURATION;
    let answers = 0;
    const read = async (_, reader) => {
      const next = random(SEED + reader);
      while (Date.now() < until) {
        const start = Math.floor(next() * SIZE);
        const end = Math.min(SIZE, start + 1 + Math.floor(next() * LONGEST));
        const { status, body } = await get(start, end);
        assert.equal(status, 206, body.toString().slice(0, 500));
        assert.ok(body.equals(bytes.subarray(start, end)), `SEED=${SEED}: wrong bytes in ${start}-${end}`);
        answers += 1;
      }
    };
    await Promise.all(Array.from({ length: READERS }, read));
    agent.destroy();
    const { hits } = await (await fetch(stack.urls.gcsFault)).json();
    const grown = memoryOfWorkerd() - idle;
    context.diagnostic(`${answers} answers; workerd had ${(idle / MB).toFixed(0)} MB, and at the most ${(grown / MB).toFixed(0)} MB more`);
    // The first was fetched before the count began.
    assert.equal(hits, SEGMENTS - 1);
  });
});
