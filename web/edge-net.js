// The module that a page imports. It registers the service worker, dispatches its events, and
// offers the same verified fetch where there is no service worker.

/**
 * @typedef {object} Options
 * @property {Record<string, string>} keys  pinned keys: key id → base64 of the Ed25519 public key
 * @property {string} [edge]    base URL of the edge worker; the page's origin if not given
 * @property {string} [gcs]     base URL of the bucket, the second source
 * @property {string[]} [ipfs]  base URLs of IPFS gateways, the last sources
 * @property {string} [path]    URL path of model requests; '/models/' if not given
 * @property {number} [budget]  bytes stored on the device at most; the browser's limit if not given
 * @property {number} [lanes]   concurrent requests for each file, 1 to 6; 4 if not given
 * @property {string} [script]  URL of the service worker's script; '/edge-net-sw.js' if not given
 * @property {string} [scope]   scope of the service worker; the script's folder if not given
 *
 * @typedef {{type: string, detail: Record<string, unknown>}} Message  an event of EdgeNet
 *
 * @typedef {object} Backend  the service worker, or the same code in this page
 * @property {(request: Request) => Promise<Response>} fetch
 * @property {(what: string, id?: string) => Promise<any>} ask
 *
 * @typedef {object} StoredFile
 * @property {string} model
 * @property {string} version
 * @property {string} file
 * @property {string} cid
 * @property {number} size
 * @property {number} cachedBytes
 * @property {number} lastUsed  milliseconds since the Unix epoch
 * @property {boolean} pinned
 *
 * @typedef {object} Usage
 * @property {number} bytes
 * @property {number} [budget]
 * @property {number} [quota]
 * @property {number} [usage]
 * @property {boolean} persisted
 */

/**
 * The interval at which a page asks its worker for downloads, in milliseconds. Browsers stop a
 * worker after 30 s without events.
 */
const ASK_AFTER = 10_000;

/** The wait for a service worker to control the page, in milliseconds. */
const TAKE_OVER = 10_000;

/**
 * Registers the service worker. Resolves when verified fetches work: through the service worker,
 * or, where there is none (webview, private window, hard reload), through `EdgeNet.fetch` in the
 * page.
 * @param {Options} options
 * @returns {Promise<EdgeNet>}
 */
export async function register(options) {
  const script = new URL(options.script ?? '/edge-net-sw.js', location.href);
  const { script: _, scope, ...inUrl } = options;
  const container = navigator.serviceWorker;
  if (container) {
    try {
      const url = new URL(script);
      // The worker needs its options before a page can send it a message, so they are in its URL.
      url.searchParams.set('edge-net', JSON.stringify(inUrl));
      const registration = await container.register(url, { scope, updateViaCache: 'none' });
      const worker = await controlling(container, registration, url.href);
      if (worker) return new EdgeNet('service-worker', throughWorker(container));
    } catch (error) {
      console.warn(
        `edge-net: no service worker here (${error.message}); EdgeNet.fetch works in the page`,
      );
    }
  }
  return new EdgeNet('page', await inPage(script, inUrl));
}

/**
 * Connects a page to its own service worker, which imports `edge-net-sw.js`; no registration is
 * needed.
 * @returns {Promise<EdgeNet>}
 */
export async function connect() {
  await navigator.serviceWorker.ready;
  return new EdgeNet('service-worker', throughWorker(navigator.serviceWorker));
}

/**
 * Verified model files.
 *
 * Events, each a CustomEvent with this `detail`:
 * - `progress` {model, version, file, cid, size, received, verified, rate, ms}: bytes arrived; at
 *   most ten times a second. `rate` is in bytes a second;
 * - `segment` {model, version, file, cid, segment, segments, start, end, size, source, origin, ms}:
 *   a segment was verified. `source` is cache, edge, gcs or ipfs; `origin` is where the edge read
 *   it;
 * - `refused` {model, version, file, segment, source, reason}: a source failed and another is
 *   asked. With the file manifest.json: a source offered an older manifest than the accepted one,
 *   which stays in use;
 * - `complete` {model, version, file, size, ms}: all segments were verified;
 * - `failed` {model, file, message}: a fetch failed; `message` is the reason.
 */
export class EdgeNet extends EventTarget {
  #backend;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #asking;

  /**
   * @param {'service-worker' | 'page'} mode
   * @param {Backend} backend
   */
  constructor(mode, backend) {
    super();
    /** Whether a service worker or this page verifies fetches. */
    this.mode = mode;
    this.#backend = backend;
    const channel = new BroadcastChannel('edge-net');
    channel.onmessage = (/** @type {MessageEvent<Message>} */ { data: { type, detail } }) => {
      if (type === 'refused' && detail.file === 'manifest.json')
        console.warn(`edge-net: ${detail.model}: ${detail.reason}`);
      if (type === 'request') return this.#keepAlive();
      if (type === 'failed')
        console.error(`edge-net: ${detail.model}/${detail.file}: ${detail.message}`);
      this.dispatchEvent(new CustomEvent(type, { detail }));
    };
  }

  /**
   * Fetches verified bytes, with or without a service worker.
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>} rejects with an Error that says the reason
   */
  async fetch(input, init) {
    const request = new Request(input, init);
    const pathname = new URL(request.url).pathname.toLowerCase(); // paths of the hub have capitals
    /** @type {string | undefined} */
    let reason;
    const listen = (/** @type {any} */ { detail }) => {
      if (
        pathname.includes(`/${detail.model}/`) &&
        pathname.endsWith(`/${detail.file.toLowerCase()}`)
      )
        reason = detail.message;
    };
    this.addEventListener('failed', listen);
    try {
      return await this.#backend.fetch(request);
    } catch (error) {
      // fetch() does not give the reason; the worker's event may arrive a moment later.
      await new Promise((resolve) => setTimeout(resolve, 50));
      throw reason ? new Error(reason, { cause: error }) : error;
    } finally {
      this.removeEventListener('failed', listen);
    }
  }

  /**
   * The accepted, signed manifest of a model.
   * @param {string} id
   * @returns {Promise<any>}
   */
  manifest(id) {
    return this.#backend.ask('manifest', id);
  }

  /**
   * The files stored on this device, complete or in part.
   * @returns {Promise<StoredFile[]>}
   */
  list() {
    return this.#backend.ask('list');
  }

  /**
   * Whether a file of a model's newest known version is complete on this device.
   * @param {string} id
   * @param {string} file
   * @returns {Promise<boolean>}
   */
  async isCached(id, file) {
    const { version } = await this.manifest(id);
    const rows = await this.list();
    return rows.some(
      (row) =>
        row.model === id &&
        row.version === version &&
        row.file === file &&
        row.cachedBytes === row.size,
    );
  }

  /**
   * Downloads a file to this device. Pass the URL that it will be fetched by later.
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init] a `signal` stops it; verified segments stay stored
   * @returns {Promise<void>}
   */
  async preload(input, init) {
    const { body, ok, status, headers } = await this.fetch(input, init);
    if (!ok) throw new Error(`edge-net: ${new Request(input).url}: status ${status}`);
    await body?.pipeTo(new WritableStream(), { signal: init?.signal ?? undefined });
    // The ETag is the CID in quotes.
    await this.idle(headers.get('ETag')?.slice(1, -1));
  }

  /**
   * Resolves when no download or write is left. Readers get the last bytes before they are stored.
   * @param {string} [cid]  only this artifact
   * @returns {Promise<void>}
   */
  async idle(cid) {
    for (;;) {
      const busy = await this.#backend.ask('downloads');
      if (cid === undefined ? busy.length === 0 : !busy.includes(cid)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /**
   * Pins the files of a model's newest version: they are not evicted for others. Also asks the
   * browser to persist the storage.
   * @param {string} id
   * @returns {Promise<boolean>} whether the browser agreed
   */
  async pin(id) {
    await this.#backend.ask('pin', id);
    return (await navigator.storage?.persist?.()) ?? false;
  }

  /**
   * @param {string} id
   * @returns {Promise<void>}
   */
  unpin(id) {
    return this.#backend.ask('unpin', id);
  }

  /**
   * Deletes the stored bytes of a model, pinned or not.
   * @param {string} id
   * @returns {Promise<void>}
   */
  remove(id) {
    return this.#backend.ask('remove', id);
  }

  /**
   * Deletes the stored bytes of all models. The manifests stay, so that older versions remain
   * refused.
   * @returns {Promise<void>}
   */
  clear() {
    return this.#backend.ask('clear');
  }

  /**
   * Verifies the stored bytes of a model's newest version, and deletes bad segments.
   * @param {string} id
   * @returns {Promise<Array<{file: string, segments: number, good: number, bad: number[]}>>}
   */
  verify(id) {
    return this.#backend.ask('verify', id);
  }

  /**
   * Bytes stored, the budget, and the browser's estimate; the real quota may be less.
   * @returns {Promise<Usage>}
   */
  async usage() {
    const persisted = (await navigator.storage?.persisted?.()) ?? false;
    return { ...(await this.#backend.ask('usage')), persisted };
  }

  /**
   * Sends `downloads` while any download runs. Messages keep a worker alive in all browsers; the
   * bytes that it sends do so only in some.
   */
  #keepAlive() {
    if (this.mode !== 'service-worker') return;
    this.#asking ??= setInterval(async () => {
      if ((await this.#backend.ask('downloads').catch(() => [])).length > 0) return;
      clearInterval(this.#asking);
      this.#asking = undefined;
    }, ASK_AFTER);
  }
}

/**
 * Waits until the worker controls this page; after a hard reload it never does.
 * @param {ServiceWorkerContainer} container
 * @param {ServiceWorkerRegistration} registration
 * @param {string} script  its URL
 */
async function controlling(container, registration, script) {
  const { active } = registration;
  // A worker that was registered with other options has another URL; it controls the page until the
  // new one is installed.
  if (container.controller?.scriptURL === script) return container.controller;
  const changed = new Promise((resolve) =>
    container.addEventListener('controllerchange', resolve, { once: true }),
  );
  // An active worker that does not control this page was bypassed by the user; only after an update
  // it takes control soon.
  const patience = active && !registration.installing && !registration.waiting ? 500 : TAKE_OVER;
  await Promise.race([changed, new Promise((resolve) => setTimeout(resolve, patience))]);
  return container.controller;
}

/** @param {ServiceWorkerContainer} container */
function throughWorker(container) {
  return {
    fetch: (/** @type {Request} */ request) => fetch(request),
    /**
     * @param {string} what
     * @param {string} [id]
     */
    async ask(what, id) {
      const worker = container.controller ?? (await container.ready).active;
      const { port1, port2 } = new MessageChannel();
      return new Promise((resolve, reject) => {
        port1.onmessage = ({ data }) =>
          data.error === undefined ? resolve(data.result) : reject(new Error(data.error));
        worker?.postMessage({ edgeNet: what, id }, [port2]);
      });
    },
  };
}

/**
 * Runs the worker's script as a page script: the same code without service worker events.
 * @param {URL} script
 * @param {object} options
 */
async function inPage(script, options) {
  if (!('edgeNetOpen' in self)) {
    await new Promise((resolve, reject) => {
      const element = document.createElement('script');
      element.src = script.href;
      element.onload = resolve;
      element.onerror = () =>
        reject(
          new Error(
            `edge-net: the script ${script.href} could not be loaded; serve edge-net-sw.js there`,
          ),
        );
      document.head.append(element);
    });
  }
  return /** @type {any} */ (self).edgeNetOpen(options);
}
