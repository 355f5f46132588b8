// A private bucket: the edge signs its requests with a service account's key or an HMAC key.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DEMO, startStack } from '../dev/stack.mjs';
import { privateBucket } from './private-bucket.mjs';
import { sha256 } from './publisher.mjs';

const MODEL = readFileSync(`${DEMO.dir}/model.onnx`);

describe('a private bucket', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof privateBucket>>} */
  let bucket;
  /** The variables for the next start of the edge. */
  const vars = { SEGMENT_CACHE: 'off', IPFS_GATEWAYS: '' };

  before(async () => {
    stack = await startStack({ vars });
    await stack.publish();
    bucket = await privateBucket(stack.urls.gcs);
    vars.GCS_BASE = bucket.url;
  });
  after(async () => {
    await bucket?.stop();
    await stack?.stop();
  });
  afterEach(() => {
    bucket.late = 0;
    bucket.asked.length = bucket.refused.length = 0;
  });

  const restart = async (secrets) => {
    for (const name of ['GCS_SERVICE_ACCOUNT', 'GCS_HMAC_ACCESS_ID', 'GCS_HMAC_SECRET'])
      delete vars[name];
    Object.assign(vars, secrets);
    await stack.stopEdge();
    await stack.startEdge();
  };
  const url = () => `${stack.urls.edge}/models/${DEMO.id}/model.onnx`;
  const isServed = async () => {
    const whole = await fetch(url());
    assert.equal(whole.status, 200, bucket.refused[0]);
    assert.equal(sha256(Buffer.from(await whole.arrayBuffer())), sha256(MODEL));
    const part = await fetch(url(), { headers: { range: 'bytes=10000000-10000099' } });
    assert.equal(part.status, 206);
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(MODEL.subarray(10_000_000, 10_000_100)));
    assert.deepEqual(bucket.refused, []);
    const paths = new Set(bucket.asked.map((url) => new URL(url).pathname.split('/').at(-1)));
    assert.deepEqual(paths, new Set(['manifest.json', 'model.onnx', 'model.onnx.leaves']));
  };
  const isRefused = async () => {
    const answer = await fetch(url());
    const { detail } = await answer.json();
    assert.equal(answer.status, 502, detail);
    assert.match(detail, /gcs: status 403/);
    return bucket.refused;
  };

  test('unsigned requests are refused, and the client gets the reason', async () => {
    await restart({});
    assert.match((await isRefused())[0], /not signed/);
  });

  test('with the key of a service account', async () => {
    await restart({ GCS_SERVICE_ACCOUNT: bucket.account });
    await isServed();
    assert.match(bucket.asked[0], /X-Goog-Algorithm=GOOG4-RSA-SHA256/);
  });

  test('with an HMAC key', async () => {
    await restart({
      GCS_HMAC_ACCESS_ID: bucket.hmac.accessId,
      GCS_HMAC_SECRET: bucket.hmac.secret,
    });
    await isServed();
    assert.match(bucket.asked[0], /X-Goog-Algorithm=GOOG4-HMAC-SHA256/);
  });

  test('signed requests are refused when altered and after they expire', async () => {
    for (const secrets of [
      { GCS_SERVICE_ACCOUNT: bucket.account },
      { GCS_HMAC_ACCESS_ID: bucket.hmac.accessId, GCS_HMAC_SECRET: bucket.hmac.secret },
    ]) {
      await restart(secrets);
      assert.equal((await fetch(url(), { headers: { range: 'bytes=0-0' } })).status, 206);
      const signed = bucket.asked.find((url) => url.includes('/model.onnx?'));
      const status = async (altered) => (await fetch(altered)).status;
      assert.equal(await status(signed), 200);
      const flipped = signed.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'));
      for (const altered of [
        signed.replace('model.onnx', 'manifest.json'),
        signed.replace(/Expires=\d+/, 'Expires=604800'),
        signed.replace(/Date=(\d{8})/, (_, day) => `Date=${Number(day) + 1}`),
        signed.replace(/Credential=[^%]+/, 'Credential=somebody'),
        `${signed.split('&X-Goog-Signature')[0]}`,
        flipped,
      ]) {
        assert.notEqual(altered, signed);
        assert.equal(await status(altered), 403, altered);
      }
      bucket.late = 13 * 3_600_000;
      assert.equal(await status(signed), 403);
      assert.match(bucket.refused.at(-1), /expired/);
      bucket.late = 0;
      bucket.asked.length = bucket.refused.length = 0;
    }
  });

  test('a key that is not the bucket owner’s is refused', async () => {
    await restart({ GCS_HMAC_ACCESS_ID: bucket.hmac.accessId, GCS_HMAC_SECRET: 'another' });
    assert.match((await isRefused())[0], /signature is wrong/);
  });

  test('an unreadable key is reported in the log, and not revealed to the client', async () => {
    await restart({ GCS_SERVICE_ACCOUNT: '{"client_email":"x@y","private_key":"secret-bytes"}' });
    const answer = await fetch(url());
    const { detail } = await answer.json();
    assert.equal(answer.status, 500);
    assert.doesNotMatch(detail, /secret-bytes/);
    // The log line arrives a moment later.
    const said = () =>
      /GCS_SERVICE_ACCOUNT cannot be used: .*PKCS #8/.test(
        readFileSync(`${stack.dataDir}/edge.log`, 'utf8'),
      );
    for (let waited = 0; !said(); waited += 50) {
      assert.ok(waited < 10_000, 'the log does not say it');
      await sleep(50);
    }
  });
});
