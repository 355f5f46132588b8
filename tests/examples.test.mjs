// The programs in examples/ beside the real edge: what a third party builds on the core alone.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { DEMO, KEY, KEYS, startStack } from '../dev/stack.mjs';
import { setFault, sha256 } from './publisher.mjs';

const DOWNLOAD = 'target/release/edge-net-example-download';
const PINNED = `${KEY.id}=${KEYS[KEY.id]}`;

describe('examples/download', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  let folder;
  before(async () => {
    stack = await startStack({ inference: null });
    await stack.publish();
  });
  after(() => stack?.stop());
  beforeEach(async (t) => {
    folder = await mkdtemp(join(tmpdir(), 'edge-net-example-'));
    t.after?.(() => rm(folder, { recursive: true }));
    await setFault(stack.urls.edgeFault, { mode: 'none' });
  });

  const download = (file, key = PINNED, model = DEMO.id) =>
    promisify(execFile)(DOWNLOAD, [stack.urls.edge, model, file, key, join(folder, 'output')]);
  const fails = async (message, ...args) => {
    await assert.rejects(download(...args), (error) => {
      assert.equal(error.code, 1);
      assert.match(error.stderr, message);
      return true;
    });
    assert.deepEqual(await readdir(folder), [], 'a failed download leaves no file');
  };

  test('it downloads a large file and a small one', async () => {
    for (const file of ['model.onnx', 'config.json']) {
      const { stdout } = await download(file);
      assert.match(stdout, /\/output: \d+ bytes, verified\n$/);
      assert.equal(
        sha256(await readFile(join(folder, 'output'))),
        sha256(await readFile(join(DEMO.dir, file))),
      );
    }
    assert.deepEqual(await readdir(folder), ['output']);
  });

  test('it refuses a manifest that no pinned key signed', async () => {
    await fails(/^error: .*which is not pinned here/, 'model.onnx', `other=${KEYS[KEY.id]}`);
    await fails(
      /^error: .*not the base64 of a 32-byte Ed25519 public key/,
      'model.onnx',
      `${KEY.id}=AAAA`,
    );
  });

  test('it names a file and a model that do not exist', async () => {
    await fails(/^error: minilm-l6-v2-q8 \S+ has no file other\.onnx\n/, 'other.onnx');
    await fails(
      /^error: \S+\/models\/other\/manifest\.json: status 404\n/,
      'model.onnx',
      PINNED,
      'other',
    );
  });

  test("it refuses bytes that are not the publisher's", async () => {
    await setFault(stack.urls.edgeFault, {
      mode: 'corrupt',
      offset: 5_000_000,
      match: 'model\\.onnx$',
    });
    await fails(
      /error: no source has a good copy of bytes .*edge: it sent wrong bytes in leaf 19\n/,
      'model.onnx',
    );
  });
});
