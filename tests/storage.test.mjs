// Storage in Chromium: budget, pins, packs, repair, and storage that the browser clears.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { startStack } from '../dev/stack.mjs';
import { fetchInPage, heard, openPage, register, startChromium } from './chromium.mjs';
import { publishFile, setFault, sha256 } from './publisher.mjs';
import { random } from './ranges.mjs';

const SEGMENT = 4_194_304;
const MB = 1_000_000;

/** Bytes that depend on the seed and do not compress. */
function bytesOf(seed, length) {
  const next = random(seed);
  return Buffer.from(
    Uint32Array.from({ length: Math.ceil(length / 4) }, () => next() * 2 ** 32).buffer,
    0,
    length,
  );
}

describe('storage', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startChromium>>} */
  let browser;
  const bytes = {};

  before(async () => {
    stack = await startStack({ pages: 'tests/pages', vars: { SEGMENT_CACHE: 'off' } });
    for (const [seed, [id, size]] of [
      ['one', 30 * MB],
      ['two', 30 * MB],
      ['three', 30 * MB],
      ['large', 70 * MB],
    ].entries()) {
      bytes[id] = bytesOf(seed, size);
      await publishFile(stack, 'model.bin', bytes[id], { id });
    }
  });
  after(() => stack?.stop());
  beforeEach(async () => {
    browser = await startChromium();
  });
  afterEach(() => browser?.close());

  const load = async (page, id) => {
    assert.equal((await fetchInPage(page, `/models/${id}/model.bin`)).sha256, sha256(bytes[id]));
    await page.evaluate(() => edgeNet.idle());
  };
  const list = (page) =>
    page.evaluate(async () =>
      Object.fromEntries((await edgeNet.list()).map((row) => [row.model, row])),
    );
  const whole = async (page) =>
    Object.values(await list(page))
      .filter(({ size, cachedBytes }) => size === cachedBytes)
      .map(({ model }) => model)
      .sort();
  const keys = (page) =>
    page.evaluate(async () =>
      (await (await caches.open('edge-net-segments-v1')).keys()).map(({ url }) =>
        url.split('/').at(-1),
      ),
    );
  const packed = async (page) => {
    for (const until = Date.now() + 20_000; Date.now() < until; await page.waitForTimeout(100)) {
      const names = await keys(page);
      if (names.length > 0 && names.every((name) => name.startsWith('pack-'))) return;
    }
    assert.fail(`not packed: ${await keys(page)}`);
  };
  /**
   * Stops the service worker, as browsers do when it is idle; the next request starts a new one.
   */
  const endWorker = async (page) => {
    const session = await browser.context.newCDPSession(page);
    await session.send('ServiceWorker.enable');
    await session.send('ServiceWorker.stopAllWorkers');
    await session.detach();
  };
  const sources = async (page) =>
    new Set(
      (await heard(page)).filter(({ type }) => type === 'segment').map(({ source }) => source),
    );
  const fromCache = async (page, id) => {
    await heard(page);
    await load(page, id);
    assert.deepEqual(await sources(page), new Set(['cache']));
  };

  test('a budget of 64 MiB keeps the newest two of three artifacts of 30 MB', async () => {
    const page = await openPage(browser.context, stack.urls, { budget: 64 << 20 });
    for (const id of ['one', 'two', 'three']) await load(page, id);
    assert.deepEqual(await whole(page), ['three', 'two']);
    assert.equal((await list(page)).one, undefined, 'nothing of the oldest is left');
    const { bytes: kept, budget } = await page.evaluate(() => edgeNet.usage());
    assert.ok(kept <= budget && kept === 60 * MB, `${kept} of ${budget}`);
    for (const id of ['two', 'three']) await fromCache(page, id);
    // A use makes it the most recently used.
    await load(page, 'two');
    await load(page, 'one');
    assert.deepEqual(await whole(page), ['one', 'two']);
  });

  test('a pinned artifact is not evicted', async () => {
    const page = await openPage(browser.context, stack.urls, { budget: 64 << 20 });
    await load(page, 'one');
    await page.evaluate(() => edgeNet.pin('one'));
    for (const id of ['two', 'three']) await load(page, id);
    assert.deepEqual(await whole(page), ['one', 'three']);
    assert.equal((await list(page)).one.pinned, true);
    await page.evaluate(() => edgeNet.unpin('one'));
    await load(page, 'two');
    assert.deepEqual(await whole(page), ['three', 'two']);
  });

  test('an artifact larger than the budget evicts nothing', async () => {
    const page = await openPage(browser.context, stack.urls, { budget: 64 << 20 });
    await load(page, 'one');
    await load(page, 'large');
    assert.deepEqual(Object.keys(await list(page)), ['one']);
  });

  test('a full disk: the least recently used goes; what does not fit is not stored', async () => {
    const page = await openPage(browser.context, stack.urls);
    const session = await browser.context.newCDPSession(page);
    const quota = (quotaSize) =>
      session.send('Storage.overrideQuotaForOrigin', {
        origin: new URL(stack.urls.page).origin,
        quotaSize,
      });
    await load(page, 'one');
    // Room for one artifact and not for one more segment: Chromium counts writes afterwards, so
    // concurrent writes may exceed the quota while there is room for one.
    await quota(33 * MB);
    await load(page, 'two');
    assert.deepEqual(await whole(page), ['two']);
    await quota(1000);
    await load(page, 'three');
    assert.ok(!(await whole(page)).includes('three'));
  });

  test('complete artifacts are packed, and read by range and offline', async () => {
    const page = await openPage(browser.context, stack.urls);
    await load(page, 'large');
    await packed(page);
    assert.deepEqual((await keys(page)).sort(), ['pack-0', 'pack-1']);
    assert.deepEqual(await whole(page), ['large']);
    await endWorker(page);
    for (const url of [stack.urls.edgeFault, stack.urls.gcsFault, stack.urls.ipfsFault])
      await setFault(url, { mode: 'down' });
    try {
      await fromCache(page, 'large');
      for (const [start, end] of [
        [0, 1],
        [SEGMENT - 1, SEGMENT + 1],
        [16 * SEGMENT - 5, 16 * SEGMENT + 5],
        [bytes.large.length - 3, bytes.large.length],
      ]) {
        const { status, sha256: got } = await fetchInPage(page, '/models/large/model.bin', {
          range: `bytes=${start}-${end - 1}`,
        });
        assert.deepEqual(
          [status, got],
          [206, sha256(bytes.large.subarray(start, end))],
          `${start}-${end}`,
        );
      }
    } finally {
      for (const url of [stack.urls.edgeFault, stack.urls.gcsFault, stack.urls.ipfsFault])
        await setFault(url, { mode: 'none' });
    }
  });

  test('only altered, short or missing segments are fetched again, packed or not', async () => {
    const page = await openPage(browser.context, stack.urls);
    const spoil = (how) =>
      page.evaluate(async (how) => {
        const cache = await caches.open('edge-net-segments-v1');
        // The newest: a worker stopped while it packs leaves the single entries beside the pack.
        const request = (await cache.keys()).findLast(({ url }) => /\/(pack-)?0$/.test(url));
        const entry = new Uint8Array(await (await cache.match(request)).arrayBuffer());
        const name = request.url.split('/').at(-1);
        if (how === 'missing') {
          await cache.delete(request);
          return name;
        }
        if (how === 'altered') entry[4_500_000 % entry.length] ^= 1;
        await cache.put(
          request,
          new Response(how === 'short' ? entry.subarray(0, entry.length - 1) : entry),
        );
        return name;
      }, how);
    for (const state of ['packed', 'single']) {
      for (const how of ['altered', 'short', 'missing']) {
        await endWorker(page); // it may be about to pack
        await page.evaluate(() => edgeNet.clear());
        await load(page, 'one');
        if (state === 'packed') await packed(page);
        await endWorker(page);
        const spoilt = await spoil(how);
        await heard(page);
        await load(page, 'one');
        const again = (await heard(page)).filter(
          ({ type, source }) => type === 'segment' && source !== 'cache',
        );
        const lost = how === 'missing' && spoilt === 'pack-0' ? 8 : 1;
        assert.equal(
          again.length,
          lost,
          `${state}, ${how}: ${again.length} segments were fetched again`,
        );
        await fromCache(page, 'one');
      }
    }
  });

  test('verify() reads stored segments again and returns the bad ones', async () => {
    const page = await openPage(browser.context, stack.urls);
    await load(page, 'one');
    await packed(page);
    assert.deepEqual(await page.evaluate(() => edgeNet.verify('one')), [
      { file: 'model.bin', segments: 8, good: 8, bad: [] },
    ]);
    assert.equal(await page.evaluate(() => edgeNet.isCached('one', 'model.bin')), true);
    await page.evaluate(async () => {
      const cache = await caches.open('edge-net-segments-v1');
      const [request] = await cache.keys();
      const entry = new Uint8Array(await (await cache.match(request)).arrayBuffer());
      entry[9_000_000] ^= 1;
      await cache.put(request, new Response(entry));
    });
    assert.deepEqual(await page.evaluate(() => edgeNet.verify('one')), [
      { file: 'model.bin', segments: 8, good: 7, bad: [2] },
    ]);
    assert.equal(await page.evaluate(() => edgeNet.isCached('one', 'model.bin')), false);
    await load(page, 'one');
    assert.equal(await page.evaluate(() => edgeNet.isCached('one', 'model.bin')), true);
  });

  test('a running worker notices that the browser cleared the storage', async () => {
    const page = await openPage(browser.context, stack.urls);
    await load(page, 'one');
    const session = await browser.context.newCDPSession(page);
    await session.send('Storage.clearDataForOrigin', {
      origin: new URL(stack.urls.page).origin,
      storageTypes: 'cache_storage,indexeddb',
    });
    await heard(page);
    await load(page, 'one');
    const from = await sources(page);
    assert.ok(!from.has('cache'), [...from].join());
    await fromCache(page, 'one');
  });

  test('without cache and database, bytes are served and not stored', async () => {
    const page = await browser.context.newPage();
    await page.addInitScript(() => {
      Object.defineProperty(navigator, 'serviceWorker', { value: undefined });
      Object.defineProperty(window, 'caches', {
        get: () => {
          throw new DOMException('denied', 'SecurityError');
        },
      });
      Object.defineProperty(window, 'indexedDB', {
        value: {
          open: () => {
            throw new DOMException('denied', 'SecurityError');
          },
        },
      });
    });
    await page.goto(`${stack.urls.page}blank.html`);
    assert.equal(await register(page), 'page');
    const digest = () =>
      page.evaluate(async () => {
        const got = await (await edgeNet.fetch('/models/one/model.bin')).arrayBuffer();
        return [...new Uint8Array(await crypto.subtle.digest('SHA-256', got))]
          .map((byte) => byte.toString(16).padStart(2, '0'))
          .join('');
      });
    assert.equal(await digest(), sha256(bytes.one));
    assert.equal(await digest(), sha256(bytes.one));
    assert.deepEqual(await page.evaluate(() => edgeNet.list()), []);
  });

  test('several tabs, and a worker that is replaced during a stream', async () => {
    const page = await openPage(browser.context, stack.urls);
    const other = await openPage(browser.context, stack.urls);
    await setFault(stack.urls.edgeFault, { mode: 'slow', rate: 4_000_000, match: 'model\\.bin$' });
    try {
      const both = [load(page, 'one'), load(other, 'one')];
      await page.waitForTimeout(1000);
      // Another script URL is another worker; it takes control at once.
      await register(other, { lanes: 3 });
      await Promise.all([...both, load(other, 'two')]);
    } finally {
      await setFault(stack.urls.edgeFault, { mode: 'none' });
    }
    // The replaced worker may still be storing segments; no page can ask it.
    await page.waitForFunction(() => edgeNet.isCached('one', 'model.bin'));
    await fromCache(page, 'one');
  });

  test('preload(), remove() and clear()', async () => {
    const page = await openPage(browser.context, stack.urls);
    await page.evaluate(() => edgeNet.preload('/models/one/model.bin'));
    await page.evaluate(() => edgeNet.preload('/models/two/model.bin'));
    assert.deepEqual(await whole(page), ['one', 'two']);
    assert.match(
      await page.evaluate(() => edgeNet.preload('/models/one/none.bin').catch(String)),
      /status 404/,
    );
    await page.evaluate(() => edgeNet.remove('one'));
    assert.deepEqual(Object.keys(await list(page)), ['two']);
    await page.evaluate(() => edgeNet.clear());
    assert.deepEqual(await list(page), {});
    assert.deepEqual(await keys(page), []);
    assert.match(await page.evaluate(() => edgeNet.verify('none').catch(String)), /none/);
  });
});
