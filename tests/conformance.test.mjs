// The CIDs of the command line tool equal those of the reference importer. SEED=n replays a run.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { BlackHoleBlockstore } from 'blockstore-core';
import { importer } from 'ipfs-unixfs-importer';
import { fixedSize } from 'ipfs-unixfs-importer/chunker';
import { balanced } from 'ipfs-unixfs-importer/layout';
import { SEED, random } from './ranges.mjs';

const TOOL = fileURLToPath(new URL('../target/release/edge-net-models', import.meta.url));
const MODEL = fileURLToPath(
  new URL('../.tools/models/minilm-l6-v2-q8/model.onnx', import.meta.url),
);
const LEAF = 262_144;
const EDGES = [0, 1, LEAF - 1, LEAF, LEAF + 1, 174 * LEAF, 174 * LEAF + 1, 175 * LEAF];
const PIECE = 1 << 20;

let folder;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'edge-net-conformance-'));
});
after(() => rm(folder, { recursive: true }));

/**
 * Writes `size` bytes of an AES-CTR key stream, which does not repeat, so no two leaves are equal.
 */
async function writeFile(path, size, seed) {
  const key = createHash('sha256').update(`${seed} ${size}`).digest();
  const zeros = Buffer.alloc(PIECE);
  function* pieces() {
    const stream = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
    for (let left = size; left > 0; left -= PIECE)
      yield stream.update(zeros.subarray(0, Math.min(left, PIECE)));
  }
  await pipeline(Readable.from(pieces()), createWriteStream(path));
}

/** Size, SHA-256 and CID of a file, from node and the reference importer. */
async function reference(path) {
  const hash = createHash('sha256');
  let size = 0;
  async function* content() {
    for await (const piece of createReadStream(path, { highWaterMark: PIECE })) {
      hash.update(piece);
      size += piece.length;
      yield piece;
    }
  }
  const options = {
    cidVersion: 1,
    rawLeaves: true,
    chunker: fixedSize({ chunkSize: LEAF }),
    layout: balanced({ maxChildrenPerNode: 174 }),
    wrapWithDirectory: false,
  };
  let root;
  for await (const entry of importer([{ content: content() }], new BlackHoleBlockstore(), options))
    root = entry;
  return { size, sha256: hash.digest('hex'), cid: root.cid.toString() };
}

/** The same, from the command line tool. */
async function ours(path) {
  return JSON.parse((await promisify(execFile)(TOOL, ['cid', '--json', path])).stdout);
}

async function compare(size, seed) {
  const path = join(folder, 'file');
  await writeFile(path, size, seed);
  assert.equal((await stat(path)).size, size);
  const [expected, got] = await Promise.all([reference(path), ours(path)]);
  assert.deepEqual(got, expected, `a file of ${size} bytes (SEED=${seed})`);
}

test('CIDs of files at the boundaries of leaves and nodes', async () => {
  for (const size of EDGES) await compare(size, 0);
});

test('CIDs of 100 files of random sizes up to 100 MB', async (t) => {
  t.diagnostic(`SEED=${SEED}`);
  const next = random(SEED);
  for (let i = 0; i < 100; i++) await compare(Math.floor(next() * 100_000_001), SEED);
});

test('the CID of the demo model is the published one', async () => {
  assert.deepEqual(await ours(MODEL), {
    size: 22_928_619,
    sha256: '8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6',
    cid: 'bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu',
  });
});
