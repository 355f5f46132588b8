// Interrupted and shared downloads.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, afterEach, before, describe, test } from 'node:test';
import { faultyProxy } from '../dev/faults.mjs';
import { DEMO, startStack } from '../dev/stack.mjs';
import { fetchInPage, heard, openPage, startChromium } from './chromium.mjs';
import { setFault, sha256 } from './publisher.mjs';

const MODEL = readFileSync(`${DEMO.dir}/model.onnx`);
const URL_OF_MODEL = '/models/minilm-l6-v2-q8/model.onnx';
const SEGMENT = 4_194_304;
const SEGMENTS = 6;

describe('a download in Chromium', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startChromium>>} */
  let browser;

  before(async () => {
    stack = await startStack({ pages: 'tests/pages', vars: { SEGMENT_CACHE: 'off' } });
    await stack.publish();
  });
  after(() => stack?.stop());
  afterEach(async () => {
    await browser?.close();
    for (const url of sources()) await setFault(url, { mode: 'none' });
  });

  const sources = () => [stack.urls.edgeFault, stack.urls.gcsFault, stack.urls.ipfsFault];

  const ofModel = (events, type) =>
    events.filter((event) => event.type === type && event.file === 'model.onnx');

  test('after the browser is killed, verified segments are not fetched again', async () => {
    browser = await startChromium();
    let page = await openPage(browser.context, stack.urls);
    await setFault(stack.urls.edgeFault, { mode: 'slow', rate: 2_000_000, match: 'model\\.onnx$' });
    const cut = fetchInPage(page, URL_OF_MODEL).catch(() => {});
    const kept = () =>
      page.evaluate(
        async () =>
          (await edgeNet.list()).find(({ file }) => file === 'model.onnx')?.cachedBytes ?? 0,
      );
    while ((await kept()) < 3 * SEGMENT) await page.waitForTimeout(50);
    browser.kill();
    await cut;

    await setFault(stack.urls.edgeFault, { mode: 'none' });
    browser = await startChromium(browser.profile);
    page = await openPage(browser.context, stack.urls);
    assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
    const again = ofModel(await heard(page), 'segment').filter(({ source }) => source !== 'cache');
    assert.ok(
      again.length <= SEGMENTS - 3,
      `${again.length} of ${SEGMENTS} segments were fetched again`,
    );
  });

  test('four readers at once: each segment is fetched once', async () => {
    browser = await startChromium();
    const page = await openPage(browser.context, stack.urls);
    const all = await Promise.all(Array.from({ length: 4 }, () => fetchInPage(page, URL_OF_MODEL)));
    assert.ok(all.every(({ sha256: got }) => got === sha256(MODEL)));
    const segments = ofModel(await heard(page), 'segment');
    const fetched = segments
      .filter(({ source }) => source !== 'cache')
      .map(({ segment }) => segment);
    assert.deepEqual(fetched.sort(), [...Array(SEGMENTS).keys()]);
  });

  /** A fault without delay, which counts. */
  const COUNT = { mode: 'slow', rate: Number.MAX_SAFE_INTEGER };
  /** Proxies before the sources, for the page alone: the edge reads from the same bucket. */
  const doors = () =>
    Promise.all(
      [stack.urls.edge, stack.urls.gcs, stack.urls.ipfs].map(async (base) => {
        const { origin, host, pathname } = new URL(base);
        const proxy = faultyProxy(origin);
        // The bucket's emulator knows its own host only.
        const listener = (request, response) => {
          request.headers.host = host;
          proxy(request, response);
        };
        const server = createServer(listener).listen(0, '127.0.0.1');
        await once(server, 'listening');
        const url = `http://127.0.0.1:${server.address().port}`;
        return { server, base: url + pathname, fault: `${url}/__fault` };
      }),
    );
  /** Loads the model with an empty profile: how long it took, and what each source sent. */
  const load = async (options, faults = [COUNT, COUNT, COUNT]) => {
    await browser?.close();
    browser = await startChromium();
    const [edge, gcs, ipfs] = await doors();
    try {
      for (const [i, { fault }] of [edge, gcs, ipfs].entries()) await setFault(fault, faults[i]);
      const page = await openPage(browser.context, stack.urls, {
        edge: edge.base.replace(/\/$/, ''),
        gcs: gcs.base,
        ipfs: [ipfs.base],
        ...options,
      });
      const { ms, length } = await page.evaluate(async (url) => {
        const start = performance.now();
        const { byteLength: length } = await (await fetch(url)).arrayBuffer();
        return { ms: performance.now() - start, length };
      }, URL_OF_MODEL);
      assert.equal(length, MODEL.length);
      const sent = [];
      for (const { fault } of [edge, gcs, ipfs]) {
        sent.push((await (await fetch(fault)).json()).sent);
      }
      return { ms, sent };
    } finally {
      for (const { server } of [edge, gcs, ipfs]) server.close().closeAllConnections();
    }
  };

  test('in order: while the edge is well, bucket and gateways send nothing', async () => {
    const { sent } = await load({});
    assert.deepEqual(sent, [MODEL.length, 0, 0]);
  });

  test('all at once, if wanted: bucket and gateways send some', async () => {
    const { sent } = await load({ sources: 'all' });
    assert.ok(
      sent.every((bytes) => bytes > MODEL.length / 100),
      `${sent}`,
    );
  });

  test('in order: the bucket takes over from a slow edge, soon', async (context) => {
    const slow = { mode: 'slow', rate: 1_000_000 };
    const bucket = { mode: 'slow', rate: 10_000_000 };
    const alone = await load({ edge: undefined, ipfs: [] }, [COUNT, bucket, COUNT]);
    const { ms, sent } = await load({}, [slow, bucket, COUNT]);
    // How long it takes at most is a test of the core, with a clock of its own.
    context.diagnostic(`${(ms / alone.ms).toFixed(2)} times as long as from the bucket alone`);
    assert.ok(sent[0] < MODEL.length / 3, `${sent}`);
    assert.equal(sent[2], 0, 'no gateway is asked');
  });

  test('a cancelled reader stops the requests', async () => {
    browser = await startChromium();
    const page = await openPage(browser.context, stack.urls);
    // Slow enough that little more than the first segment has arrived when the reader cancels.
    for (const url of sources()) await setFault(url, { mode: 'slow', rate: 1_000_000 });
    await page.evaluate(async (url) => {
      const reader = (await fetch(url)).body.getReader();
      await reader.read();
      await reader.cancel();
    }, URL_OF_MODEL);
    await page.evaluate(() => edgeNet.idle());
    const before = ofModel(await heard(page), 'segment');
    assert.ok(before.length < SEGMENTS, `${before.length} segments came`);
    await page.waitForTimeout(6000);
    assert.deepEqual(ofModel(await heard(page), 'segment'), []);
  });
});
