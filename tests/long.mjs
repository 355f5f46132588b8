// A download of more than six minutes, through plain fetch(): `make long`, or `node tests/long.mjs
// chromium|firefox`. Every source is throttled, so that the download outlasts every browser's limit
// on events and idle workers. SILENT=1 stops the page's `downloads` messages, to show their effect.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { DEMO, startStack } from '../dev/stack.mjs';
import { startBrowser } from './browsers.mjs';
import { setFault, sha256 } from './publisher.mjs';

const LEAST = 6 * 60;
/** Bytes a second of each request: four at once take about six and a half minutes for 23 MB. */
const RATE = Number(process.env.RATE ?? 14_000);

const browsers = process.argv.slice(2);
const stack = await startStack({ pages: 'tests/pages' });
try {
  await stack.publish();
  for (const url of [stack.urls.edgeFault, stack.urls.gcsFault, stack.urls.ipfsFault])
    await setFault(url, { mode: 'slow', rate: RATE });
  await Promise.all((browsers.length ? browsers : ['chromium', 'firefox']).map(load));
} finally {
  await stack.stop();
}

async function load(name) {
  const browser = await startBrowser(name);
  try {
    const page = await browser.open(`${stack.urls.page}blank.html`);
    if (process.env.SILENT) await page.evaluate(() => (globalThis.setInterval = () => 0));
    await page.evaluate(async () => {
      const { register } = await import('/edge-net.js');
      const { edge, gcs, ipfs, keys } = await (await fetch('/dev.json')).json();
      window.edgeNet = await register({ edge, gcs, ipfs, keys });
      if (window.edgeNet.mode !== 'service-worker')
        throw new Error(`the mode is ${window.edgeNet.mode}`);
      window.state = {};
      const started = performance.now();
      fetch('/models/minilm-l6-v2-q8/model.onnx')
        .then((response) => response.arrayBuffer())
        .then(async (bytes) => {
          const digest = [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))];
          return digest.map((byte) => byte.toString(16).padStart(2, '0')).join('');
        })
        .then(
          (sha256) => (window.state = { sha256, seconds: (performance.now() - started) / 1000 }),
        )
        .catch(
          (error) =>
            (window.state = {
              error: String(error),
              seconds: (performance.now() - started) / 1000,
            }),
        );
    });
    let state = {};
    while (!state.seconds) {
      await new Promise((resolve) => setTimeout(resolve, 5000));
      state = await page.evaluate(() => window.state);
    }
    const outcome = state.error ?? 'complete';
    console.log(`${name} ${browser.version}: ${outcome} after ${Math.round(state.seconds)} s`);
    assert.equal(state.error, undefined);
    assert.equal(state.sha256, sha256(readFileSync(`${DEMO.dir}/model.onnx`)));
    assert.ok(state.seconds >= LEAST, `it took ${state.seconds} s only: lower RATE`);
  } finally {
    await browser.close();
  }
}
