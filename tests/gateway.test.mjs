// The edge as a trustless IPFS gateway (https://specs.ipfs.tech/http-gateways/trustless-gateway/),
// read by the reference libraries.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { CarReader } from '@ipld/car';
import * as dagPb from '@ipld/dag-pb';
import { BaseBlockstore, MemoryBlockstore } from 'blockstore-core';
import { exporter } from 'ipfs-unixfs-exporter';
import { CID } from 'multiformats/cid';
import * as raw from 'multiformats/codecs/raw';
import { create as digestOf } from 'multiformats/hashes/digest';
import { DEMO, startStack } from '../dev/stack.mjs';
import { publishFile, publishSmall, setFault } from './publisher.mjs';

const LEAF = 262_144;
const MODEL = readFileSync(`${DEMO.dir}/model.onnx`);
const ROOT = 'bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu';
const RAW = 'application/vnd.ipld.raw';
const CAR = 'application/vnd.ipld.car';
const TOKEN = 'the-token';

const sha256 = (bytes) => createHash('sha256').update(bytes).digest();
/** The CID of these bytes as a leaf. */
const leafOf = (bytes) => CID.createV1(raw.code, digestOf(0x12, sha256(bytes))).toString();
/** The blocks of an archive, each checked against its CID, in order. */
async function blocksOf(archive) {
  const reader = await CarReader.fromBytes(archive);
  const blocks = [];
  for await (const { cid, bytes } of reader.blocks()) {
    assert.deepEqual(Buffer.from(cid.multihash.digest), sha256(bytes), `${cid}`);
    blocks.push({ cid, bytes });
  }
  return {
    roots: (await reader.getRoots()).map(String),
    blocks,
    cids: blocks.map(({ cid }) => `${cid}`),
  };
}
/** The file `cid`, or a part of it, as the reference exporter reads it from a block store. */
async function contentOf(store, cid, range) {
  const file = await exporter(CID.parse(cid), store);
  const pieces = [];
  for await (const piece of file.content(range)) pieces.push(piece);
  return Buffer.concat(pieces);
}
async function storeOf({ blocks }) {
  const store = new MemoryBlockstore();
  for (const { cid, bytes } of blocks) await store.put(cid, bytes);
  return store;
}

describe('the trustless gateway', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  const vars = {
    PRIVATE_MODELS: 'secret',
    LINK_TOKEN: TOKEN,
    LINK_KEYS: JSON.stringify({ current: 'a', keys: { a: randomBytes(32).toString('base64') } }),
    SEGMENT_CACHE: 'on',
  };
  let published = 0;
  /** Three levels and repeated leaves: more than 400 leaves; leaves 100 to 130 are zeros. */
  const large = randomBytes(400 * LEAF + 77).fill(0, 100 * LEAF, 130 * LEAF);
  /** The URL of the published file. */
  let at;

  before(async () => {
    stack = await startStack({ vars });
    await stack.publish();
    at = await publish(large);
  });
  after(() => stack?.stop());
  afterEach(async () => {
    for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault])
      await setFault(url, { mode: 'none' });
  });

  const get = async (
    path,
    { accept, base = `${stack.urls.edge}/ipfs/`, method = 'GET', headers = {} } = {},
  ) => {
    const response = await fetch(`${base}${path}`, {
      method,
      headers: { ...(accept && { accept }), ...headers },
    });
    return {
      status: response.status,
      headers: response.headers,
      body: Buffer.from(await response.arrayBuffer()),
    };
  };
  const refused = async (path, options) => {
    const { status, headers, body } = await get(path, options);
    assert.equal(headers.get('content-type'), 'application/problem+json');
    assert.equal(headers.get('cache-control'), 'no-store');
    return `${status} ${JSON.parse(body.toString()).detail}`;
  };
  /**
   * Publishes a file and requests its model, so that the edge knows it; resolves to root and URL.
   */
  const publish = async (bytes) => {
    const id = `random-${published++}`;
    await publishFile(stack, 'weights.bin', bytes, { id });
    const url = `${stack.urls.edge}/models/${id}`;
    const manifest = await (await fetch(`${url}/manifest.json`)).json();
    return { root: Object.values(manifest.artifacts)[0].cid, url: `${url}/weights.bin` };
  };
  /**
   * Restarts the edge. It knows the blocks of the large model only after a request for that model.
   */
  const restart = async (cache) => {
    vars.SEGMENT_CACHE = cache;
    await stack.stopEdge();
    await stack.startEdge();
    await fetch(at.url, { method: 'HEAD' });
  };
  const isAnArchiveOf = async (bytes, root) => {
    const { status, headers, body } = await get(`${root}?format=car`);
    assert.equal(status, 200, body.subarray(0, 500).toString());
    assert.equal(headers.get('content-type'), `${CAR}; version=1; order=dfs; dups=n`);
    assert.equal(headers.get('content-length'), `${body.length}`);
    const archive = await blocksOf(body);
    assert.deepEqual(archive.roots, [root]);
    assert.ok((await contentOf(await storeOf(archive), root)).equals(bytes));
    const reference = await get(`${root}?format=car`, { base: stack.urls.ipfs });
    assert.deepEqual(archive.cids, (await blocksOf(reference.body)).cids);
    assert.ok(body.equals(reference.body), 'byte for byte what the reference writes');
    return archive;
  };

  for (const cache of ['off', 'on']) {
    describe(`with the segment cache ${cache}`, () => {
      before(() => restart(cache));

      test('the reference libraries read the model from an archive', async () => {
        const { cids } = await isAnArchiveOf(MODEL, ROOT);
        assert.equal(cids.length, 89);
      });

      test('an archive of three levels with repeated leaves', async () => {
        const { root } = at;
        const { cids } = await isAnArchiveOf(large, root);
        assert.equal(cids.length, 1 + 3 + 401 - 29);
        const each = await get(`${root}?format=car&car-dups=y`);
        assert.equal(each.headers.get('content-type'), `${CAR}; version=1; order=dfs; dups=y`);
        assert.equal(each.headers.get('content-length'), `${each.body.length}`);
        const archive = await blocksOf(each.body);
        assert.equal(archive.cids.length, 1 + 3 + 401);
        assert.ok(
          Buffer.concat(
            archive.blocks.filter(({ cid }) => cid.code === raw.code).map(({ bytes }) => bytes),
          ).equals(large),
        );
      });

      test('an archive takes as few requests to the bucket as a file', async () => {
        const bytes = randomBytes(16 * 16 * LEAF);
        const { root } = await publish(bytes);
        // Counts without slowing down.
        await setFault(stack.urls.gcsFault, { mode: 'slow', rate: Number.MAX_SAFE_INTEGER });
        await isAnArchiveOf(bytes, root);
        const { hits } = await (await fetch(stack.urls.gcsFault)).json();
        // One body for all; or eleven segments, as many as the subrequests allow to cache, and one
        // body for the rest.
        assert.equal(hits, cache === 'off' ? 1 : 12);
      });

      test('small and empty files are single blocks', async () => {
        for (const bytes of [Buffer.from('one leaf'), Buffer.alloc(0), randomBytes(LEAF)]) {
          const { root } = await publish(bytes);
          assert.equal(root, leafOf(bytes));
          await isAnArchiveOf(bytes, root);
          assert.ok((await get(`${root}?format=raw`)).body.equals(bytes));
        }
      });

      test('blocks: the root, inner nodes, leaves', async () => {
        const block = async (cid) => {
          const { status, headers, body } = await get(cid, { accept: RAW });
          assert.equal(status, 200, body.toString().slice(0, 500));
          assert.deepEqual(sha256(body), Buffer.from(CID.parse(cid).multihash.digest));
          assert.equal(headers.get('content-length'), `${body.length}`);
          return body;
        };
        const children = dagPb.decode(await block(at.root)).Links;
        assert.equal(children.length, 3);
        const leaves = dagPb.decode(await block(`${children[1].Hash}`)).Links;
        assert.equal(leaves.length, 174);
        assert.ok(
          (await block(`${leaves[3].Hash}`)).equals(large.subarray(177 * LEAF, 178 * LEAF)),
        );
        assert.ok(
          (await block(leafOf(large.subarray(400 * LEAF)))).equals(large.subarray(400 * LEAF)),
        );
        assert.ok((await block(leafOf(Buffer.alloc(LEAF)))).equals(Buffer.alloc(LEAF)));
        // An archive of the DAG below an inner node.
        const below = await blocksOf((await get(`${children[2].Hash}?format=car`)).body);
        assert.ok(
          (await contentOf(await storeOf(below), `${children[2].Hash}`)).equals(
            large.subarray(348 * LEAF),
          ),
        );
      });

      test('a wrong leaf in the bucket is fetched from another source', async () => {
        const bytes = randomBytes(40 * LEAF);
        const { root, url } = await publish(bytes);
        await setFault(stack.urls.gcsFault, { mode: 'corrupt', offset: 20 * LEAF + 5 });
        const { status, body } = await get(`${root}?format=car`);
        assert.equal(status, 200);
        assert.ok((await contentOf(await storeOf(await blocksOf(body)), root)).equals(bytes));
        assert.ok((await get('', { base: url })).body.equals(bytes));
      });

      test('wrong at every source: first 502, later the body is cut off', async () => {
        const { root } = await publish(randomBytes(40 * LEAF));
        const spoil = async (offset) => {
          for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault])
            await setFault(url, { mode: 'corrupt', offset });
        };
        await spoil(33 * LEAF);
        await assert.rejects(get(`${root}?format=car`), /terminated|fetch failed/);
        assert.equal((await get(`${root}?format=car&entity-bytes=0:100`)).status, 200);
        await spoil(5);
        const { root: other } = await publish(randomBytes(40 * LEAF));
        assert.match(
          await refused(`${other}?format=car`),
          /^502 .*gcs: it sent wrong bytes in leaf 0/,
        );
      });
    });
  }

  test('a client reads the file from blocks only', async () => {
    class Remote extends BaseBlockstore {
      async *get(cid) {
        const { status, body } = await get(`${cid}?format=raw`);
        assert.equal(status, 200);
        assert.deepEqual(sha256(body), Buffer.from(cid.multihash.digest));
        yield body;
      }
    }
    assert.ok((await contentOf(new Remote(), ROOT)).equals(MODEL));
  });

  test('an archive of a byte range has only the blocks it needs', async () => {
    for (const [asked, start, end] of [
      ['0:0', 0, 1],
      [`${LEAF - 1}:${LEAF}`, LEAF - 1, LEAF + 1],
      ['5000000:9999999', 5_000_000, 10_000_000],
      ['-1000:*', MODEL.length - 1000, MODEL.length],
      ['0:*', 0, MODEL.length],
    ]) {
      const { status, headers, body } = await get(
        `${ROOT}?format=car&dag-scope=entity&entity-bytes=${asked}`,
      );
      assert.equal(status, 200);
      assert.equal(headers.get('content-length'), `${body.length}`);
      assert.equal(headers.get('etag'), `W/"entity.${asked}.${ROOT}.car"`);
      const archive = await blocksOf(body);
      assert.equal(archive.cids.length, 1 + Math.ceil(end / LEAF) - Math.floor(start / LEAF));
      const content = await contentOf(await storeOf(archive), ROOT, {
        offset: start,
        length: end - start,
      });
      assert.ok(content.equals(MODEL.subarray(start, end)));
    }
    assert.match(
      await refused(`${ROOT}?format=car&entity-bytes=${MODEL.length}:*`),
      /^400 .*is outside the \d+ bytes/,
    );
  });

  test('dag-scope selects the extent', async () => {
    const block = await get(`${ROOT}?format=car&dag-scope=block`);
    assert.deepEqual((await blocksOf(block.body)).cids, [ROOT]);
    assert.equal(block.headers.get('etag'), `W/"block.${ROOT}.car"`);
    const [entity, all] = [
      await get(`${ROOT}?format=car&dag-scope=entity`),
      await get(`${ROOT}?format=car&dag-scope=all`),
    ];
    assert.ok(entity.body.equals(all.body));
    assert.match(
      await refused(`${ROOT}?format=car&dag-scope=none`),
      /^400 dag-scope=none .*block, entity or all/,
    );
  });

  test('header fields', async () => {
    const fields = {
      'cache-control': 'public, max-age=29030400, immutable',
      vary: 'Accept',
      'x-ipfs-path': `/ipfs/${ROOT}`,
      'x-ipfs-roots': ROOT,
      'x-content-type-options': 'nosniff',
      'access-control-allow-origin': '*',
      'cross-origin-resource-policy': 'cross-origin',
    };
    const archive = {
      ...fields,
      'content-type': `${CAR}; version=1; order=dfs; dups=n`,
      etag: `W/"${ROOT}.car"`,
      'content-disposition': `attachment; filename="${ROOT}.car"`,
    };
    const block = {
      ...fields,
      'content-type': RAW,
      etag: `"${ROOT}.raw"`,
      'content-disposition': `attachment; filename="${ROOT}.bin"`,
    };
    for (const [path, accept, expected] of [
      [`${ROOT}?format=car`, '*/*', { ...archive, 'content-location': null }],
      [`${ROOT}?format=raw`, CAR, { ...block, 'content-location': null }],
      [ROOT, CAR, { ...archive, 'content-location': `/ipfs/${ROOT}?format=car&car-dups=n` }],
      [
        ROOT,
        `text/html, ${RAW};q=0.5`,
        { ...block, 'content-location': `/ipfs/${ROOT}?format=raw` },
      ],
    ]) {
      const [whole, head] = [
        await get(path, { accept }),
        await get(path, { accept, method: 'HEAD' }),
      ];
      for (const { status, headers } of [whole, head]) {
        assert.equal(status, 200);
        for (const [name, value] of Object.entries(expected))
          assert.equal(headers.get(name), value, name);
        assert.match(headers.get('access-control-expose-headers'), /X-Ipfs-Path, X-Ipfs-Roots/);
        assert.equal(headers.get('content-length'), `${whole.body.length}`);
      }
      assert.equal(head.body.length, 0);
      const unchanged = await get(path, {
        accept,
        headers: { 'if-none-match': `"x", ${expected.etag}` },
      });
      assert.equal(unchanged.status, 304);
      assert.equal(unchanged.body.length, 0);
      assert.equal(unchanged.headers.get('etag'), expected.etag);
      assert.equal((await get(path, { accept, headers: { 'if-none-match': '"x"' } })).status, 200);
    }
    assert.match(
      (await get(`${ROOT}?format=car`)).headers.get('server-timing'),
      /origin;desc="(gcs|ipfs)", cache;desc=hit/,
    );
  });

  test('requests that are refused, with the reason', async () => {
    assert.match(
      await refused(ROOT, { accept: '*/*' }),
      /^406 .*application\/vnd\.ipld\.raw is, and application\/vnd\.ipld\.car/,
    );
    assert.match(await refused(ROOT, { accept: `${CAR};version=2` }), /^406 /);
    assert.match(await refused(`${ROOT}?format=tar`), /^400 format=tar .*raw or car/);
    assert.match(
      await refused('QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG?format=raw'),
      /^400 .*version 1 in lower-case base32/,
    );
    assert.match(await refused('?format=raw'), /^400 .*is not a supported CID/);
    assert.match(await refused(`${ROOT}/model.onnx?format=car`), /^404 \S+ has no path below it/);
    assert.match(
      await refused(`${ROOT}/model.onnx?format=raw`),
      /^400 a block has to be requested by its own CID/,
    );
    for (const unknown of [
      leafOf(randomBytes(9)),
      CID.createV1(dagPb.code, digestOf(0x12, randomBytes(32))),
      CID.createV1(0x71, digestOf(0x12, randomBytes(32))),
      'bafkqaaik',
    ])
      assert.match(
        await refused(`${unknown}?format=raw`),
        /^404 .*no block of a model that is known here/,
      );
    const posted = await get(`${ROOT}?format=raw`, { method: 'POST' });
    assert.equal(posted.status, 405);
  });

  test('probes are answered', async () => {
    const block = await get('bafkqaaa?format=raw');
    assert.equal(block.status, 200);
    assert.equal(block.body.length, 0);
    const { roots, cids } = await blocksOf((await get('bafkqaaa', { accept: CAR })).body);
    assert.deepEqual([roots, cids], [['bafkqaaa'], []]);
    assert.equal((await get('bafkqaaa?format=raw', { method: 'HEAD' })).status, 200);
  });

  test('private models are neither served nor revealed', async () => {
    const text = 'notes that are not for all';
    await publishSmall(stack, { id: 'secret', version: '1.0.0', text });
    const given = await fetch(`${stack.urls.edge}/v1/models/secret/download`, {
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    // Now the edge has the manifest.
    assert.equal(await (await fetch((await given.json()).notes)).text(), text);
    const cid = leafOf(text);
    for (const format of ['raw', 'car']) {
      for (const headers of [{}, { 'if-none-match': '*' }]) {
        assert.match(
          await refused(`${cid}?format=${format}`, { headers }),
          /^404 .*no block of a model that is known here/,
        );
      }
    }
    // The same bytes are public in a public model.
    await publishSmall(stack, { id: 'open', version: '1.0.0', text });
    assert.equal((await fetch(`${stack.urls.edge}/models/open/notes.txt`)).status, 200);
    assert.equal((await get(`${cid}?format=raw`)).body.toString(), text);
  });

  test('a few leaf tables are searched at a time', async () => {
    const files = Array.from({ length: 10 }, () => randomBytes(2 * LEAF));
    for (const bytes of files) await publish(bytes);
    const unknown = leafOf(randomBytes(9));
    const answers = [];
    do answers.push(await refused(`${unknown}?format=raw`));
    while (!answers.at(-1).startsWith('404') && answers.length < 20);
    assert.match(answers[0], /^503 .*leaf tables are left to search; try again/);
    assert.match(answers.at(-1), /^404/);
    for (const bytes of files)
      assert.ok(
        (await get(`${leafOf(bytes.subarray(LEAF))}?format=raw`)).body.equals(bytes.subarray(LEAF)),
      );
  });

  test('the registry is asked before leaf tables are fetched', async () => {
    const listed = await publishSmall(stack, { id: 'listed', version: '1.0.0' });
    const posted = await fetch(`${stack.urls.edge}/v1/models`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(listed),
    });
    assert.equal(posted.status, 201);
    await restart('on'); // the memory is lost
    for (let i = 0; i < 10; i++) await publish(randomBytes(2 * LEAF));
    assert.equal(
      (await get(`${listed.artifacts.notes.cid}?format=raw`)).body.toString(),
      'notes of listed 1.0.0',
    );
  });
});
