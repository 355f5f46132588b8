// Interrupted and shared downloads.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
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
