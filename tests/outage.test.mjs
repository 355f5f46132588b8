// What works when D1, GCS or IPFS are stopped, alone and in pairs: the table of docs/edge.md, cell
// by cell.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { CID } from 'multiformats/cid';
import { DEMO, startStack } from '../dev/stack.mjs';
import { publishSmall, resign, sha256 } from './publisher.mjs';

const ROOT = 'bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu';

const SEGMENT = 4 << 20;
const MODEL = readFileSync(`${DEMO.dir}/model.onnx`);
/** Parts of the demo model that were not requested before, one for each column. */
const UNSEEN = [1, 2, 3, 4, 5].map((segment) => ({
  file: 'model.onnx',
  start: segment * SEGMENT,
  bytes: MODEL.subarray(segment * SEGMENT, segment * SEGMENT + 1000),
}));
for (const file of ['tokenizer.json', 'config.json'])
  UNSEEN.push({ file, start: 0, bytes: readFileSync(`${DEMO.dir}/${file}`).subarray(0, 100) });

/** The table: the cells of each row, by column. */
function table() {
  const [, text] =
    /\n(\| stopped: [^\n]*\n(?:\|[^\n]*\n)+)/.exec(readFileSync('docs/edge.md', 'utf8')) ?? [];
  const [head, , ...rows] = text
    .trim()
    .split('\n')
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  return {
    columns: head.slice(1),
    rows: Object.fromEntries(rows.map(([name, ...cells]) => [name, cells])),
  };
}

describe('when services are stopped', () => {
  const { columns, rows } = table();
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  let published;
  const blocks = [];

  before(async () => {
    stack = await startStack();
    await stack.publish();
    // One for each column, so that the cache of one does not serve the others.
    for (const column of columns.keys()) {
      const block = await publishSmall(stack, { id: `block-${column}`, version: '1.0.0' });
      blocks.push(block.artifacts.notes.cid);
      published = await publishSmall(stack, { id: `other-${column}`, version: '1.0.0' });
      for (const manifest of [block, published]) await post(manifest);
    }
    // Cached from here on.
    await part({ file: 'model.onnx', start: 0, bytes: MODEL.subarray(0, 1000) });
  });
  after(() => stack?.stop());

  const post = (manifest) =>
    fetch(`${stack.urls.edge}/v1/models`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(manifest),
    });
  const get = async (path, headers = {}) => {
    const response = await fetch(`${stack.urls.edge}${path}`, { headers });
    return { response, body: Buffer.from(await response.arrayBuffer()) };
  };
  /** The response for a part of the demo model: `hit` or `miss` of the cache, or a problem. */
  async function part({ file, start, bytes }) {
    const { response, body } = await get(`/models/${DEMO.id}/${file}`, {
      range: `bytes=${start}-${start + bytes.length - 1}`,
    });
    if (response.status !== 206) return problem(response, body);
    assert.ok(body.equals(bytes), 'right bytes');
    return /cache;desc=(\w+)/.exec(response.headers.get('server-timing'))[1];
  }
  /** Whether a block is served. An unknown one is a 404. */
  async function block(cid) {
    const { response, body } = await get(`/ipfs/${cid}?format=raw`);
    if (response.status === 404) return 'no';
    if (response.status !== 200) return problem(response, body);
    assert.equal(sha256(body), Buffer.from(CID.parse(cid).multihash.digest).toString('hex'));
    return 'yes';
  }
  function problem(response, body) {
    assert.ok([502, 503].includes(response.status), `${response.status}`);
    assert.equal(response.headers.get('content-type'), 'application/problem+json');
    assert.ok(response.headers.get('retry-after'), 'says when to ask again');
    assert.ok(JSON.parse(body.toString()).detail);
    return 'no';
  }

  /** How each row is tested. */
  const ROWS = {
    'cached segments of bundled models': async () =>
      (await part({ file: 'model.onnx', start: 0, bytes: MODEL.subarray(0, 1000) })) === 'hit'
        ? 'yes'
        : 'no',
    'other segments of bundled models': async (column) =>
      (await part(UNSEEN[column])) === 'miss' ? 'yes' : 'no',
    'files of other models in the registry': async (column) => {
      const { response, body } = await get(`/models/other-${column}/notes.txt`);
      if (response.status !== 200) return problem(response, body);
      assert.equal(body.toString(), `notes of other-${column} 1.0.0`);
      return 'yes';
    },
    '`/ipfs/{cid}` of bundled models': async () => block(ROOT),
    '`/ipfs/{cid}` of other models in the registry': async (column) => block(blocks[column]),
    '`/v1/models`': async () => {
      const { response, body } = await get('/v1/models');
      assert.equal(response.status, 200);
      const ids = JSON.parse(body.toString()).map(({ id }) => id);
      if (ids.includes('other-0')) return 'all';
      assert.deepEqual(ids, [DEMO.id]);
      return 'bundled only';
    },
    '`/v1/models/{id}`': async (column) => {
      const { response, body } = await get(`/v1/models/other-${column}`);
      if (response.status !== 200) return problem(response, body);
      assert.equal(JSON.parse(body.toString()).id, `other-${column}`);
      return 'yes';
    },
    'publishing to the registry': async (column) => {
      const answer = await post(
        await resign({
          ...published,
          version: `1.0.${column + 1}`,
          timestamp: new Date().toISOString(),
        }),
      );
      if (answer.status === 201) return 'yes';
      return problem(answer, Buffer.from(await answer.arrayBuffer()));
    },
    '`/healthz`': async () => {
      const { response, body } = await get('/healthz');
      const { status } = JSON.parse(body.toString());
      assert.equal(response.status, status === 'down' ? 503 : 200);
      return status;
    },
  };

  test('the table has these rows', () => assert.deepEqual(Object.keys(rows), Object.keys(ROWS)));

  columns.forEach((column, index) => {
    describe(column === 'nothing' ? 'nothing' : `without ${column}`, () => {
      const stopped = new Set(column.match(/D1|GCS|IPFS/g));
      before(async () => {
        // A new isolate: only the cache remembers.
        await stack.stopEdge();
        if (stopped.has('D1')) await stack.breakRegistry();
        if (stopped.has('GCS')) await stack.stopGcs();
        if (stopped.has('IPFS')) await stack.stopIpfs();
        await stack.startEdge();
      });
      after(async () => {
        await stack.stopEdge();
        if (stopped.has('D1')) await stack.mendRegistry();
        if (stopped.has('GCS')) await stack.startGcs();
        if (stopped.has('IPFS')) await stack.startIpfs();
      });
      for (const [name, attempt] of Object.entries(ROWS))
        test(name, async () => assert.equal(await attempt(index), rows[name][index]));
    });
  });
});
