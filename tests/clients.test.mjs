// Programs that know nothing of this project, unmodified, against the running edge: curl, aria2,
// wget, huggingface_hub, OpenAI's clients and LiteLLM.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { DEMO, startStack } from '../dev/stack.mjs';
import { publishFile, setFault, sha256 } from './publisher.mjs';

const SEGMENT = 4 << 20;
const PYTHON = process.env.CLIENTS_PYTHON ?? '.tools/venv/bin/python';
const run = promisify(execFile);

describe('other clients', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  let folder;
  const bytes = randomBytes(9 * SEGMENT + 12_345);
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'edge-net-clients-'));
    stack = await startStack();
    await stack.publish();
    await publishFile(stack, 'weights.bin', bytes, { id: 'large', version: '1.0.0+b.1' });
  });
  after(async () => {
    await stack?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const url = () => `${stack.urls.edge}/models/large/weights.bin`;
  /** Starts a file with its first bytes, as a download that was interrupted leaves it. */
  const begin = async (name, length) => {
    await writeFile(join(folder, name), bytes.subarray(0, length));
    return join(folder, name);
  };
  const isWhole = async (path) => assert.equal(sha256(await readFile(path)), sha256(bytes));
  /** Bytes that the edge sent since the fault was set, of the model's file. */
  const watch = () =>
    setFault(stack.urls.edgeFault, {
      mode: 'slow',
      rate: Number.MAX_SAFE_INTEGER,
      match: 'weights\\.bin$',
    });
  const sent = async () => (await fetch(stack.urls.edgeFault)).json();

  test('curl: the fields of HEAD, a range, and going on', async () => {
    const { stdout } = await run('curl', ['-sS', '--head', url()]);
    assert.match(stdout, new RegExp(`^content-length: ${bytes.length}\\r$`, 'im'));
    assert.match(stdout, /^accept-ranges: bytes\r$/im);
    const path = await begin('curl.bin', 5_000_000);
    await watch();
    await run('curl', ['-sS', '--fail', '-C', '-', '-o', path, url()]);
    await isWhole(path);
    assert.equal((await sent()).sent, bytes.length - 5_000_000);
  });

  test('curl: names may be percent-encoded', async () => {
    const encoded = `${stack.urls.edge}/models/large/v1.0.0%2Bb.1/weights%2Ebin`;
    const { stdout } = await run('curl', ['-sS', '--fail', '-r', '0-9', encoded], {
      encoding: 'buffer',
    });
    assert.ok(stdout.equals(bytes.subarray(0, 10)));
  });

  test('aria2: eight connections', async () => {
    const path = join(folder, 'aria2.bin');
    await watch();
    const flags = ['-x8', '-s8', '-k1M', '--allow-overwrite=true', '--console-log-level=warn'];
    await run('aria2c', [...flags, '-d', folder, '-o', 'aria2.bin', url()]);
    await isWhole(path);
    assert.ok((await sent()).hits >= 8, 'each connection asks for its part');
  });

  test('wget: going on', async () => {
    const path = await begin('weights.bin', 7_000_001);
    await watch();
    await run('wget', ['--quiet', '-c', '-P', folder, url()]);
    await isWhole(path);
    assert.equal((await sent()).sent, bytes.length - 7_000_001);
  });

  /** The result of a function of python_clients.py. */
  const python = async (name, ...parameters) => {
    const command = ['tests/python_clients.py', name, stack.urls.edge, ...parameters];
    const env = { ...process.env, HF_HOME: join(folder, 'hf'), HF_HUB_DISABLE_TELEMETRY: '1' };
    const { stdout } = await run(PYTHON, command, { env, maxBuffer: 1 << 26 });
    return JSON.parse(stdout);
  };

  test('huggingface_hub: a file, a snapshot, and what is not there', async () => {
    const found = await python('hub', `Somebody/${DEMO.id}`, DEMO.version);
    assert.equal(await readFile(found.file).then(sha256), sha256(await demo('config.json')));
    assert.deepEqual(found.files, [...found.listed].sort());
    assert.ok(found.files.includes('model.onnx') && found.files.includes('1_Pooling/config.json'));
    for (const name of ['model.onnx', 'tokenizer.json'])
      assert.equal(sha256(await readFile(join(found.snapshot, name))), sha256(await demo(name)));
    assert.match(found.commit, /^[0-9a-f]{40}$/);
    assert.ok(found.snapshot.endsWith(found.commit));
    assert.equal(found.metadata.commit, found.commit);
    assert.equal(found.metadata.size, (await demo('model.onnx')).length);
    assert.deepEqual(found.missing, [
      'RemoteEntryNotFoundError',
      'RevisionNotFoundError',
      'RepositoryNotFoundError',
    ]);
  });
  const demo = (name) => readFile(join(DEMO.dir, name));

  test('huggingface_hub: a version with a plus sign', async () => {
    const { file } = await python('file', 'somebody/large', 'weights.bin', 'v1.0.0+b.1');
    await isWhole(file);
  });

  test('npm openai lists models', async () => {
    const client = new OpenAI({ baseURL: `${stack.urls.edge}/v1`, apiKey: 'none' });
    const { data } = await client.models.list();
    const model = data.find(({ id }) => id === DEMO.id);
    assert.equal(model.object, 'model');
    assert.equal(model.created, Date.parse(DEMO.timestamp) / 1000);
    assert.equal(model.owned_by, 'development');
    const own = new OpenAI({ baseURL: `${stack.urls.edge}/openai/v1`, apiKey: 'none' });
    assert.equal((await own.models.retrieve(DEMO.id)).created, model.created);
    assert.ok(Array.isArray(await (await fetch(`${stack.urls.edge}/v1/models`)).json()));
    const listed = await (await fetch(`${stack.urls.edge}/openai/v1/models`)).json();
    assert.equal(listed.object, 'list');
  });

  test('PyPI openai lists models and embeds', async () => {
    const { models, length } = await python('openai', DEMO.id);
    assert.ok(models.includes(DEMO.id));
    assert.equal(length, 384);
  });

  test('LiteLLM embeds', async () => {
    const { lengths, error } = await python('litellm', DEMO.id);
    assert.deepEqual(lengths, [384, 384]);
    assert.match(error, /NotFoundError.*no manifest of nobodys/s);
  });
});
