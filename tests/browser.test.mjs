// The service worker in Chromium, against the real stack.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { DEMO, startStack } from '../dev/stack.mjs';
import {
  fetchInPage,
  forgetEverything,
  heard,
  openPage,
  register,
  startChromium,
} from './chromium.mjs';
import {
  BUCKET_FAULTS,
  HINDRANCES,
  nonCanonical,
  publishSmall,
  putObject,
  resign,
  setFault,
  sha256,
} from './publisher.mjs';
import { SEED, anyRange, random } from './ranges.mjs';
import { assertEmbeds, referenceEmbedding } from './reference-embedding.mjs';

const MODEL = readFileSync(`${DEMO.dir}/model.onnx`);
const URL_OF_MODEL = '/models/minilm-l6-v2-q8/model.onnx';
const CID = 'bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu';
const SEGMENTS = 6;

describe('in Chromium', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  /** @type {Awaited<ReturnType<typeof startChromium>>} */
  let browser;
  /** @type {import('playwright-core').Page} */
  let page;

  before(async () => {
    stack = await startStack({ pages: 'tests/pages', vars: { SEGMENT_CACHE: 'off' } });
    await stack.publish();
  });
  after(() => stack?.stop());

  // Each test starts with an empty profile.
  beforeEach(async () => {
    browser = await startChromium();
    page = await openPage(browser.context, stack.urls);
  });
  afterEach(async () => {
    await browser?.close();
    for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault, stack.urls.edgeFault])
      await setFault(url, { mode: 'none' });
  });

  const names = (list) => [...new Set(list.flatMap((name) => name.split('+')))].sort();
  const stopAll = () => Promise.all([stack.stopEdge(), stack.stopGcs(), stack.stopIpfs()]);
  const startAll = async () => {
    await Promise.all([stack.startGcs(), stack.startIpfs()]);
    await stack.startEdge();
  };
  const rangesAreSlices = async (count, seed) => {
    const next = random(seed);
    for (let i = 0; i < count; i++) {
      const { field, bytes } = anyRange(next, MODEL.length);
      const context = `SEED=${SEED}, range ${i}: ${field}`;
      const {
        status,
        headers,
        sha256: got,
        error,
      } = await fetchInPage(page, URL_OF_MODEL, { range: field });
      assert.equal(error, undefined, context);
      if (!bytes) {
        assert.equal(status, 416, context);
        assert.equal(headers['content-range'], `bytes */${MODEL.length}`, context);
        continue;
      }
      assert.equal(status, 206, context);
      assert.equal(
        headers['content-range'],
        `bytes ${bytes[0]}-${bytes[1] - 1}/${MODEL.length}`,
        context,
      );
      assert.equal(got, sha256(MODEL.subarray(...bytes)), context);
    }
  };

  test('plain fetch(): the published bytes, and the origin of each segment', async () => {
    const { status, headers, sha256: got } = await fetchInPage(page, URL_OF_MODEL);
    assert.equal(status, 200);
    assert.equal(got, sha256(MODEL));
    assert.equal(headers['content-length'], String(MODEL.length));
    assert.equal(headers['x-model-version'], DEMO.version);
    const events = await heard(page);
    const segments = events.filter(({ type }) => type === 'segment');
    assert.deepEqual(segments.map(({ segment }) => segment).sort(), [...Array(SEGMENTS).keys()]);
    // Sources work in order: the edge is well.
    assert.ok(segments.every(({ segments: of }) => of === SEGMENTS));
    assert.deepEqual(names(segments.map(({ source }) => source)), ['edge']);
    assert.deepEqual(names(segments.map(({ origin }) => origin)), ['gcs']);
    const progress = events.filter(
      ({ type, file }) => type === 'progress' && file === 'model.onnx',
    );
    assert.ok(
      progress.every(
        ({ size, rate, received, verified }) =>
          size === MODEL.length && rate > 0 && verified <= received + MODEL.length,
      ),
    );
    assert.equal(events.filter(({ type }) => type === 'complete').length, 1);
    assert.deepEqual(
      events.filter(({ type }) => type === 'failed'),
      [],
    );

    await page.evaluate(() => edgeNet.idle());
    await page.reload();
    await register(page);
    assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
    const again = (await heard(page)).filter(({ type }) => type === 'segment');
    assert.ok(again.length === SEGMENTS && again.every(({ source }) => source === 'cache'));
  });

  test('ranges are slices, cold and warm', async () => {
    await rangesAreSlices(25, SEED);
    await fetchInPage(page, URL_OF_MODEL);
    await rangesAreSlices(25, SEED + 1);
  });

  test('offline after a reload: the same bytes, ranges and embedding', async () => {
    const sentence = 'The quick brown fox jumps over the lazy dog.';
    const reference = await referenceEmbedding(sentence);
    const embed = () =>
      page.evaluate(async (sentence) => {
        const { createEmbedder } = await import('/embedding.js');
        const embedder = await createEmbedder({ fetch, base: '/models/minilm-l6-v2-q8/' });
        return [...(await embedder.embed(sentence))];
      }, sentence);
    const equalsReference = (embedding) => assertEmbeds(embedding, reference);
    equalsReference(await embed());
    await page.evaluate((url) => edgeNet.preload(url), URL_OF_MODEL);
    await stopAll();
    try {
      await page.reload();
      await register(page);
      assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
      await rangesAreSlices(25, SEED + 2);
      equalsReference(await embed());
    } finally {
      await startAll();
    }
  });

  test('a flipped byte in the bucket: the edge uses IPFS, and the page gets an event', async () => {
    const onlyEdge = { gcs: undefined, ipfs: [] };
    page = await openPage(browser.context, stack.urls, onlyEdge);
    await setFault(stack.urls.gcsFault, { mode: 'corrupt', offset: 5_000_000 });
    assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
    const segments = (await heard(page)).filter(({ type }) => type === 'segment');
    assert.match(segments.find(({ segment }) => segment === 1).origin, /ipfs/);
    assert.equal(segments.find(({ segment }) => segment === 0).origin, 'gcs');
  });

  test('a flipped byte in the stored object: the same', async () => {
    const spoilt = Buffer.from(MODEL);
    spoilt[5_000_000] ^= 1;
    await putObject(stack, 'minilm-l6-v2-q8/v1.1.0/model.onnx', spoilt);
    try {
      assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
      const segments = (await heard(page)).filter(({ type }) => type === 'segment');
      assert.match(segments.find(({ segment }) => segment === 1).origin, /ipfs/);
    } finally {
      await putObject(stack, 'minilm-l6-v2-q8/v1.1.0/model.onnx', MODEL);
    }
  });

  test('a flipped byte at every source: the fetch fails, and no bad bytes are stored', async () => {
    for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault])
      await setFault(url, { mode: 'corrupt', offset: 5_000_000 });
    const { error } = await fetchInPage(page, URL_OF_MODEL);
    assert.ok(error);
    const events = await heard(page);
    const failed = events.find(({ type }) => type === 'failed');
    assert.match(failed.message, /no source has a good copy of bytes \d+-\d+/);
    assert.match(failed.message, /gcs: it sent wrong bytes in leaf 19/);
    assert.match(failed.message, /ipfs: it sent wrong bytes in leaf 19/);
    assert.ok(events.some(({ type, source }) => type === 'refused' && source === 'gcs'));

    // The bytes delivered before the failure are a prefix of the model; the stored ones are its
    // segments.
    const handedOn = await page.evaluate(async (url) => {
      const reader = (await fetch(url)).body.getReader();
      let text = '';
      try {
        for (let read; !(read = await reader.read()).done;)
          text += Array.from(read.value, (byte) => String.fromCharCode(byte)).join('');
      } catch {}
      return btoa(text);
    }, URL_OF_MODEL);
    const beginning = Buffer.from(handedOn, 'base64');
    assert.ok(
      beginning.length < 5_000_000 && beginning.equals(MODEL.subarray(0, beginning.length)),
    );
    const kept = await page.evaluate(async () => {
      const cache = await caches.open('edge-net-segments-v1');
      const rows = [];
      for (const request of await cache.keys()) {
        const digest = await crypto.subtle.digest(
          'SHA-256',
          await (await cache.match(request)).arrayBuffer(),
        );
        rows.push([
          request.url,
          [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
        ]);
      }
      return rows;
    });
    for (const [url, digest] of kept.filter(([url]) => url.includes(CID))) {
      const segment = Number(url.split('/').at(-1));
      assert.equal(digest, sha256(MODEL.subarray(segment * 4_194_304, (segment + 1) * 4_194_304)));
    }
    assert.ok(
      !kept.some(([url]) => url.endsWith(`${CID}/1`)),
      'the segment that nobody has is not kept',
    );

    for (const url of [stack.urls.gcsFault, stack.urls.ipfsFault])
      await setFault(url, { mode: 'none' });
    assert.equal(
      (await fetchInPage(page, URL_OF_MODEL)).sha256,
      sha256(MODEL),
      'and once they are mended, all is well',
    );
  });

  // workerd decodes compressed parts and gets the right bytes; Chromium does not.
  for (const fault of [...BUCKET_FAULTS, { mode: 'gzip', match: 'model\\.onnx$' }]) {
    test(`a faulty edge (${fault.mode}): correct bytes from another source`, async () => {
      await setFault(stack.urls.edgeFault, fault);
      assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
      const events = await heard(page);
      assert.ok(events.some(({ type, source }) => type === 'segment' && source.includes('gcs')));
      await rangesAreSlices(5, SEED);
    });
  }

  for (const fault of HINDRANCES) {
    test(`every source impaired (${fault.mode}): correct bytes`, async () => {
      for (const url of [stack.urls.edgeFault, stack.urls.gcsFault]) await setFault(url, fault);
      await setFault(stack.urls.ipfsFault, { ...fault, match: CID });
      assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
    });
  }

  test('one source stalls: the others deliver without waiting for it', async () => {
    await setFault(stack.urls.ipfsFault, { mode: 'slow', rate: 0, match: CID });
    const started = Date.now();
    assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
    assert.ok(Date.now() - started < 15_000, 'the stall limit is 20 s');
  });

  test('edge and bucket down: correct bytes from IPFS', async () => {
    await fetchInPage(page, '/models/minilm-l6-v2-q8/config.json'); // the manifest has to be stored
    for (const url of [stack.urls.edgeFault, stack.urls.gcsFault])
      await setFault(url, { mode: 'down' });
    assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
    const segments = (await heard(page)).filter(
      ({ type, file }) => type === 'segment' && file === 'model.onnx',
    );
    assert.ok(segments.length === SEGMENTS && segments.every(({ source }) => source === 'ipfs'));
  });

  test('an altered stored segment is fetched again', async () => {
    await fetchInPage(page, URL_OF_MODEL);
    await page.evaluate(() => edgeNet.idle());
    await page.evaluate(async () => {
      const cache = await caches.open('edge-net-segments-v1');
      const [request] = await cache.keys();
      await cache.put(request, new Response('altered'));
    });
    assert.equal((await fetchInPage(page, URL_OF_MODEL)).sha256, sha256(MODEL));
  });

  test('stored files can be listed and removed', async () => {
    await fetchInPage(page, URL_OF_MODEL);
    await page.evaluate(() => edgeNet.idle());
    const [row] = await page.evaluate(() => edgeNet.list());
    assert.deepEqual(
      [row.model, row.file, row.size, row.cachedBytes],
      ['minilm-l6-v2-q8', 'model.onnx', MODEL.length, MODEL.length],
    );
    await page.evaluate(() => edgeNet.remove('minilm-l6-v2-q8'));
    assert.deepEqual(await page.evaluate(() => edgeNet.list()), []);
    assert.equal(
      await page.evaluate(
        async () => (await (await caches.open('edge-net-segments-v1')).keys()).length,
      ),
      0,
    );
  });

  test('HEAD, 404, and other URLs of the origin', async () => {
    const head = await page.evaluate(async (url) => {
      const response = await fetch(url, { method: 'HEAD' });
      return { status: response.status, length: response.headers.get('content-length') };
    }, URL_OF_MODEL);
    assert.deepEqual(head, { status: 200, length: String(MODEL.length) });
    const missing = await fetchInPage(page, '/models/minilm-l6-v2-q8/generation_config.json');
    assert.equal(missing.status, 404);
    assert.equal(missing.headers['content-type'], 'application/problem+json');
    assert.equal((await fetchInPage(page, '/blank.html')).status, 200);
    // Static routing: the worker did not start for it.
    const entry = await page.evaluate(() =>
      performance.getEntriesByName(new URL('/blank.html', location.href).href).at(-1).toJSON(),
    );
    assert.equal(entry.workerFinalSourceType, 'network');
  });

  describe('manifests', () => {
    /**
     * The error of fetching a small model whose manifest was altered in the bucket, and so at the
     * edge.
     */
    const refused = async (id, spoil) => {
      const manifest = await publishSmall(stack, { id, version: '1.0.0' });
      await putObject(stack, `${id}/manifest.json`, JSON.stringify(await spoil(manifest)));
      const { error } = await fetchInPage(page, `/models/${id}/notes.txt`);
      assert.ok(error, 'it must fail');
      return (await heard(page)).find(({ type, model }) => type === 'failed' && model === id)
        .message;
    };

    test('changed fields, unknown keys, non-canonical signatures are refused by name', async () => {
      assert.match(
        await refused('changed', (manifest) => ({ ...manifest, version: '1.0.1' })),
        /signature by "development" does not fit its fields/,
      );
      assert.match(
        await refused('unknown', (manifest) => resign(manifest, 'stranger')),
        /signed by key "stranger", which is not pinned here \(pinned: development\)/,
      );
      assert.match(
        await refused('unreduced', nonCanonical),
        /signature by "development" is not a canonical Ed25519 signature/,
      );
      assert.match(
        await refused('no-size', ({ artifacts: { notes, ...rest }, ...manifest }) =>
          resign({ ...manifest, artifacts: rest }),
        ),
        /manifest field `artifacts`/,
      );
    });

    test('an older version than the accepted one is refused, naming both', async () => {
      const old = await publishSmall(stack, { id: 'rolled', version: '1.0.0' });
      await publishSmall(stack, { id: 'rolled', version: '1.1.0' });
      assert.equal(
        (await fetchInPage(page, '/models/rolled/notes.txt')).headers['x-model-version'],
        '1.1.0',
      );

      // For a rollback, the edge, the bucket and the worker's memory have to forget the newer one.
      await putObject(stack, 'rolled/manifest.json', JSON.stringify(old));
      await stack.stopEdge();
      await stack.startEdge();
      await browser.context
        .newCDPSession(page)
        .then((session) =>
          session
            .send('ServiceWorker.enable')
            .then(() => session.send('ServiceWorker.stopAllWorkers')),
        );
      await page.reload();
      await register(page);
      assert.equal(
        (await fetchInPage(page, '/models/rolled/notes.txt')).headers['x-model-version'],
        '1.1.0',
        'the newer one still holds',
      );
      const { reason } = (await heard(page)).find(
        ({ type, model }) => type === 'refused' && model === 'rolled',
      );
      const [older, newer] = ['1\\.0\\.0', '1\\.1\\.0'].map((n) => `version ${n} signed \\S+`);
      assert.match(
        reason,
        new RegExp(`${older} is older than ${newer}, which was accepted before`),
      );
      // The old version is still served under its own URL.
      assert.equal(
        (await fetchInPage(page, '/models/rolled/v1.0.0/notes.txt')).headers['x-model-version'],
        '1.0.0',
      );
    });
  });

  test('without service workers, EdgeNet.fetch in the page gives the same', async () => {
    await forgetEverything(page);
    const other = await browser.context.newPage();
    await other.addInitScript(() =>
      Object.defineProperty(navigator, 'serviceWorker', { value: undefined }),
    );
    await other.goto(`${stack.urls.page}blank.html`);
    assert.equal(await register(other), 'page');
    await setFault(stack.urls.gcsFault, { mode: 'corrupt', offset: 5_000_000 });
    const inPage = (url) =>
      other.evaluate(async (url) => {
        try {
          const bytes = await (await edgeNet.fetch(url)).arrayBuffer();
          const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
          return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
        } catch (error) {
          return String(error);
        }
      }, url);
    assert.equal(await inPage(URL_OF_MODEL), sha256(MODEL));
    assert.equal((await other.evaluate(() => edgeNet.list())).length, 1);
    await publishSmall(stack, { id: 'nowhere', version: '1.0.0' });
    await putObject(stack, 'nowhere/manifest.json', '{}');
    assert.match(await inPage('/models/nowhere/notes.txt'), /manifest field `id` is missing/);
  });

  test('an app with its own service worker imports this one', async () => {
    await forgetEverything(page);
    const other = await browser.context.newPage();
    await other.goto(`${stack.urls.page}blank.html`);
    await other.evaluate(async () => {
      const { connect } = await import('/edge-net.js');
      const { edge, gcs, ipfs, keys } = await (await fetch('/dev.json')).json();
      const controlled = new Promise((resolve) =>
        navigator.serviceWorker.addEventListener('controllerchange', resolve),
      );
      await navigator.serviceWorker.register(
        `/own-worker.js?models=${encodeURIComponent(JSON.stringify({ edge, gcs, ipfs, keys }))}`,
      );
      await controlled;
      window.edgeNet = await connect();
    });
    assert.equal(
      await other.evaluate(async () => (await fetch('/own')).text()),
      'answered by the app',
    );
    assert.equal((await fetchInPage(other, URL_OF_MODEL)).sha256, sha256(MODEL));
    assert.equal(
      (await other.evaluate(() => edgeNet.manifest('minilm-l6-v2-q8'))).version,
      DEMO.version,
    );
  });
});
