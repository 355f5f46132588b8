// The CIDs of our tool are those of the reference importer.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { importByteStream } from 'ipfs-unixfs-importer';
import { PROFILE } from '../dev/ipfs-gateway.mjs';
import { DEMO } from '../dev/stack.mjs';
import { SEED, random } from './ranges.mjs';

/** A block store that forgets: only the root's CID is of interest. */
const FORGETFUL = { put: (cid) => cid };

let folder;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'edge-net-cids-'));
});
after(() => rm(folder, { recursive: true }));

async function ours(file) {
  const { stdout } = await promisify(execFile)('target/release/edge-net-models', ['cid', '--json', file]);
  return JSON.parse(stdout).cid;
}

const theirs = async (file) => (await importByteStream(createReadStream(file, { highWaterMark: 1 << 20 }), FORGETFUL, PROFILE)).cid.toString();

/** A file of `size` bytes that look random, the same for the same seed. */
async function file(size, seed) {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed >>> 0);
  const path = join(folder, `${size}`);
  await writeFile(path, createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size)));
  return path;
}

async function agrees(size, seed) {
  const path = await file(size, seed);
  const [a, b] = await Promise.all([ours(path), theirs(path)]);
  assert.equal(a, b, `SEED=${SEED}: a file of ${size} bytes`);
  await rm(path);
}

const LEAF = 262_144;
for (const size of [0, 1, LEAF - 1, LEAF, LEAF + 1, 174 * LEAF, 174 * LEAF + 1, 175 * LEAF]) {
  test(`a file of ${size} bytes`, () => agrees(size, SEED));
}

test('100 files of random sizes up to 100 MB', async () => {
  const next = random(SEED);
  for (let i = 0; i < 100; i++) await agrees(Math.floor(next() * 100e6), SEED + i);
});

test('the demo model has the CID it always had', async () => {
  assert.equal(await ours(join(DEMO.dir, 'model.onnx')), 'bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu');
});
