// What a page imports: registers the service worker, tells what happens, and gives the same verified
// fetch where there is no service worker.

/**
 * @typedef {object} Options
 * @property {Record<string, string>} keys  pinned publishers: key id → base64 of the Ed25519 public key
 * @property {string} [edge]    base URL of the edge worker; empty is the page's own origin
 * @property {string} [gcs]     base URL of the bucket, asked when the edge is gone
 * @property {string[]} [ipfs]  base URLs of IPFS gateways, asked after it
 * @property {string} [path]    URL path that is answered; '/models/' if not given
 * @property {number} [budget]  bytes kept on the device at the most; the browser's own limit if not given
 * @property {number} [lanes]   requests under way at once for each file, 1 to 6; 4 if not given
 * @property {string} [script]  URL of the service worker's script; '/edge-net-sw.js' if not given
 * @property {string} [scope]   scope of the service worker; the script's folder if not given
 *
 * @typedef {{type: string, detail: Record<string, unknown>}} Message  see the events of EdgeNet
 */

/** How often a page asks after the downloads of its worker: browsers stop a worker that hears nothing for 30 s, in milliseconds. */
const ASK_AFTER = 10_000;

/** How long a service worker may take to take over the page, in milliseconds. */
const TAKE_OVER = 10_000;

/**
 * Registers the service worker. Resolves when verified fetches work: through the service worker, or,
 * where there is none (webview, private window, hard reload), through `EdgeNet.fetch` in the page.
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
      // The worker reads its options before any page can speak to it, so they are part of its URL.
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
 * A page that has its own service worker, which imports ours, needs no registration.
 * @returns {Promise<EdgeNet>}
 */
export async function connect() {
  await navigator.serviceWorker.ready;
  return new EdgeNet('service-worker', throughWorker(navigator.serviceWorker));
}

/**
 * Verified model files.
 *
 * Events, each a CustomEvent whose `detail` is given here:
 * - `progress` {model, version, file, cid, size, received, verified, rate, ms}: at most ten times a second; `rate` is in bytes a second;
 * - `segment` {model, version, file, cid, segment, segments, start, end, size, source, origin, ms}: a verified
 *   segment was handed on; `source` is cache, edge, gcs or ipfs, `origin` is where the edge had it from;
 * - `refused` {model, version, file, segment, source, reason}: a source failed and another is asked; with the file
 *   manifest.json, an older manifest than the accepted one was offered, and the accepted one still holds;
 * - `complete` {model, version, file, size, ms}: all of it was verified, and handed on or kept;
 * - `failed` {model, file, message}: a fetch failed, and why.
 */
export class EdgeNet extends EventTarget {
  #backend;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #asking;

  /**
   * @param {'service-worker' | 'page'} mode
   * @param {{fetch(request: Request): Promise<Response>, ask(what: string, id?: string): Promise<any>}} backend
   */
  constructor(mode, backend) {
    super();
    /** How fetches are verified: by a service worker, or in this page. */
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
   * Fetches verified bytes in either mode.
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>} rejects with an Error that says what was wrong
   */
  async fetch(input, init) {
    const request = new Request(input, init);
    const pathname = new URL(request.url).pathname.toLowerCase(); // the hub's paths have capitals
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
      // fetch() says only that it failed; the worker's message may be a task behind.
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
   * What is kept on this device, wholly or in part.
   * @returns {Promise<Array<{model: string, version: string, file: string, cid: string, size: number, cachedBytes: number, lastUsed: number, pinned: boolean}>>}
   */
  list() {
    return this.#backend.ask('list');
  }

  /**
   * Whether a file of a model's newest known version is wholly on this device.
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
   * Fetches a file so that it is on this device: pass the URL that it is going to be fetched by.
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init] a `signal` stops it; what was verified stays
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
   * Resolves when nothing is being fetched or stored any more: readers get the last bytes before they are stored.
   * @param {string} [cid]  of this artifact only
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
   * Keeps the files of a model's newest version when others have to go, and asks the browser not to evict this site's storage.
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
   * Forgets the kept bytes of a model, pinned or not.
   * @param {string} id
   * @returns {Promise<void>}
   */
  remove(id) {
    return this.#backend.ask('remove', id);
  }

  /**
   * Forgets the kept bytes of all models. What is the oldest version to be accepted stays known.
   * @returns {Promise<void>}
   */
  clear() {
    return this.#backend.ask('clear');
  }

  /**
   * Reads what is kept of a model's newest version again, and drops what is not good.
   * @param {string} id
   * @returns {Promise<Array<{file: string, segments: number, good: number, bad: number[]}>>}
   */
  verify(id) {
    return this.#backend.ask('verify', id);
  }

  /**
   * Bytes kept here, bytes that may be, and what the browser says of its storage; it may promise what is not there.
   * @returns {Promise<{bytes: number, budget?: number, quota?: number, usage?: number, persisted: boolean}>}
   */
  async usage() {
    const persisted = (await navigator.storage?.persisted?.()) ?? false;
    return { ...(await this.#backend.ask('usage')), persisted };
  }

  /** Asks after the downloads for as long as there are any: a message keeps a worker alive, the bytes that it sends do not everywhere. */
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
 * Waits until the worker controls this page; after a hard reload it never will.
 * @param {ServiceWorkerContainer} container
 * @param {ServiceWorkerRegistration} registration
 * @param {string} script  its URL
 */
async function controlling(container, registration, script) {
  const { active } = registration;
  // A worker registered earlier with other options has another URL; it rules until the new one is installed.
  if (container.controller?.scriptURL === script) return container.controller;
  const changed = new Promise((resolve) =>
    container.addEventListener('controllerchange', resolve, { once: true }),
  );
  // An active worker that does not control this page was bypassed on purpose; it takes over a moment after an update only.
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
 * Runs the worker's script as a page script: the same code, without the events.
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
