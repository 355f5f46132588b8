// The service worker in Firefox, over WebDriver BiDi: verified, stored, packed, offline, repaired.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { DEMO, startStack } from '../dev/stack.mjs';
import { startBrowser } from './browsers.mjs';
import { fetchInPage, hasHeard } from './chromium.mjs';
import { setFault, sha256 } from './publisher.mjs';

const MODEL = sha256(readFileSync(`${DEMO.dir}/model.onnx`));

describe('in Firefox', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startBrowser>>} */
  let browser;
  /** @type {import('puppeteer-core').Page} */
  let page;

  before(async () => {
    stack = await startStack({ pages: 'tests/pages' });
    await stack.publish();
    browser = await startBrowser('firefox');
    page = await browser.open(`${stack.urls.page}blank.html`);
    await register();
  });
  after(async () => {
    await browser?.close();
    await stack?.stop();
  });

  const register = () =>
    page.evaluate(async () => {
      const { register } = await import('/edge-net.js');
      const options = localStorage.dev ?? (await (await fetch('/dev.json')).text());
      localStorage.dev = options;
      const { edge, gcs, ipfs, keys } = JSON.parse(options);
      window.edgeNet = await register({ edge, gcs, ipfs, keys });
      window.sources = [];
      window.edgeNet.addEventListener('segment', ({ detail }) =>
        window.sources.push(detail.source),
      );
      return window.edgeNet.mode;
    });
  const load = async (range) => {
    await page.evaluate(() => (window.sources.length = 0));
    const { status, sha256, error } = await fetchInPage(
      page,
      '/models/minilm-l6-v2-q8/model.onnx',
      range ? { range } : {},
    );
    assert.equal(error, undefined);
    await page.evaluate(hasHeard);
    return { status, sha256, sources: await page.evaluate(() => [...new Set(window.sources)]) };
  };
  const keys = () =>
    page.evaluate(async () =>
      (await (await caches.open('edge-net-segments-v1')).keys()).map(({ url }) =>
        url.split('/').at(-1),
      ),
    );
  const everySource = (fault) =>
    Promise.all(
      [stack.urls.edgeFault, stack.urls.gcsFault, stack.urls.ipfsFault].map((url) =>
        setFault(url, fault),
      ),
    );

  test('plain fetch(): the published bytes through the worker, then packed', async () => {
    const { status, sha256: got, sources } = await load();
    assert.deepEqual([status, got], [200, MODEL]);
    assert.ok(!sources.includes('cache'));
    for (let waited = 0; (await keys()).join() !== 'pack-0'; waited += 200) {
      assert.ok(waited < 20_000, `not packed: ${await keys()}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  });

  test('offline after a reload: the same bytes and ranges', async () => {
    await everySource({ mode: 'down' });
    await page.reload();
    assert.equal(await register(), 'service-worker');
    const whole = await load();
    assert.deepEqual([whole.status, whole.sha256, whole.sources], [200, MODEL, ['cache']]);
    const part = await load('bytes=4194300-4194309');
    assert.deepEqual(
      [part.status, part.sha256],
      [206, sha256(readFileSync(`${DEMO.dir}/model.onnx`).subarray(4_194_300, 4_194_310))],
    );
    await everySource({ mode: 'none' });
  });

  test('an altered entry is fetched again', async () => {
    await page.evaluate(async () => {
      const cache = await caches.open('edge-net-segments-v1');
      const [request] = await cache.keys();
      const entry = new Uint8Array(await (await cache.match(request)).arrayBuffer());
      entry[9_000_000] ^= 1;
      await cache.put(request, new Response(entry));
    });
    // A new worker: the running one holds verified blobs.
    await page.evaluate(async () => (await navigator.serviceWorker.getRegistration()).unregister());
    await page.reload();
    await register();
    const { sha256: got, sources } = await load();
    assert.equal(got, MODEL);
    assert.ok(
      sources.includes('cache') && sources.length > 1,
      `only what was bad is fetched again: ${sources}`,
    );
  });
});
