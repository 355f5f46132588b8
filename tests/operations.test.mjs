// The edge as its operator sees it: health, limits, log.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { CID } from 'multiformats/cid';
import * as raw from 'multiformats/codecs/raw';
import { create as digestOf } from 'multiformats/hashes/digest';
import { DEMO, startStack } from '../dev/stack.mjs';
import { publishSmall, putObject, resign, setFault } from './publisher.mjs';

const LIMIT = 5;

/** The log lines of the worker, as wrangler prints them: coloured, after a word. */
function lines(stack) {
  const text = stripVTControlCharacters(readFileSync(join(stack.dataDir, 'edge.log'), 'utf8'));
  return [...text.matchAll(/\{"\w+":.*\}$/gm)].map(([line]) => JSON.parse(line));
}

/** Waits for a line for which `wanted` is true. */
async function loggedBy(stack, wanted) {
  for (let i = 0; i < 100; i++, await sleep(100)) {
    const found = lines(stack).find(wanted);
    if (found) return found;
  }
  assert.fail('it was not logged');
}

/** The CID of a text as a leaf. */
const leafOf = (text) =>
  `${CID.createV1(raw.code, digestOf(0x12, createHash('sha256').update(text).digest()))}`;

describe('the edge in operation', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** A second gateway, which responds while `status` is set. */
  const gateway = {
    status: 200,
    server: http.createServer(
      (_, response) => gateway.status && response.writeHead(gateway.status).end(),
    ),
  };

  before(async () => {
    gateway.server.listen(0, '127.0.0.1');
    await once(gateway.server, 'listening');
    const { port } = gateway.server.address();
    stack = await startStack({
      vars: {
        SEGMENT_CACHE: 'off',
        IPFS_GATEWAYS: `http://127.0.0.1:1/ipfs/,http://127.0.0.1:${port}/ipfs`,
        API_LIMIT: {
          type: 'ratelimit',
          namespace_id: '1003',
          simple: { limit: LIMIT, period: 60 },
        },
      },
    });
    await stack.publish();
  });
  after(async () => {
    await stack?.stop();
    gateway.server.closeAllConnections();
    gateway.server.close();
  });

  /** Requests as another client each time, since `/healthz` is limited too. */
  let clients = 0;
  const health = async (method = 'GET') => {
    const response = await fetch(`${stack.urls.edge}/healthz`, {
      method,
      headers: { 'cf-connecting-ip': `192.0.2.${clients++}` },
    });
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  const checks = ({ text }) =>
    Object.fromEntries(JSON.parse(text).checks.map(({ name, ...rest }) => [name, rest]));

  const logged = (wanted) => loggedBy(stack, wanted);

  describe('/healthz', () => {
    after(() => setFault(stack.urls.gcsFault, { mode: 'none' }));

    test('one of three does not respond: degraded, and the response names it', async () => {
      const answer = await health();
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get('content-type'), 'application/json');
      assert.equal(answer.headers.get('cache-control'), 'no-store');
      assert.equal(JSON.parse(answer.text).status, 'degraded');
      const { gcs, 'ipfs-1': silent, 'ipfs-2': gateway } = checks(answer);
      assert.equal(gcs.ok, true);
      assert.ok(Number.isInteger(gcs.ms));
      assert.equal(gateway.ok, true);
      assert.deepEqual({ ...silent, ms: 0 }, { ok: false, ms: 0, error: 'no answer' });
      assert.doesNotMatch(answer.text, /http|127\.0\.0\.1|edge-net-models/);
    });

    test('HEAD', async () => {
      const { status, text } = await health('HEAD');
      assert.equal(status, 200);
      assert.equal(text, '');
    });

    test('a gateway that refuses, and one that does not respond', async () => {
      gateway.status = 403;
      assert.equal(checks(await health())['ipfs-2'].error, 'status 403');
      gateway.status = 0;
      const { ok, ms, error } = checks(await health())['ipfs-2'];
      assert.deepEqual({ ok, error }, { ok: false, error: 'no answer in 2 s' });
      assert.ok(ms >= 2000, `${ms}`);
      await logged(({ event, source }) => event === 'check-failed' && source === 'ipfs-2');
    });

    test('no source responds: down', async () => {
      gateway.status = 500;
      await setFault(stack.urls.gcsFault, { mode: 'down' });
      const answer = await health();
      assert.equal(answer.status, 503);
      assert.equal(JSON.parse(answer.text).status, 'down');
      const { registry, ...sources } = checks(answer);
      assert.ok(
        Object.values(sources).every(({ ok }) => !ok),
        'and the registry serves no models',
      );
      assert.equal(registry.ok, true);
    });

    test('POST is not allowed', async () => {
      assert.equal((await fetch(`${stack.urls.edge}/healthz`, { method: 'POST' })).status, 405);
    });
  });

  describe('the rate limit', () => {
    const ask = (path, client) =>
      fetch(`${stack.urls.edge}${path}`, { headers: { 'cf-connecting-ip': client } });

    test('applies below /v1/, by address', async () => {
      const path = `/v1/models/${DEMO.id}/download`;
      const answers = [];
      // Twice the limit and one more: the minute may change once meanwhile.
      for (let i = 0; i < 2 * LIMIT + 1; i++) answers.push(await ask(path, '198.51.100.1'));
      assert.ok(answers.slice(0, LIMIT).every(({ status }) => status === 200));
      const refused = answers.find(({ status }) => status !== 200);
      assert.equal(refused.status, 429);
      assert.equal(refused.headers.get('retry-after'), '60');
      assert.equal(refused.headers.get('content-type'), 'application/problem+json');
      const { status, detail } = await refused.json();
      assert.equal(status, 429);
      assert.match(detail, /too many requests for \/v1\/ .* 60 s/);
      assert.equal((await ask(path, '198.51.100.2')).status, 200);
    });

    test('does not apply to models', async () => {
      for (let i = 0; i < 2 * LIMIT + 1; i++) {
        assert.equal((await ask(`/models/${DEMO.id}/config.json`, '198.51.100.3')).status, 200);
      }
    });
  });

  test('random names are limited by address; what is known is still served', async () => {
    const ask = (path, client) =>
      fetch(`${stack.urls.edge}${path}`, { headers: { 'cf-connecting-ip': client } });
    let number = 0;
    for (const path of [
      () => `/models/random-${number++}/model.onnx`,
      () => `/models/${DEMO.id}/v8.${number++}.0/model.onnx`,
      () => `/somebody/random-${number++}/resolve/main/model.onnx`,
      () => `/ipfs/${leafOf(`random ${number++}`)}?format=raw`,
    ]) {
      const client = `198.51.100.1${number}`;
      const statuses = [];
      for (let i = 0; i < 2 * LIMIT + 1; i++) statuses.push((await ask(path(), client)).status);
      assert.deepEqual([...new Set(statuses)].sort(), [404, 429], `${path()}: ${statuses}`);
      assert.equal((await ask(`/models/${DEMO.id}/config.json`, client)).status, 200);
    }
  });

  test('what nobody has is looked up once, not at each request', async () => {
    const client = '198.51.100.200';
    for (const path of [
      '/models/absent/model.onnx',
      `/models/${DEMO.id}/v9.9.9/model.onnx`,
      `/ipfs/${leafOf('absent')}?format=raw`,
    ]) {
      // Each look-up counts, and so many would be refused.
      for (let i = 0; i < 2 * LIMIT + 1; i++) {
        const { status } = await fetch(`${stack.urls.edge}${path}`, {
          headers: { 'cf-connecting-ip': client },
        });
        assert.equal(status, 404, `${path}, request ${i}`);
      }
    }
  });

  describe('the log', () => {
    test('a refused segment is one JSON object with model, segment and source', async () => {
      await setFault(stack.urls.gcsFault, { mode: 'error' });
      await (
        await fetch(`${stack.urls.edge}/models/${DEMO.id}/model.onnx`, {
          headers: { range: 'bytes=4194304-4194305' },
        })
      ).arrayBuffer();
      await setFault(stack.urls.gcsFault, { mode: 'corrupt', offset: 5_000_000 });
      await (
        await fetch(`${stack.urls.edge}/models/${DEMO.id}/model.onnx`, {
          headers: { range: 'bytes=4194304-4194305' },
        })
      ).arrayBuffer();
      await setFault(stack.urls.gcsFault, { mode: 'none' });
      const facts = {
        level: 'warn',
        event: 'refused',
        model: DEMO.id,
        version: DEMO.version,
        file: 'model.onnx',
        segment: 1,
        source: 'gcs',
      };
      assert.deepEqual(await logged(({ status }) => status === 503), {
        ...facts,
        status: 503,
        message: 'status 503',
      });
      const wrong = await logged(({ message }) => message === 'it sent wrong bytes in leaf 19');
      assert.deepEqual(wrong, { ...facts, message: 'it sent wrong bytes in leaf 19' });
    });

    test('text from other servers stays within its line', async () => {
      const manifest = await publishSmall(stack, { id: 'forged', version: '1.0.0' });
      const keyId = '"}\n{"event":"forged"}\u2028\u001b[2J';
      await putObject(stack, 'forged/manifest.json', JSON.stringify(await resign(manifest, keyId)));
      assert.equal((await fetch(`${stack.urls.edge}/models/forged/notes.txt`)).status, 502);
      const line = await logged(
        ({ event, message }) => event === 'bad-gateway' && message.includes('manifest refused'),
      );
      assert.equal(line.level, 'error');
      assert.match(line.message, /which is not pinned here/);
      assert.ok(lines(stack).every(({ event }) => event !== 'forged'));
    });

    test('successful requests are not logged', async () => {
      const before = lines(stack).length;
      for (let i = 0; i < 5; i++)
        await (await fetch(`${stack.urls.edge}/models/${DEMO.id}/config.json`)).arrayBuffer();
      // A later line has arrived, so lines about these requests would have too.
      await fetch(`${stack.urls.edge}/models/forged/notes.txt`);
      await logged(() => lines(stack).length > before);
      assert.deepEqual(
        lines(stack)
          .slice(before)
          .map(({ event }) => event),
        ['bad-gateway'],
      );
    });
  });
});

test('a failing rate limiter lets requests pass', async () => {
  const stack = await startStack({ vars: { API_LIMIT: 'no binding' } });
  try {
    assert.equal((await fetch(`${stack.urls.edge}/v1/models/${DEMO.id}/download`)).status, 200);
    await loggedBy(
      stack,
      ({ event, binding }) => event === 'limit-failed' && binding === 'API_LIMIT',
    );
  } finally {
    await stack.stop();
  }
});

test('an invalid variable is named in the log', async () => {
  const stack = await startStack({ vars: { SUBREQUESTS: '9.5' } });
  try {
    assert.equal((await fetch(`${stack.urls.edge}/healthz`)).status, 500);
    const { message } = await loggedBy(stack, ({ event }) => event === 'not-configured');
    assert.equal(
      message,
      'the variable SUBREQUESTS must be a whole number, at least 10, not "9.5"',
    );
  } finally {
    await stack.stop();
  }
});
