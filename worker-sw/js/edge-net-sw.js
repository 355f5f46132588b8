// The service worker's script: registers its events when it is first run, as browsers require, and
// starts the WASM module on the first request for a model. Bundled into one classic script, so that
// `importScripts` and a plain `<script>` work too.
import initialise, { Models } from '../build/edge_net_worker_sw.js';
import wasmBase64 from '../build/edge_net_worker_sw_bg.wasm';

/**
 * @typedef {import('../../web/edge-net.js').Options} Options
 * @typedef {{start(): Promise<unknown>, fetch(request: Request): Promise<Response>, ask(what: string, id?: string): Promise<unknown>}} EdgeNet
 */

/** Events go to every page of the origin, whichever asked for the model. */
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
      // The first where the browser has it: ten times quicker.
      const wasm =
        Uint8Array.fromBase64?.(wasmBase64) ??
        Uint8Array.from(atob(wasmBase64), (character) => character.charCodeAt(0));
      await initialise({ module_or_path: wasm });
      return Models.open(options, (type, detail) => channel.postMessage({ type, detail }));
    })();
    // A start that failed is tried again by the next request.
    started.catch(() => (started = undefined));
    return started;
  };
  return {
    start,
    fetch: async (request) => (await start()).answer(request),
    async ask(what, id) {
      // Whether it is worth staying alive is no reason to start.
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
  // A page without a service worker: web/edge-net.js takes it from here.
  self.edgeNetOpen = open;
} else {
  // Options come in the script's own URL (register() puts them there), or from a worker that imports this script.
  const inUrl = new URL(self.location.href).searchParams.get('edge-net');
  /** @type {Options} */
  const options = self.EDGE_NET ?? JSON.parse(inUrl ?? '{"keys":{}}');
  const path = options.path ?? '/models/';
  const models = open(options);

  /**
   * Resolves when nothing is downloaded any more. Firefox ends a worker 30 s after its last event, 60 s with this, and then the body
   * that it was sending ends short and looks complete: the pages' questions prevent that. Chromium ends one whose event lasts 5 minutes.
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
    // Not a 5xx: libraries take any status but 404 for content. The pages are told why by message.
    const answer = models.fetch(request).catch(() => Response.error());
    event.respondWith(answer);
    event.waitUntil(answer.then(untilIdle));
  });

  self.addEventListener('message', (event) => {
    const { edgeNet: what, id } = event.data ?? {};
    const [port] = event.ports;
    if (!what || !port) return;
    // Each message is an event, and each event keeps the worker alive for a while: pages ask for `downloads` for that.
    const answer = models.ask(what, id).then(
      (result) => port.postMessage({ result }),
      (error) => port.postMessage({ error: String(error.message ?? error) }),
    );
    event.waitUntil(answer);
  });

  // A worker that imports this script has its own life cycle and its own routes.
  if (inUrl !== null) {
    self.addEventListener('install', (event) => {
      self.skipWaiting();
      // Ready before the first request. A browser that cannot start it says so when it is asked.
      event.waitUntil(models.start().catch(() => {}));
      // Everything but models goes past without waking this worker, where the browser can.
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
