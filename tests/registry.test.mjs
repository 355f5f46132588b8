// The registry: publishing, listing and yanking with workerd's D1, and conformance to its OpenAPI
// document.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { DEMO, KEY, startStack } from '../dev/stack.mjs';
import { publishFile, publishSmall, resign } from './publisher.mjs';

const run = promisify(execFile);
const CLI = 'target/release/edge-net-models';

describe('the registry', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  before(async () => {
    stack = await startStack({
      vars: {
        PRIVATE_MODELS: 'hidden',
        LINK_TOKEN: 'the-token',
        LINK_KEYS: JSON.stringify({
          current: 'k',
          keys: { k: Buffer.alloc(32, 7).toString('base64') },
        }),
      },
    });
  });
  after(() => stack?.stop());

  const api = (path = '') => `${stack.urls.edge}/v1/models${path}`;
  const json = async (path) => (await fetch(api(path))).json();
  const ids = async (query) => (await json(query)).map(({ id }) => id);
  const send = (manifest, type = 'application/json') =>
    fetch(api(), {
      method: 'POST',
      headers: type ? { 'content-type': type } : {},
      body: typeof manifest === 'string' ? manifest : JSON.stringify(manifest),
    });
  /** Publishes to bucket and registry; resolves to the manifest. */
  const publish = async (model) => {
    const manifest = await publishSmall(stack, model);
    const sent = await send(manifest);
    assert.equal(sent.status, 201, await sent.text());
    return manifest;
  };
  const later = (manifest, changes) =>
    resign({ ...manifest, timestamp: new Date(Date.now() + 1000).toISOString(), ...changes });

  test('a published manifest is listed, and served as it was signed', async () => {
    const manifest = await publishSmall(stack, { id: 'first', version: '1.0.0' });
    const sent = await send(manifest);
    assert.equal(sent.status, 201);
    assert.equal(sent.headers.get('location'), '/v1/models/first/versions/1.0.0');
    const summary = { id: 'first', name: 'first', type: 'embedding', size: 20, version: '1.0.0' };
    assert.deepEqual(await sent.json(), summary);
    const listed = await fetch(api());
    assert.match(listed.headers.get('server-timing'), /registry;desc=d1/);
    assert.deepEqual(
      (await listed.json()).find(({ id }) => id === 'first'),
      summary,
    );
    for (const path of ['/first', '/first/versions/1.0.0'])
      assert.deepEqual(await json(path), manifest, path);
    assert.deepEqual(
      (await json('/first/versions')).map(({ version, keyId, yanked }) => ({
        version,
        keyId,
        yanked,
      })),
      [{ version: '1.0.0', keyId: KEY.id, yanked: false }],
    );
    const { notes, signature } = await json('/first/download');
    assert.equal(await (await fetch(notes)).text(), 'notes of first 1.0.0');
    assert.deepEqual(await (await fetch(signature)).json(), manifest);
  });

  test('an unchanged response is not sent again', async () => {
    const etag = (await fetch(api())).headers.get('etag');
    assert.equal((await fetch(api(), { headers: { 'if-none-match': etag } })).status, 304);
  });

  test('replays and other content are refused; a hotfix is not the newest', async () => {
    const old = await publish({ id: 'steps', version: '1.0.0' });
    const manifest = await publish({ id: 'steps', version: '1.1.0' });
    const refused = async (manifest, status, detail) => {
      const answer = await send(manifest);
      assert.equal(answer.status, status);
      assert.equal(answer.headers.get('content-type'), 'application/problem+json');
      assert.match((await answer.json()).detail, detail);
    };
    await refused(manifest, 409, /already published, and this manifest is not signed later/);
    await refused(old, 409, /already published, and this manifest is not signed later/);
    assert.equal((await send(await later(manifest, { version: '1.0.5' }))).status, 201);
    await refused(await later(manifest, { name: 'other' }), 409, /published versions never change/);
    await refused(
      await later(manifest, { version: '2.0.0', timestamp: '2099-01-01T00:00:00Z' }),
      422,
      /clock/,
    );
    await refused({ ...manifest, name: 'altered' }, 403, /does not fit its fields/);
    await refused(await resign(manifest, 'stranger'), 403, /not pinned/);
    await refused({ ...manifest, version: 'one' }, 422, /`version`/);
    await refused('{', 400, /not a JSON object/);
    await refused(' '.repeat((1 << 20) + 1), 413, /1048576 bytes/);
    const answer = await send(manifest, 'text/plain');
    assert.equal(answer.status, 415);
    assert.equal((await json('/steps')).version, '1.1.0');
  });

  test('of many concurrent publications, each version is stored once', async () => {
    const manifest = await publishSmall(stack, { id: 'race', version: '1.0.0' });
    const answers = await Promise.all(Array.from({ length: 8 }, () => send(manifest)));
    const statuses = answers.map(({ status }) => status).sort();
    assert.equal(statuses[0], 201);
    assert.ok(
      statuses.slice(1).every((status) => status === 409 || status === 503),
      statuses.join(),
    );
    assert.equal((await json('/race/versions')).length, 1);
  });

  test('a yanked version is not the newest, but still served by its version', async () => {
    await publish({ id: 'regret', version: '1.0.0' });
    const manifest = await publish({ id: 'regret', version: '2.0.0' });
    assert.equal((await send(await later(manifest, { yanked: true }))).status, 200);
    assert.equal((await json('/regret')).version, '1.0.0');
    assert.match((await json('/regret/download')).notes, /v1\.0\.0\/notes\.txt$/);
    assert.equal((await json('/regret/versions/2.0.0')).yanked, true);
    assert.equal(
      await (await fetch(`${stack.urls.edge}/models/regret/v2.0.0/notes.txt`)).text(),
      'notes of regret 2.0.0',
    );
    assert.equal((await json('?q=regret'))[0].version, '1.0.0');
  });

  test('a bundled model is listed until the registry knows it', async () => {
    const [listed] = await json('?q=minilm');
    assert.deepEqual([listed.id, listed.embeddings], [DEMO.id, true]);
  });

  test('pagination and filters', async () => {
    for (const id of ['page-a', 'page-b', 'page-c']) await publish({ id, version: '1.0.0' });
    const seen = [];
    for (let url = api('?q=PAGE-&limit=2'); url;) {
      const answer = await fetch(url);
      seen.push(...(await answer.json()).map(({ id }) => id));
      url = /^<([^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
    }
    assert.deepEqual(seen, ['page-a', 'page-b', 'page-c']);
    const sight = {
      id: 'sight',
      type: 'vision',
      name: 'A % of _sight_',
      license: 'Apache-2.0',
      registry: stack.urls.edge,
    };
    // Publishing the same manifest again is not an error.
    for (let i = 0; i < 2; i++) await publishFile(stack, 'notes.txt', 'notes', sight);
    const quantized = await later(await json('/page-a'), {
      id: 'small',
      optimization: { quantization: 'INT4' },
    });
    assert.equal((await send(quantized)).status, 201);
    for (const [query, expected] of [
      ['?type=vision', ['sight']],
      ['?license=apache-2.0', [DEMO.id, 'sight']],
      ['?quantization=int4', ['small']],
      ['?q=%25%20of%20_S', ['sight']],
      ['?q=page-a&type=vision', []],
      ["?q='%20OR%201=1--", []],
      ['?type=vision&cursor=sight', []],
    ]) {
      assert.deepEqual(await ids(query), expected, query);
    }
    const problem = await fetch(api('?colour=red'));
    assert.equal(problem.status, 400);
    assert.match(
      (await problem.json()).detail,
      /unknown parameter "colour"; the parameters are type/,
    );
  });

  test('private models are listed with the token only', async () => {
    await publish({ id: 'hidden', version: '1.0.0' });
    assert.ok(!(await ids('')).includes('hidden'));
    for (const path of [
      '/hidden',
      '/hidden/versions',
      '/hidden/versions/1.0.0',
      '/hidden/download',
    ]) {
      assert.equal((await fetch(api(path))).status, 401, path);
      const answer = await fetch(api(path), { headers: { authorization: 'Bearer the-token' } });
      assert.equal(answer.status, 200, path);
      assert.match(answer.headers.get('cache-control'), /no-store/);
    }
  });

  test('the command line tool publishes and yanks', async () => {
    await publishFile(stack, 'notes.txt', 'notes', { id: 'tool', registry: stack.urls.edge });
    const yank = (...more) =>
      run(CLI, [
        'yank',
        '--id=tool',
        `--key=${KEY.pem}`,
        `--key-id=${KEY.id}`,
        `--registry=${stack.urls.edge}`,
        ...more,
      ]);
    assert.equal((await json('/tool')).version, '1.0.0');
    await yank('--version=1.0.0');
    assert.equal((await fetch(api('/tool'))).status, 404);
    await yank('--version=1.0.0', '--undo');
    assert.equal((await json('/tool')).version, '1.0.0');
    await assert.rejects(yank('--version=2.0.0'), ({ stderr }) =>
      /versions\/2\.0\.0: the version does not exist/.test(stderr),
    );
  });

  test('publications survive a restart of the worker', async () => {
    await publish({ id: 'lasting', version: '1.0.0' });
    await stack.stopEdge();
    await stack.startEdge();
    assert.equal((await json('/lasting')).version, '1.0.0');
  });

  test(
    'schemathesis finds nothing that the OpenAPI document does not say',
    { timeout: 600_000 },
    async (context) => {
      await stack.publish();
      // Not by its script, which has the interpreter's absolute path.
      const schemathesis = [
        '-c',
        'from schemathesis.cli import schemathesis; schemathesis()',
        '--config-file=tests/schemathesis.toml',
      ];
      const command = [
        ...schemathesis,
        'run',
        `${stack.urls.edge}/v1/openapi.json`,
        `--url=${stack.urls.edge}`,
        '--suppress-health-check=all',
      ];
      const env = {
        ...process.env,
        PYTHONUTF8: '1',
        HYPOTHESIS_STORAGE_DIRECTORY: join(stack.dataDir, 'hypothesis'),
      };
      const { stdout } = await run('.tools/venv/bin/python', command, {
        maxBuffer: 1 << 26,
        env,
      }).catch((error) => assert.fail(`${error.message.slice(0, 2000)}\n${error.stdout ?? ''}`));
      assert.match(stdout, /No issues found|test cases? passed|✅/);
      context.diagnostic(/\d+ generated.*/.exec(stdout)?.[0] ?? '');
      assert.equal((await fetch(api(`/${DEMO.id}`))).status, 200, 'it still works');
    },
  );
});
