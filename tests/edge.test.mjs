// The edge worker in workerd, with fake-gcs-server and an IPFS node behind fault proxies.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DEMO, startStack } from '../dev/stack.mjs';
import { BUCKET_FAULTS, publishSmall, putObject, resign, setFault, sha256 } from './publisher.mjs';
import { SEED, anyRange, random } from './ranges.mjs';

const MODEL = readFileSync(`${DEMO.dir}/model.onnx`);
const CID = 'bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu';

describe('the edge', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  const at = (path) => `${stack.urls.edge}${path}`;
  const get = async (path, headers = {}, method = 'GET') => {
    const response = await fetch(at(path), { headers, method });
    return {
      status: response.status,
      headers: response.headers,
      body: Buffer.from(await response.arrayBuffer()),
    };
  };
  const model = '/models/minilm-l6-v2-q8/model.onnx';

  before(async () => {
    stack = await startStack({ vars: { SEGMENT_CACHE: 'off' } });
    await stack.publish();
  });
  after(() => stack?.stop());

  test('a whole artifact and its header fields', async () => {
    const { status, headers, body } = await get(model);
    assert.equal(status, 200);
    assert.equal(sha256(body), sha256(MODEL));
    assert.equal(headers.get('content-length'), String(MODEL.length));
    assert.equal(headers.get('accept-ranges'), 'bytes');
    assert.equal(headers.get('etag'), `"${CID}"`);
    assert.equal(headers.get('x-model-version'), DEMO.version);
    assert.equal(headers.get('x-model-checksum'), sha256(MODEL));
    assert.equal(
      headers.get('repr-digest'),
      `sha-256=:${Buffer.from(sha256(MODEL), 'hex').toString('base64')}:`,
    );
    assert.equal(headers.get('access-control-allow-origin'), '*');
    assert.equal(headers.get('cross-origin-resource-policy'), 'cross-origin');
    assert.match(headers.get('server-timing'), /origin;desc="gcs"/);
    assert.match(headers.get('cache-control'), /must-revalidate/);
  });

  test('a versioned path is immutable', async () => {
    const { status, headers } = await get('/models/minilm-l6-v2-q8/v1.1.0/config.json');
    assert.equal(status, 200);
    assert.match(headers.get('cache-control'), /immutable/);
  });

  test('ranges are slices', async () => {
    const next = random(SEED);
    for (let i = 0; i < 80; i++) {
      const { field, bytes } = anyRange(next, MODEL.length);
      const { status, headers, body } = await get(model, { range: field });
      const context = `SEED=${SEED}, range ${i}: ${field}`;
      if (!bytes) {
        assert.equal(status, 416, context);
        assert.equal(headers.get('content-range'), `bytes */${MODEL.length}`, context);
        continue;
      }
      assert.equal(status, 206, context);
      assert.equal(
        headers.get('content-range'),
        `bytes ${bytes[0]}-${bytes[1] - 1}/${MODEL.length}`,
        context,
      );
      assert.equal(headers.get('content-length'), String(bytes[1] - bytes[0]), context);
      assert.ok(body.equals(MODEL.subarray(...bytes)), context);
    }
  });

  // request fields → status, bytes of the body
  const size = MODEL.length;
  for (const [name, headers, status, length] of [
    [
      'an end past the last byte is clamped',
      { range: `bytes=${size - 10}-${size + 900}` },
      206,
      10,
    ],
    ['absurd numbers are clamped', { range: 'bytes=0-99999999999999999999999999' }, 206, size],
    ['an absurd start is not satisfiable', { range: 'bytes=99999999999999999999999999-' }, 416],
    ['another unit is ignored', { range: 'lines=0-1' }, 200, size],
    ['a malformed range is ignored', { range: 'bytes=9-1' }, 200, size],
    ['several ranges are answered whole', { range: 'bytes=0-1,5-6' }, 200, size],
    ['If-Range with our tag', { range: 'bytes=0-9', 'if-range': `"${CID}"` }, 206, 10],
    ['If-Range with another tag', { range: 'bytes=0-9', 'if-range': '"other"' }, 200, size],
    [
      'If-Range with a date',
      { range: 'bytes=0-9', 'if-range': 'Sat, 03 Jan 2026 00:00:00 GMT' },
      200,
      size,
    ],
    ['If-None-Match with our tag', { 'if-none-match': `"a", W/"${CID}"` }, 304, 0],
    ['If-None-Match with a star', { 'if-none-match': '*' }, 304, 0],
    ['If-Match with another tag', { 'if-match': '"other"' }, 412],
  ]) {
    test(name, async () => {
      const answer = await get(model, headers);
      assert.equal(answer.status, status);
      if (length !== undefined) assert.equal(answer.body.length, length);
      if (status >= 400) assert.equal(JSON.parse(answer.body).status, status);
    });
  }

  test('HEAD has the fields of GET', async () => {
    const id = 'minilm-l6-v2-q8';
    for (const path of [
      model,
      `/models/${id}/manifest.json`,
      `/models/${id}/v1.1.0/manifest.json`,
      `${model}.leaves`,
      `/Somebody/${id}/resolve/main/config.json`,
      `/api/models/somebody/${id}/tree/main`,
      '/v1/models',
      '/openai/v1/models',
      `/v1/models/${id}`,
      `/v1/models/${id}/versions`,
      `/v1/models/${id}/download`,
      '/v1/openapi.json',
      '/healthz',
      `/ipfs/${CID}?format=raw`,
    ]) {
      const [head, whole] = [await get(path, {}, 'HEAD'), await get(path)];
      const fields = ({ headers }) =>
        Object.fromEntries(
          [...headers].filter(
            ([name]) =>
              !['date', 'server-timing', 'connection', 'keep-alive'].includes(name) &&
              !(path === '/healthz' && name === 'content-length'),
          ),
        );
      assert.equal(head.status, 200, path);
      assert.deepEqual(fields(head), fields(whole), path);
      assert.equal(whole.headers.get('content-length'), String(whole.body.length), path);
      assert.ok(head.headers.has('content-length'), path);
      assert.equal(head.body.length, 0, path);
    }
  });

  test('documents have preconditions and ranges as files have', async () => {
    for (const path of [`/models/minilm-l6-v2-q8/manifest.json`, `${model}.leaves`, '/v1/models']) {
      const { headers, body } = await get(path);
      const tag = headers.get('etag');
      const status = async (fields) => (await get(path, fields)).status;
      assert.equal(await status({ 'if-none-match': `"a,b", W/${tag}` }), 304, path);
      assert.equal(await status({ 'if-none-match': `"a,${tag.slice(1)}` }), 200, path);
      assert.equal(await status({ 'if-match': '"other"' }), 412, path);
      assert.equal(await status({ 'if-match': `"a,b", ${tag}` }), 200, path);
      assert.equal(await status({ range: `bytes=${body.length}-` }), 416, path);
      const part = await get(path, { range: 'bytes=3-6', 'if-range': tag });
      assert.equal(part.status, 206, path);
      assert.ok(part.body.equals(body.subarray(3, 7)), path);
    }
    const block = `/ipfs/${CID}?format=raw`;
    assert.equal((await get(block, { 'if-none-match': `"a,b", "${CID}.raw"` })).status, 304);
    assert.equal((await get(block, { 'if-match': '"other"' })).status, 412);
  });

  test('names may be percent-encoded', async () => {
    for (const path of [
      '/models/minilm-l6-v2-q8/1_Pooling%2Fconfig.json',
      '/models/minilm-l6-v2-q8/v1%2E1.0/1_Pooling%2fconfig%2Ejson',
      '/models/minilm%2Dl6-v2-q8/1_Pooling/config.json',
      '/somebody/minilm-l6-v2-q8/resolve/v1%2E1%2E0/1_Pooling%2Fconfig.json',
    ]) {
      const { status, headers } = await get(path);
      assert.equal(status, 200, path);
      assert.equal(headers.get('x-model-version'), '1.1.0', path);
    }
    const version = await get('/v1/models/minilm-l6-v2-q8/versions/1%2E1.0');
    assert.equal(JSON.parse(version.body).version, '1.1.0');
  });

  test('a model that no source has is looked up once', async () => {
    await setFault(stack.urls.gcsFault, {
      mode: 'slow',
      rate: Number.MAX_SAFE_INTEGER,
      match: 'nobodys',
    });
    for (let i = 0; i < 5; i++) {
      for (const path of ['model.onnx', 'config.json', 'manifest.json'])
        assert.equal((await get(`/models/nobodys/${path}`)).status, 404);
    }
    const { hits } = await (await fetch(stack.urls.gcsFault)).json();
    await setFault(stack.urls.gcsFault, { mode: 'none' });
    assert.equal(hits, 1);
  });

  test('HEAD', async () => {
    const { status, headers, body } = await get(model, {}, 'HEAD');
    assert.equal(status, 200);
    assert.equal(headers.get('content-length'), String(MODEL.length));
    assert.equal(body.length, 0);
  });

  test('a preflight', async () => {
    const { status, headers } = await get(
      model,
      { origin: 'https://app.example', 'access-control-request-headers': 'range' },
      'OPTIONS',
    );
    assert.equal(status, 204);
    const allowed = headers.get('access-control-allow-headers').split(', ');
    for (const field of ['Range', 'baggage', 'sentry-trace', 'traceparent', 'tracestate'])
      assert.ok(allowed.includes(field), field);
  });

  test('the manifest and the leaf table', async () => {
    const manifest = JSON.parse((await get('/models/minilm-l6-v2-q8/manifest.json')).body);
    assert.equal(manifest.artifacts.model.cid, CID);
    assert.equal(manifest.signature.keyId, 'development');
    const { body } = await get(`${model}.leaves`);
    const leaves = [];
    for (let at = 0; at < MODEL.length; at += 262_144)
      leaves.push(
        createHash('sha256')
          .update(MODEL.subarray(at, at + 262_144))
          .digest(),
      );
    assert.ok(body.equals(Buffer.concat(leaves)));
  });

  for (const [path, status] of [
    ['/models/no-such-model/model.onnx', 404],
    ['/models/minilm-l6-v2-q8/no-such-file', 404],
    ['/models/minilm-l6-v2-q8/v9.9.9/model.onnx', 404],
    ['/models/minilm-l6-v2-q8/%2e%2e/%2e%2e/secret', 404],
    ['/models/..%2f..%2fetc/passwd', 404],
    ['/models/', 404],
    ['/', 404],
  ]) {
    test(`${path} is ${status} with a problem document`, async () => {
      const answer = await get(path);
      assert.equal(answer.status, status);
      assert.equal(answer.headers.get('content-type'), 'application/problem+json');
      assert.ok(JSON.parse(answer.body).detail.length > 10);
    });
  }

  test('POST is not allowed', async () => {
    const { status, headers } = await get(model, {}, 'POST');
    assert.equal(status, 405);
    assert.match(headers.get('allow'), /GET/);
  });

  describe('the bucket fails', () => {
    after(() =>
      Promise.all([
        setFault(stack.urls.gcsFault, { mode: 'none' }),
        setFault(stack.urls.ipfsFault, { mode: 'none' }),
      ]),
    );

    for (const fault of BUCKET_FAULTS) {
      test(`${fault.mode}: correct bytes from IPFS`, async () => {
        await setFault(stack.urls.gcsFault, fault);
        const { status, headers, body } = await get(model, { range: 'bytes=4194304-8388607' });
        assert.equal(status, 206);
        assert.ok(body.equals(MODEL.subarray(4_194_304, 8_388_608)));
        assert.match(headers.get('server-timing'), /ipfs/);
        const whole = await get(model);
        assert.equal(sha256(whole.body), sha256(MODEL));
      });
    }

    test('a body that is not wanted is cancelled', async () => {
      await setFault(stack.urls.gcsFault, { mode: 'ignore-range', match: 'model\\.onnx$' });
      assert.equal((await get(model, { range: 'bytes=4194304-4194305' })).status, 206);
      const state = async () => (await fetch(stack.urls.gcsFault)).json();
      for (let i = 0; (await state()).open > 0; i++) {
        assert.ok(i < 50, 'the bucket still sends');
        await sleep(100);
      }
      const { hits, sent } = await state();
      assert.equal(hits, 1);
      assert.ok(sent < MODEL.length, `${sent} of ${MODEL.length}`);
    });

    test('a malformed Content-Range costs the source nothing: the leaves decide', async () => {
      await setFault(stack.urls.gcsFault, { mode: 'slip-range', match: 'model\\.onnx$' });
      const { status, headers, body } = await get(model, { range: 'bytes=4194304-8388607' });
      assert.equal(status, 206);
      assert.ok(body.equals(MODEL.subarray(4_194_304, 8_388_608)));
      assert.match(headers.get('server-timing'), /origin;desc="gcs"/);
    });

    test('a gateway that refuses ranges is asked for the leaves', async () => {
      await setFault(stack.urls.gcsFault, { mode: 'error', match: 'model\\.onnx$' });
      await setFault(stack.urls.ipfsFault, { mode: 'no-range', match: '^/ipfs/' });
      const { status, headers, body } = await get(model, { range: 'bytes=-300000' });
      assert.equal(status, 206);
      assert.ok(body.equals(MODEL.subarray(-300_000)));
      assert.match(headers.get('server-timing'), /origin;desc="ipfs"/);
      await setFault(stack.urls.ipfsFault, { mode: 'none' });
    });

    test('both sources wrong: 502 and no bytes', async () => {
      for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault])
        await setFault(url, { mode: 'corrupt', offset: 5_000_000 });
      const { status, body } = await get(model, { range: 'bytes=4194304-8388607' });
      assert.equal(status, 502);
      const { detail } = JSON.parse(body);
      assert.match(detail, /gcs: it sent wrong bytes in leaf 19/);
      assert.match(detail, /ipfs: it sent wrong bytes in leaf 19/);
    });

    test('both sources wrong further on: the body is cut off, visibly incomplete', async () => {
      for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault])
        await setFault(url, { mode: 'corrupt', offset: 20_000_000 });
      await assert.rejects(get(model));
    });

    test('bucket down and leaf table not cached: the table comes from the blocks', async () => {
      for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault])
        await setFault(url, { mode: 'none' });
      await stack.stopEdge();
      await stack.stopGcs();
      await stack.startEdge();
      const { status, body } = await get(model, { range: 'bytes=-1000' });
      assert.equal(status, 206);
      assert.ok(body.equals(MODEL.subarray(-1000)));
      await stack.startGcs();
    });
  });

  describe('manifests that are refused', () => {
    /** Publishes a small model, alters its manifest, and returns the response of the edge. */
    const spoilt = async (id, spoil) => {
      const manifest = await publishSmall(stack, { id, version: '1.0.0' });
      await putObject(stack, `${id}/manifest.json`, JSON.stringify(await spoil(manifest)));
      const { status, body } = await get(`/models/${id}/notes.txt`);
      return { status, detail: JSON.parse(body).detail };
    };

    test('a changed field', async () => {
      const { status, detail } = await spoilt('spoilt-field', (manifest) => ({
        ...manifest,
        name: 'Another',
      }));
      assert.equal(status, 502);
      assert.match(detail, /signature by "development" does not fit its fields/);
    });

    test('an unknown key', async () => {
      const { status, detail } = await spoilt('spoilt-key', (manifest) =>
        resign(manifest, 'stranger'),
      );
      assert.equal(status, 502);
      assert.match(detail, /signed by key "stranger", which is not pinned here/);
    });

    test('the manifest of another model', async () => {
      const other = await publishSmall(stack, { id: 'other', version: '1.0.0' });
      const { status, detail } = await spoilt('spoilt-subject', () => other);
      assert.equal(status, 502);
      assert.match(detail, /requested spoilt-subject, but the manifest is of other 1\.0\.0/);
    });

    test('no signature', async () => {
      const { status, detail } = await spoilt('spoilt-unsigned', ({ signature, ...rest }) => rest);
      assert.equal(status, 502);
      assert.match(detail, /not signed/);
    });
  });
});
