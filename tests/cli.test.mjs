// The command line tool against edge, bucket and IPFS node, each of which may fail.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { CarReader } from '@ipld/car';
import { exporter } from 'ipfs-unixfs-exporter';
import { CID } from 'multiformats/cid';
import { DEMO, KEY, KEYS, startStack } from '../dev/stack.mjs';
import { putObject, resign, setFault, sha256 } from './publisher.mjs';

const CLI = 'target/release/edge-net-models';
const MODEL = '8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6';

describe('the command line tool with edge, bucket and IPFS node', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  let home;
  before(async () => {
    stack = await startStack();
    await stack.publish({ ...DEMO, registry: stack.urls.edge });
  });
  after(() => stack?.stop());
  beforeEach(async (t) => {
    home = await mkdtemp(join(tmpdir(), 'edge-net-home-'));
    t.after?.(() => rm(home, { recursive: true }));
    for (const part of ['edge', 'gcs', 'ipfs'])
      await setFault(stack.urls[`${part}Fault`], { mode: 'none' });
  });

  const run = async (...args) => {
    const env = {
      PATH: process.env.PATH,
      HOME: home,
      EDGE_NET_KEYS: JSON.stringify(KEYS),
      EDGE_NET_EDGE_URL: stack.urls.edge,
      EDGE_NET_CDN_ENDPOINT: stack.urls.gcs,
      EDGE_NET_IPFS_GATEWAYS: stack.urls.ipfs,
    };
    return (await promisify(execFile)(CLI, args, { env })).stdout;
  };
  const pulled = async (...args) => {
    const { folder, files } = JSON.parse(await run('pull', DEMO.id, '--json', ...args));
    assert.equal(sha256(await readFile(join(folder, 'model.onnx'))), MODEL);
    return new Set(
      Object.keys(files.find(({ file }) => file === 'model.onnx').segments).map(
        (source) => source.split(':')[0],
      ),
    );
  };

  for (const source of ['gcs', 'ipfs', 'edge']) {
    test(`pull --source ${source}`, async () =>
      assert.deepEqual(await pulled('--source', source), new Set([source])));
  }

  test('a source that sends a wrong byte is not asked again, and the file is correct', async () => {
    for (const spoilt of ['gcs', 'edge']) {
      await setFault(stack.urls[`${spoilt}Fault`], {
        mode: 'corrupt',
        offset: 5_000_000,
        match: 'model\\.onnx$',
      });
    }
    await pulled();
  });

  for (const mode of [
    'cut',
    'truncate',
    'html',
    'ignore-range',
    'lie-range',
    'error',
    'flap',
    'limit',
    'gzip',
    'redirect',
  ]) {
    test(`a faulty bucket (${mode}) while the others work`, async () => {
      await setFault(stack.urls.gcsFault, { mode, match: 'model\\.onnx$' });
      await pulled();
    });
  }

  test('bucket and edge down: the leaf table comes from the blocks of a gateway', async () => {
    await run('pull', DEMO.id);
    await run('cache', 'clear');
    // Gateways have no manifests.
    for (const part of ['gcs', 'edge'])
      await setFault(stack.urls[`${part}Fault`], { mode: 'down', match: 'model\\.onnx' });
    assert.deepEqual(await pulled(), new Set(['ipfs']));
  });

  test('a gateway that refuses ranges is asked for the leaves', async () => {
    for (const part of ['gcs', 'edge'])
      await setFault(stack.urls[`${part}Fault`], { mode: 'error', match: 'model\\.onnx$' });
    await setFault(stack.urls.ipfsFault, { mode: 'no-range', match: '^/ipfs/' });
    assert.deepEqual(await pulled(), new Set(['ipfs']));
    const { sent } = await (await fetch(stack.urls.ipfsFault)).json();
    assert.ok(sent > 22_000_000, `${sent} bytes of leaves`);
  });

  test('list, info, and ambiguous names', async () => {
    const listed = JSON.parse(await run('list', '--json'));
    assert.deepEqual(
      listed.find(({ id }) => id === DEMO.id),
      {
        id: DEMO.id,
        name: DEMO.name,
        type: 'embedding',
        quantization: 'INT8',
        license: 'Apache-2.0',
        size: 23_396_070,
        version: DEMO.version,
        embeddings: true,
        cached: null,
      },
    );
    assert.match(
      await run('list', '--type', 'embedding', '--quantization', 'int8'),
      new RegExp(`^minilm-l6-v2-q8 +${DEMO.version} +embedding +INT8`),
    );
    assert.equal(await run('list', '--type', 'vision'), '');
    assert.match(
      await run('info', DEMO.id),
      new RegExp(`^minilm-l6-v2-q8 ${DEMO.version}, signed by development on `),
    );
    assert.match(await run('info', DEMO.id, '--benchmarks'), /the manifest has no benchmarks/);
    assert.match(
      await run('pull', 'minilm-l6-v2'),
      new RegExp(`^minilm-l6-v2-q8 ${DEMO.version}, signed by development\n`),
    );
    assert.match(await run('list'), new RegExp(`${DEMO.version} cached`));
  });

  test('control characters in the name of a source do not reach the terminal', async () => {
    const manifest = await (await fetch(`${stack.urls.gcs}/${DEMO.id}/manifest.json`)).json();
    const evil = await resign({ ...manifest, id: 'evil', name: '\u001b]0;owned\u0007' });
    await putObject(stack, 'evil/manifest.json', JSON.stringify(evil));
    const told = await run('info', 'evil');
    assert.match(told, /name: .*owned/);
    assert.doesNotMatch(told, /[\u0000-\u0009\u000b-\u001f\u007f]/);
  });

  test('the reference implementation reads archives of the tool', async () => {
    const folder = join(home, 'cars');
    const args = [
      'publish',
      join(DEMO.dir, 'model.onnx'),
      '--key',
      KEY.pem,
      '--key-id',
      KEY.id,
      '--dry-run',
      '--car',
      folder,
    ];
    const manifest = JSON.parse(await run(...args));
    const car = await CarReader.fromBytes(await readFile(join(folder, 'model.onnx.car')));
    const [root] = await car.getRoots();
    assert.equal(root.toString(), manifest.artifacts.model.cid);
    const blocks = {
      get: async function* (cid) {
        yield (await car.get(CID.parse(cid.toString()))).bytes;
      },
    };
    const chunks = [];
    for await (const chunk of (await exporter(root, blocks)).content()) chunks.push(chunk);
    assert.equal(sha256(Buffer.concat(chunks)), MODEL);
  });
});
