// The script of the service worker. It registers its event listeners when it first runs, as
// browsers require, and starts the WASM module on the first request for a model. It is bundled into
// one classic script, so `importScripts` works too, and so does `import()` in a page.
import { Askers } from './askers.js';
import { channel, open } from './engine.js';

/** The interval of the signs that a question is being worked on, in milliseconds. */
const BEAT = 2_000;
/** Sets of options, and reasons of failures, in memory at most. */
const REMEMBERED = 32;

/** @param {Map<any, any>} map */
function remember(map, key, value) {
  map.delete(key);
  map.set(key, value);
  if (map.size > REMEMBERED) map.delete(map.keys().next().value);
  return value;
}

/**
 * Answers the requests and messages of pages.
 * @param {string} path  of the models
 * @param {import('../../web/edge-net.js').Options} [fixed]  options of the app's own worker
 */
function serve(path, fixed) {
  const askers = new Askers(fixed);
  /** By the JSON of the options: pages with the same ones share downloads. */
  const engines = new Map();
  /** Why no source has a URL's good bytes. `fetch()` does not tell pages. */
  const reasons = new Map();

  const engineOf = (options) => {
    const key = JSON.stringify(options);
    return remember(engines, key, engines.get(key) ?? open(options));
  };
  const downloads = async () =>
    (await Promise.all([...engines.values()].map((engine) => engine.ask('downloads')))).flat();

  /**
   * Resolves when no download runs. Firefox stops a worker 30 s after its last event, or 60 s with
   * this promise; a body cut off by that looks complete. The messages of pages prevent it. Chromium
   * stops a worker whose event lasts 5 minutes.
   */
  const untilIdle = async () => {
    for (let seconds = 0; seconds < 240 && (await downloads()).length > 0; seconds++)
      await new Promise((resolve) => setTimeout(resolve, 1000));
  };

  /** The engine for a request. Pages hear why there is none; other failures it tells itself. */
  const engineFor = async (asker, url) => {
    try {
      const { options, proof } = await asker;
      const engine = engineOf(options);
      await engine.start();
      return { engine, proof };
    } catch (error) {
      const [model, ...file] = url.pathname.slice(path.length).split('/');
      const detail = { model, file: file.join('/'), message: error.message };
      channel.postMessage({ type: 'failed', detail });
      throw error;
    }
  };

  const respond = async (request, url, client) => {
    const id = request.headers.get('edge-net');
    try {
      const { engine, proof } = await engineFor(askers.of(id, client), url);
      const response = await engine.fetch(request).catch((error) => {
        remember(reasons, request.url, error.message);
        throw error;
      });
      if (id) response.headers.set('edge-net', proof);
      return response;
    } catch {
      // Not a 5xx: libraries take any status but 404 for content. Pages get the reason as an event.
      return Response.error();
    }
  };

  self.addEventListener('fetch', (event) => {
    const { request } = event;
    const url = new URL(request.url);
    const ours = url.origin === self.location.origin && url.pathname.startsWith(path);
    if (!ours || !['GET', 'HEAD'].includes(request.method)) return;
    channel.postMessage({ type: 'request', detail: {} });
    const answer = respond(request, url, event.clientId);
    event.respondWith(answer);
    event.waitUntil(answer.then(untilIdle));
  });

  const answerTo = async (message, client) => {
    const { edgeNet: what, asker, of } = message;
    if (what === 'downloads') return downloads();
    if (what === 'reason') return reasons.get(of);
    if (what === 'take over') return self.skipWaiting();
    if (what === 'use') {
      const { id, options } = await askers.add({ ...asker, client });
      await engineOf(options).start();
      return { id, path, options };
    }
    return engineOf((await askers.of(asker?.id, client)).options).ask(what, of);
  };

  self.addEventListener('message', (event) => {
    const [port] = event.ports;
    if (!event.data?.edgeNet || !port) return;
    // Each event keeps the worker alive for a while: pages send `downloads` for that.
    const works = () => port.postMessage({ working: true });
    works();
    const beat = setInterval(works, BEAT);
    const answer = answerTo(event.data, event.source?.id).then(
      (result) => port.postMessage({ result }),
      (error) => port.postMessage({ error: String(error.message ?? error) }),
    );
    event.waitUntil(answer.finally(() => clearInterval(beat)));
  });
}

/**
 * The life cycle of a worker that `register()` registered. A worker that imports this script has
 * its own, and its own routes. There is no skipWaiting() here: a new version would cut downloads of
 * the running one. Pages let it take over when there are none.
 */
function live(path) {
  self.addEventListener('install', (event) => {
    // Other requests bypass this worker, where the browser has routes.
    const others = {
      condition: { not: { urlPattern: { pathname: `${path}*` } } },
      source: 'network',
    };
    event.waitUntil(
      Promise.resolve()
        .then(() => event.addRoutes?.(others))
        .catch(() => {}),
    );
  });
  self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
}

if (
  typeof ServiceWorkerGlobalScope === 'undefined' ||
  !(self instanceof ServiceWorkerGlobalScope)
) {
  // A page without a service worker: web/edge-net.js calls this.
  self.edgeNetOpen = open;
} else {
  // The path of models is in the script's URL, set by register(), or in a global of the worker that
  // imports this script.
  const inUrl = new URL(self.location.href).searchParams.get('edge-net');
  /** @type {import('../../web/edge-net.js').Options | undefined} */
  const fixed = self.EDGE_NET;
  const path = fixed?.path ?? inUrl ?? '/models/';
  serve(path, fixed);
  if (inUrl !== null) live(path);
}
