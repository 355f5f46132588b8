// Who controls the page, with which keys, under which restrictions: in Chromium and Firefox, no
// byte that was not verified, and no promise that stays pending.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { networkInterfaces } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { startStack } from '../dev/stack.mjs';
import { startBrowser } from './browsers.mjs';
import { publishFile, publishSmall, setFault, sha256 } from './publisher.mjs';

const TEXT = 'notes that a publisher signed';
const NOTES = '/models/tiny/notes.txt';
const LARGE = Buffer.alloc(20_000_000, 'large');
const OTHER_KEYS = { other: 'K0LcoE3Gz7jN3RoV3qfe1mNMpUdGSbe5yIVVPBJoJgw=' };
/** Firefox stops a worker 0.5 s after its last event, instead of 30 s. */
const STOP_SOON = {
  'dom.serviceWorkers.idle_timeout': 500,
  'dom.serviceWorkers.idle_extended_timeout': 500,
};
/** Longer than any limit of a promise that a test waits for, in milliseconds. */
const PENDING = 40_000;

/** @type {Awaited<ReturnType<typeof startStack>>} */
let stack;
before(async () => {
  stack = await startStack({ pages: 'tests/pages', vars: { SEGMENT_CACHE: 'off' } });
  await publishSmall(stack, { id: 'tiny', text: TEXT });
  await publishFile(stack, 'model.bin', LARGE, { id: 'large' });
});
after(() => stack?.stop());

/**
 * A site of its own, with empty storage: the files of the stack's page, and unverified bytes below
 * /models/. `headers` are more of them for paths that match, and `scripts` more scripts.
 */
async function startSite({ headers = [], scripts = {}, host = '127.0.0.1' } = {}) {
  const site = { asked: [] };
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://site');
    if (pathname.startsWith('/models/')) {
      site.asked.push(pathname);
      return response.writeHead(200, { 'content-type': 'text/plain' }).end('not verified');
    }
    const more = headers.filter(([of]) => of.test(pathname)).flatMap(([, fields]) => [fields]);
    const script = scripts[pathname];
    const found = await fetch(new URL(script?.from ?? pathname, stack.urls.page));
    const type = found.headers.get('content-type') ?? 'text/plain';
    const fields = Object.assign({ 'content-type': type, 'cache-control': 'no-store' }, ...more);
    response.writeHead(found.status, fields).end((await found.text()) + (script?.more ?? ''));
  });
  server.listen(0, host);
  await once(server, 'listening');
  site.url = `http://${host}:${server.address().port}`;
  site.scripts = scripts;
  site.stop = () => (server.closeAllConnections(), server.close());
  return site;
}

/** Fails when a promise stays pending. */
function limited(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`pending after ${PENDING} ms`)), PENDING);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Runs `act` in a page. */
const inPage = (page, act, argument) => limited(page.evaluate(act, argument));

/** Registers or connects, in a page; resolves to the mode, or to the message of the error. */
const start = (page, { how = 'register', keys, options = true, more = {} } = {}) =>
  inPage(
    page,
    async ({ how, keys, options, more }) => {
      const module = await import('/edge-net.js');
      const dev = await (await fetch('/dev.json')).json();
      const { edge, gcs, ipfs } = dev;
      const all = options ? { edge, gcs, ipfs, keys: keys ?? dev.keys, ...more } : more;
      window.heard = [];
      try {
        window.edgeNet = await module[how](all);
      } catch (error) {
        return error.message;
      }
      for (const type of ['failed', 'unstored', 'mode'])
        edgeNet.addEventListener(type, ({ detail }) => window.heard.push({ type, ...detail }));
      return edgeNet.mode;
    },
    { how, keys, options, more },
  );

/** The text of a model's file, or the message of the error. `way`: edgeNet, or plain. */
const read = (page, url = NOTES, way = 'edgeNet') =>
  inPage(
    page,
    async ({ url, way }) => {
      try {
        return await (await (way === 'plain' ? fetch(url) : edgeNet.fetch(url))).text();
      } catch (error) {
        return error.message;
      }
    },
    { url, way },
  );

/** The models that are stored, once all that arrived is stored. */
const list = (page) =>
  inPage(page, async () => {
    try {
      await edgeNet.idle();
      return (await edgeNet.list()).map(({ model }) => model);
    } catch (error) {
      return error.message;
    }
  });

/** Registers a worker, and waits until it controls the page, or is active with `claims: false`. */
const registerWorker = (page, { script, scope, claims = true }) =>
  inPage(
    page,
    async ({ script, scope, claims }) => {
      const changed = new Promise((resolve) =>
        navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true }),
      );
      await navigator.serviceWorker.register(script, { scope });
      await (claims ? changed : navigator.serviceWorker.ready);
    },
    { script, scope, claims },
  );

const everySource = (fault) =>
  Promise.all(
    [stack.urls.edgeFault, stack.urls.gcsFault, stack.urls.ipfsFault].map((url) =>
      setFault(url, fault),
    ),
  );

/** Runs in a page: starts a download by plain fetch(), and resolves when it has begun. */
const loadLarge = async () => {
  const response = await fetch('/models/large/model.bin');
  const reader = response.body.getReader();
  const parts = [(await reader.read()).value];
  window.digest = (async () => {
    for (let read; !(read = await reader.read()).done; ) parts.push(read.value);
    const digest = await crypto.subtle.digest('SHA-256', await new Blob(parts).arrayBuffer());
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  })();
};

/** Makes a worker of a page, out of a blob; resolves to a function that has it read NOTES. */
async function makeWorker(page, source) {
  const made = await page.evaluateHandle((source) => {
    const blob = new Blob([source], { type: 'text/javascript' });
    return new Worker(URL.createObjectURL(blob));
  }, source);
  return async () => {
    const text = made.evaluate(async (worker, url) => {
      const answer = new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = (event) => reject(new Error(event.message));
      });
      worker.postMessage(new URL(url, location.href).href);
      return answer;
    }, NOTES);
    return limited(text);
  };
}

const PLAIN_WORKER = `onmessage = async ({ data }) => {
  const text = fetch(data).then((response) => response.text());
  postMessage(await text.catch(String));
};`;

const WORKER_WITH_MODULE = `onmessage = async ({ data }) => {
  const { origin } = new URL(data);
  const { register } = await import(origin + '/edge-net.js');
  const { edge, keys } = await (await fetch(origin + '/dev.json')).json();
  const edgeNet = await register({ edge, keys });
  postMessage(await (await edgeNet.fetch(data)).text());
};`;

for (const name of ['chromium', 'firefox']) {
  describe(`control, in ${name}`, () => {
    /** @type {Awaited<ReturnType<typeof startBrowser>>} */
    let browser;
    const sites = [];
    before(async () => {
      browser = await startBrowser(name);
    });
    after(async () => {
      await browser?.close();
      sites.forEach((site) => site.stop());
    });
    const visit = async (path, options) => {
      const site = await startSite(options);
      sites.push(site);
      return { site, page: await browser.open(`${site.url}${path}`) };
    };

    test('a worker of a narrower scope: verified in the page', async () => {
      const scripts = { '/app/sw.js': { from: '/foreign-worker.js' } };
      scripts['/app/page.html'] = { from: '/blank.html' };
      const { site, page } = await visit('/app/page.html', { scripts });
      await registerWorker(page, { script: '/app/sw.js' });
      assert.equal(await read(page, NOTES, 'plain'), 'not verified', 'the site would say this');
      site.asked.length = 0;
      // Without options there are no keys: an error that says what to do.
      const error = await start(page, { how: 'connect', options: false });
      assert.match(error, /no service worker with edge-net-sw\.js answers this page/);
      for (const how of ['connect', 'register']) {
        assert.equal(await start(page, { how }), 'page');
        assert.deepEqual([await read(page), await list(page)], [TEXT, ['tiny']]);
      }
      assert.deepEqual(site.asked, []);
    });

    test('another worker takes over later: verified in the page from then on', async () => {
      const scripts = { '/app/sw.js': { from: '/foreign-worker.js' } };
      scripts['/app/page.html'] = { from: '/blank.html' };
      const { page } = await visit('/app/page.html', { scripts });
      assert.equal(await start(page), 'service-worker');
      assert.equal(await read(page), TEXT);
      await registerWorker(page, { script: '/app/sw.js' });
      assert.deepEqual([await read(page), await list(page)], [TEXT, ['tiny']]);
      const state = await inPage(page, () => [edgeNet.mode, window.heard.map(({ mode }) => mode)]);
      assert.deepEqual(state, ['page', ['page']]);
    });

    test('a hard reload: verified in the page, by the options of the app’s worker', async () => {
      const { page } = await visit('/blank.html');
      const dev = await inPage(page, async () => (await fetch('/dev.json')).json());
      const { edge, gcs, ipfs, keys } = dev;
      const models = encodeURIComponent(JSON.stringify({ edge, gcs, ipfs, keys }));
      await registerWorker(page, { script: `/own-worker.js?models=${models}` });
      assert.equal(await start(page, { how: 'connect', options: false }), 'service-worker');
      assert.equal(await read(page), TEXT);
      assert.equal(await read(page, NOTES, 'plain'), TEXT);
      const others = { how: 'connect', keys: OTHER_KEYS };
      assert.equal(await start(page, others), 'page', 'the worker pins other keys');
      assert.match(await read(page), /which is not pinned here \(pinned: other\)/);

      await hardReload(page);
      assert.equal(await inPage(page, () => navigator.serviceWorker.controller), null);
      assert.equal(await start(page, { how: 'connect', options: false }), 'page');
      assert.deepEqual([await read(page), await list(page)], [TEXT, ['tiny']]);
      assert.equal(await start(page), 'service-worker', 'ours replaces the app’s');
      await hardReload(page);
      assert.equal(await start(page), 'page');
      assert.equal(await read(page), TEXT);
    });

    /** Reloads as with the shift key. */
    const hardReload = async (page) => {
      if (name === 'chromium') {
        const session = await page.createCDPSession();
        const loaded = page.waitForNavigation();
        await session.send('Page.reload', { ignoreCache: true });
        await loaded;
      } else {
        const loaded = page.waitForNavigation();
        await page.evaluate(() => void setTimeout(() => location.reload(true)));
        await loaded;
      }
    };

    test('two tabs with other keys: each by its own, and no download ends', async () => {
      const { site, page } = await visit('/blank.html');
      assert.equal(await start(page), 'service-worker');
      await everySource({ mode: 'slow', rate: 1_500_000 });
      const other = await browser.open(`${site.url}/blank.html`);
      try {
        await inPage(page, loadLarge);
        assert.equal(await start(other, { keys: OTHER_KEYS }), 'service-worker');
        const refused = /signed by key "development", which is not pinned here \(pinned: other\)/;
        assert.match(await read(other), refused);
        assert.notEqual(await read(other, NOTES, 'plain'), TEXT);
        assert.deepEqual([await read(page), await read(page, NOTES, 'plain')], [TEXT, TEXT]);
        const worker = () => {
          const { scriptURL, state } = navigator.serviceWorker.controller;
          return [scriptURL, state];
        };
        assert.deepEqual(await inPage(page, worker), await inPage(other, worker));
      } finally {
        await everySource({ mode: 'none' });
      }
      assert.equal(await inPage(page, () => window.digest), sha256(LARGE));
      assert.deepEqual(site.asked, []);
      await other.close();
    });

    test('a worker that was stopped asks the pages for their keys', async (context) => {
      const site = await startSite();
      const idle = await startBrowser(name, STOP_SOON);
      context.after(() => (site.stop(), idle.close()));
      const page = await idle.open(`${site.url}/blank.html`);
      assert.equal(await start(page), 'service-worker');
      const other = await idle.open(`${site.url}/blank.html`);
      assert.equal(await start(other, { keys: OTHER_KEYS }), 'service-worker');
      const worker = await makeWorker(page, PLAIN_WORKER);
      assert.match(await worker(), /^TypeError/, 'by the keys given last');
      const refused = /which is not pinned here \(pinned: other\)/;
      for (const way of ['edgeNet', 'plain']) {
        await stopWorkers(page);
        assert.equal(await read(page, NOTES, way), TEXT);
        await stopWorkers(page);
        const got = await read(other, NOTES, way);
        if (way === 'edgeNet') assert.match(got, refused);
        else assert.ok(got !== TEXT && got !== 'not verified', got);
      }
      await other.close();
      await stopWorkers(page);
      assert.equal(await worker(), TEXT, 'by the keys of the page that is left');
      assert.deepEqual(site.asked, []);
    });

    /** Stops the service workers, as browsers do when they are idle. */
    const stopWorkers = async (page) => {
      if (name === 'firefox') return new Promise((resolve) => setTimeout(resolve, 2000));
      const session = await page.createCDPSession();
      await session.send('ServiceWorker.enable');
      await session.send('ServiceWorker.stopAllWorkers');
      await session.detach();
    };

    test('a new version of the script waits for downloads, then takes over', async () => {
      const { site, page } = await visit('/blank.html', { scripts: { '/edge-net-sw.js': {} } });
      assert.equal(await start(page), 'service-worker');
      await everySource({ mode: 'slow', rate: 1_500_000 });
      try {
        await inPage(page, loadLarge);
        site.scripts['/edge-net-sw.js'].more = '\n// a new version';
        const waits = await inPage(page, async () => {
          window.first = navigator.serviceWorker.controller;
          const registration = await navigator.serviceWorker.getRegistration();
          await registration.update();
          while (registration.installing) await new Promise((resolve) => setTimeout(resolve, 50));
          await new Promise((resolve) => setTimeout(resolve, 1000));
          return !!registration.waiting && navigator.serviceWorker.controller === window.first;
        });
        assert.ok(waits);
      } finally {
        await everySource({ mode: 'none' });
      }
      assert.equal(await inPage(page, () => window.digest), sha256(LARGE));
      // The page asks every ten seconds.
      await inPage(page, async () => {
        while (navigator.serviceWorker.controller === window.first)
          await new Promise((resolve) => setTimeout(resolve, 50));
      });
      assert.deepEqual([await read(page), await read(page, NOTES, 'plain')], [TEXT, TEXT]);
      assert.equal(await inPage(page, () => edgeNet.mode), 'service-worker');
    });

    test('an upgrade of the database that another tab blocks: fetches work, told why', async () => {
      const { site, page: old } = await visit('/blank.html');
      await inPage(old, () =>
        new Promise((resolve) => {
          const request = indexedDB.open('edge-net', 1);
          request.onupgradeneeded = () => request.result.createObjectStore('segments');
          request.onsuccess = resolve;
          window.held = request; // and no onversionchange
        }).then(() => undefined),
      );
      const page = await browser.open(`${site.url}/blank.html`);
      assert.equal(await start(page), 'service-worker');
      assert.deepEqual([await read(page), await list(page)], [TEXT, []], 'nothing is stored');
      const [event] = await inPage(page, () => window.heard);
      assert.equal(event.type, 'unstored');
      assert.match(event.message, /IndexedDB is blocked .*close other tabs of this site/);
      assert.deepEqual(await inPage(page, () => edgeNet.idle()), undefined);
    });

    test('a database that another tab occupies: fetches work, told why', async () => {
      const { site, page } = await visit('/blank.html');
      assert.equal(await start(page), 'service-worker');
      assert.deepEqual([await read(page), await list(page)], [TEXT, ['tiny']]);
      const other = await browser.open(`${site.url}/blank.html`);
      await inPage(other, () =>
        new Promise((resolve) => {
          indexedDB.open('edge-net').onsuccess = ({ target: { result } }) => {
            const all = result.transaction([...result.objectStoreNames], 'readwrite');
            const occupy = () => (all.objectStore('manifests').get('').onsuccess = occupy);
            occupy();
            resolve();
          };
        }),
      );
      assert.equal(await read(page), TEXT);
      assert.deepEqual(await list(page), []);
      const [event] = await inPage(page, () => window.heard);
      assert.match(event.message, /IndexedDB does not answer .*close other tabs/);
      await other.close();
      assert.deepEqual(await list(page), ['tiny']);
    });

    test('no IndexedDB: verified, and the floor holds for more than a minute', async () => {
      const { site, page } = await visit('/blank.html');
      const old = await publishSmall(stack, { id: `floor-${name}`, version: '1.0.0' });
      await publishSmall(stack, { id: `floor-${name}`, version: '1.1.0' });
      const url = `/models/floor-${name}/notes.txt`;
      await inPage(page, () => {
        for (const missing of ['indexedDB', 'caches'])
          Object.defineProperty(window, missing, { value: undefined, configurable: true });
        Object.defineProperty(navigator, 'serviceWorker', { value: undefined });
      });
      assert.equal(await start(page), 'page');
      assert.match(await read(page, url), /1\.1\.0/);
      assert.deepEqual(await list(page), []);
      // An hour later a source has the old one only.
      await inPage(page, async (old) => {
        const now = Date.now;
        Date.now = () => now() + 3_600_000;
        const network = window.fetch;
        window.fetch = async (input, init) =>
          String(input.url ?? input).endsWith('/manifest.json')
            ? new Response(JSON.stringify(old))
            : network(input, init);
      }, old);
      assert.match(await read(page, url), /1\.1\.0/, 'the newer one still holds');
      assert.deepEqual(site.asked, []);
    });

    const FORBIDS = { 'content-security-policy': "script-src 'self' blob:" };

    test('a policy without wasm-unsafe-eval: where it forbids, and the cure', async () => {
      const worker = await visit('/blank.html', { headers: [[/edge-net-sw/, FORBIDS]] });
      assert.equal(await start(worker.page), 'page');
      assert.equal(await read(worker.page), TEXT);
      const page = await visit('/blank.html', { headers: [[/blank/, FORBIDS]] });
      assert.equal(await start(page.page), 'service-worker');
      assert.equal(await read(page.page), TEXT);
      const both = await visit('/blank.html', { headers: [[/blank|edge-net-sw/, FORBIDS]] });
      const error = await start(both.page);
      assert.match(error, /service worker: .*\/edge-net-sw\.js forbids WebAssembly; add 'wasm-un/);
      assert.match(error, /This page: .* this page forbids WebAssembly; add 'wasm-unsafe-eval'/);
      // A plain fetch that the worker answers fails too.
      assert.notEqual(await read(both.page, NOTES, 'plain'), TEXT);
    });

    test('Trusted Types: with the policy allowed, and without', async () => {
      const enforce = "require-trusted-types-for 'script'; trusted-types";
      const csp = (names) => ({ 'content-security-policy': `${enforce} ${names}` });
      const allowed = await visit('/blank.html', { headers: [[/blank/, csp('edge-net')]] });
      assert.equal(await start(allowed.page), 'service-worker');
      assert.equal(await read(allowed.page), TEXT);
      const not = await visit('/blank.html', { headers: [[/blank/, csp("'none'")]] });
      const enforced = await inPage(not.page, () => 'trustedTypes' in window);
      assert.equal(await start(not.page), enforced ? 'page' : 'service-worker');
      assert.equal(await read(not.page), TEXT);
    });

    test('no secure context: an error that says so', async (context) => {
      const addresses = Object.values(networkInterfaces()).flat();
      const address = addresses.find(({ family, internal }) => family === 'IPv4' && !internal);
      if (!address) return context.skip('this machine has no address but loopback');
      const { page } = await visit('/blank.html', { host: address.address });
      assert.match(await start(page), /not a secure context.* Serve the page over HTTPS/);
      assert.match(await start(page, { how: 'connect' }), /not a secure context/);
    });

    test('workers that a page makes: from a blob, and before the worker claims', async () => {
      const { page } = await visit('/blank.html');
      const early = await makeWorker(page, PLAIN_WORKER);
      const withModule = await makeWorker(page, WORKER_WITH_MODULE);
      assert.equal(await start(page), 'service-worker');
      assert.equal(await early(), name === 'firefox' ? 'not verified' : TEXT);
      assert.equal(await withModule(), TEXT);
      for (const source of [PLAIN_WORKER, WORKER_WITH_MODULE])
        assert.equal(await (await makeWorker(page, source))(), TEXT);
    });

    test('close() ends questions, fetches and events', async () => {
      for (const mode of ['service-worker', 'page']) {
        const { page } = await visit('/blank.html');
        if (mode === 'page')
          await inPage(page, () =>
            Object.defineProperty(navigator, 'serviceWorker', { value: undefined }),
          );
        assert.equal(await start(page), mode);
        const ended = await inPage(page, async () => {
          const reader = (await edgeNet.fetch('/models/large/model.bin')).body.getReader();
          await reader.read();
          const rest = (async () => {
            while (!(await reader.read()).done);
          })();
          const waits = [rest, edgeNet.idle(), edgeNet.preload('/models/large/model.bin')];
          const settled = Promise.allSettled(waits);
          edgeNet.close();
          const late = edgeNet.list().catch((error) => error.name);
          return [...(await settled).map(({ reason }) => reason?.name), await late];
        });
        assert.deepEqual(ended, Array(4).fill('AbortError'), mode);
      }
    });
  });
}
