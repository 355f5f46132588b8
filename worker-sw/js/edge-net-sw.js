// The script of the service worker. It registers its event listeners when it first runs, as
// browsers require, and starts the WASM module on the first request for a model. It is bundled into
// one classic script, so `importScripts` and a plain `<script>` work too.
import initialise, { Models } from '../build/edge_net_worker_sw.js';
import wasmBase64 from '../build/edge_net_worker_sw_bg.wasm';

/**
 * @typedef {import('../../web/edge-net.js').Options} Options
 * @typedef {object} EdgeNet
 * @property {() => Promise<unknown>} start
 * @property {(request: Request) => Promise<Response>} fetch
 * @property {(what: string, id?: string) => Promise<unknown>} ask
 */

/** Events go to all pages of the origin, not only to the one that requested the model. */
const channel = new BroadcastChannel('edge-net');

/**
 * Starts the module once.
 * @param {Options} options
 * @returns {EdgeNet}
 */
function open(options) {
  /** @type {Promise<Models> | undefined} */
  let started;
  const start = () => {
    started ??= (async () => {
      // `fromBase64`, where the browser has it, is ten times faster.
      const wasm =
        Uint8Array.fromBase64?.(wasmBase64) ??
        Uint8Array.from(atob(wasmBase64), (character) => character.charCodeAt(0));
      await initialise({ module_or_path: wasm });
      return Models.open(options, (type, detail) => channel.postMessage({ type, detail }));
    })();
    // The next request retries a start that failed.
    started.catch(() => (started = undefined));
    return started;
  };
  return {
    start,
    fetch: async (request) => (await start()).answer(request),
    async ask(what, id) {
      // A question about downloads does not start the module.
      if (what === 'downloads' && !started) return [];
      const models = await start();
      if (what === 'manifest') return JSON.parse(await models.manifest(id));
      if (what === 'pin' || what === 'unpin') return models.pin(id, what === 'pin');
      if (['list', 'remove', 'clear', 'verify', 'usage', 'downloads'].includes(what))
        return models[what](id);
      throw new TypeError(`edge-net has no message ${JSON.stringify(what)}`);
    },
  };
}

if (
  typeof ServiceWorkerGlobalScope === 'undefined' ||
  !(self instanceof ServiceWorkerGlobalScope)
) {
  // A page without a service worker: web/edge-net.js calls this.
  self.edgeNetOpen = open;
} else {
  // The options are in the script's URL, set by register(), or in a global of the worker that
  // imports this script.
  const inUrl = new URL(self.location.href).searchParams.get('edge-net');
  /** @type {Options} */
  const options = self.EDGE_NET ?? JSON.parse(inUrl ?? '{"keys":{}}');
  const path = options.path ?? '/models/';
  const models = open(options);

  /**
   * Resolves when no download runs. Firefox stops a worker 30 s after its last event, or 60 s with
   * this promise; a body cut off by that looks complete. The messages of pages prevent it. Chromium
   * stops a worker whose event lasts 5 minutes.
   */
  const untilIdle = async () => {
    for (let seconds = 0; seconds < 240 && (await models.ask('downloads')).length > 0; seconds++)
      await new Promise((resolve) => setTimeout(resolve, 1000));
  };

  self.addEventListener('fetch', (event) => {
    const { request } = event;
    const url = new URL(request.url);
    const ours = url.origin === self.location.origin && url.pathname.startsWith(path);
    if (!ours || !['GET', 'HEAD'].includes(request.method)) return;
    channel.postMessage({ type: 'request', detail: {} });
    // Not a 5xx: libraries take any status but 404 for content. Pages get the reason as an event.
    const answer = models.fetch(request).catch(() => Response.error());
    event.respondWith(answer);
    event.waitUntil(answer.then(untilIdle));
  });

  self.addEventListener('message', (event) => {
    const { edgeNet: what, id } = event.data ?? {};
    const [port] = event.ports;
    if (!what || !port) return;
    // Each event keeps the worker alive for a while: pages send `downloads` for that.
    const answer = models.ask(what, id).then(
      (result) => port.postMessage({ result }),
      (error) => port.postMessage({ error: String(error.message ?? error) }),
    );
    event.waitUntil(answer);
  });

  // A worker that imports this script handles its own life cycle and routes.
  if (inUrl !== null) {
    self.addEventListener('install', (event) => {
      self.skipWaiting();
      // Start before the first request. A failure is reported by that request.
      event.waitUntil(models.start().catch(() => {}));
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
}
