// The module that a page imports. It registers the service worker, dispatches its events, and
// offers the same verified fetch where there is no service worker.

/**
 * @typedef {object} Options
 * @property {Record<string, string>} keys  pinned keys: key id → base64 of the Ed25519 public key
 * @property {string} [edge]    base URL of the edge worker; the page's origin if not given
 * @property {string} [gcs]     base URL of the bucket, the second source
 * @property {string[]} [ipfs]  base URLs of IPFS gateways, the last sources
 * @property {'in-order' | 'all'} [sources]  in order, the default: a source works alone until it
 *   lags, fails or is wrong; or all at once
 * @property {string} [path]    URL path of model requests; '/models/' if not given
 * @property {number} [budget]  bytes stored on the device at most; the browser's limit if not given
 * @property {number} [lanes]   concurrent requests for each file, 1 to 6; 4 if not given
 * @property {string} [script]  URL of the service worker's script; '/edge-net-sw.js' if not given
 * @property {string} [scope]   scope of the service worker; the script's folder if not given
 *
 * @typedef {{type: string, detail: Record<string, unknown>}} Message  an event of EdgeNet
 *
 * @typedef {object} Backend  the service worker, or the same code in this page
 * @property {'service-worker' | 'page'} mode
 * @property {(request: Request) => Promise<Response | undefined>} fetch  undefined: what came was
 *   not verified
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
/** The wait for the browser to register our worker, in milliseconds: it loads the script. */
const ENROLMENT = 30_000;
/** The wait for a service worker to control the page, in milliseconds. */
const TAKE_OVER = 10_000;
/** The same for a worker that is active and does not: the user bypassed it, in milliseconds. */
const BYPASSED = 500;
/** The wait for a sign of life of our worker, in milliseconds. It gives one every two seconds. */
const SILENCE = 10_000;
/** The same for another script, which may not know our messages. */
const STRANGER = 2_000;
/** The limit of an answer, in milliseconds. */
const LIMIT = 120_000;
/** The same for `verify`, which reads all stored bytes of a model. */
const LONG_LIMIT = 3_600_000;

/** What URLs are relative to: the script of a worker may be a blob. */
const BASE = location.protocol === 'blob:' ? self.origin : location.href;

/**
 * Registers the service worker. Resolves when verified fetches work: through the service worker,
 * or, where none of ours controls the page (webview, private window, hard reload, a worker of a
 * narrower scope), through `EdgeNet.fetch` in the page.
 * @param {Options} options
 * @returns {Promise<EdgeNet>} rejects with an Error that says why nothing can be verified here
 */
export async function register(options) {
  const ways = new Ways(options);
  ways.options ??= { ...options };
  const backend = await ways.enrol(options.scope).catch((error) => {
    ways.reason = error.message;
  });
  return made(ways, backend);
}

/**
 * Connects a page to its own service worker, which imports `edge-net-sw.js`; no registration is
 * needed. Where that worker does not control the page (first visit, hard reload), `EdgeNet.fetch`
 * verifies in the page, with the worker's options.
 * @param {Partial<Options>} [options]  with `keys`, only a worker that pins these is used, and the
 *   page can verify without one
 * @returns {Promise<EdgeNet>} rejects with an Error that says what is missing
 */
export async function connect(options = {}) {
  const ways = new Ways(options);
  const backend = await ways.joined();
  if (!backend && !ways.options && !(await ways.borrow())) {
    ways.closing.abort(CLOSED());
    throw new Error(
      `edge-net: no service worker with edge-net-sw.js answers this page (${ways.reason}); ` +
        'import the script in the worker that controls the page, or pass {keys, edge} to ' +
        'connect() or register(), which then verify in the page',
    );
  }
  return made(ways, backend);
}

/**
 * @param {Ways} ways
 * @param {Backend | undefined | void} backend
 */
async function made(ways, backend) {
  try {
    return new EdgeNet(ways, backend ?? (await ways.inPage()));
  } catch (error) {
    ways.closing.abort(error);
    throw error;
  }
}

/**
 * Who can answer an `EdgeNet`: the service worker that controls the page, if it is ours and pins
 * the same keys, else the same code in this page.
 */
class Ways {
  /** @type {Promise<Backend> | undefined} */
  #page;
  /** The URL that was registered. @type {string | undefined} */
  #url;
  /** The options of the app's own worker. @type {Options | undefined} */
  #held;
  /** Where a newer worker may wait. @type {ServiceWorkerRegistration | undefined} */
  registration;
  /** The controller that was asked last. @type {ServiceWorker | null | undefined} */
  asked;
  /** Why no service worker is used. */
  reason = 'there is none in this context';
  /** Ends all that an EdgeNet holds. */
  closing = new AbortController();

  /** @param {Partial<Options>} options */
  constructor({ script, scope: _, ...options }) {
    if (!self.isSecureContext)
      throw new Error(
        `edge-net: ${location.origin} is not a secure context. Browsers offer neither service ` +
          'workers nor WebCrypto there, so nothing can be verified. Serve the page over HTTPS ' +
          '(or from localhost)',
      );
    /** `proof` is in no request: a response that carries it comes from our worker. */
    this.asker = { id: crypto.randomUUID(), proof: crypto.randomUUID(), at: Date.now() };
    /** @type {ServiceWorkerContainer | undefined} */
    this.container = containerHere();
    this.script = new URL(script ?? '/edge-net-sw.js', BASE);
    this.path = options.path ?? '/models/';
    const { keys, edge = self.origin } = options;
    /** @type {Options | undefined} */
    this.options = keys && { ...options, keys, edge };
    this.#introduce();
  }

  /** Gives a worker that was stopped and started our options when it asks for them. */
  #introduce() {
    const answer = ({ data, ports: [port] }) => {
      if (data?.edgeNet === 'options' && this.options)
        port?.postMessage({ ...this.asker, options: this.options });
    };
    this.container?.addEventListener('message', answer, { signal: this.closing.signal });
    if (this.options) this.container?.startMessages();
  }

  /**
   * Registers our worker.
   * @param {string} [scope]
   * @returns {Promise<Backend | undefined>} undefined if it does not control the page
   */
  async enrol(scope) {
    if (!this.container) return undefined;
    const url = new URL(this.script);
    // Browsers ask for the routes of a worker when they install it, so the path is in its URL. The
    // other options come by message: another URL is another worker, which ends the one before.
    url.searchParams.set('edge-net', this.path);
    this.#url = url.href;
    const registering = this.container
      .register(trusted(url), { scope, updateViaCache: 'none' })
      .catch((error) => Promise.reject(new Error(hint(error), { cause: error })));
    const slow = `${url.pathname} was not registered within ${ENROLMENT / 1000} s`;
    this.registration = await within(registering, ENROLMENT, slow);
    this.#follow(this.registration);
    return this.#controlled(this.registration);
  }

  /** Lets new versions of our worker take over. @param {ServiceWorkerRegistration} registration */
  #follow(registration) {
    const { signal } = this.closing;
    const installing = (worker) => {
      const changed = () => worker.state === 'installed' && takeOver(registration);
      worker?.addEventListener('statechange', changed, { signal });
    };
    const found = () => installing(registration.installing);
    registration.addEventListener('updatefound', found, { signal });
    found();
    takeOver(registration);
  }

  /** Waits for the app's own worker. @returns {Promise<Backend | undefined>} */
  async joined() {
    if (!this.container) return undefined;
    const none = `no worker was active for this page within ${TAKE_OVER / 1000} s`;
    try {
      return await this.#controlled(await within(this.container.ready, TAKE_OVER, none));
    } catch (error) {
      this.reason = error.message;
      return undefined;
    }
  }

  /**
   * Waits until our worker controls this page. After a hard reload it never does, nor where another
   * worker has a narrower scope.
   * @param {ServiceWorkerRegistration} registration
   * @returns {Promise<Backend | undefined>}
   */
  async #controlled(registration) {
    for (const until = Date.now() + TAKE_OVER; ; ) {
      const changed = change(this.container, this.closing.signal);
      const backend = await this.#controller();
      if (backend) return backend;
      // It is ours, and cannot: no other one comes.
      if (this.container.controller?.scriptURL === this.#url) return undefined;
      const nearest = await this.container.getRegistration(BASE);
      if (nearest?.scope !== registration.scope) {
        const other = nearest ? `the worker of ${nearest.scope}` : 'no worker';
        this.reason = `${other} is in charge of this page, not that of ${registration.scope}`;
        return undefined;
      }
      const { installing, waiting, active } = registration;
      const comes = installing ?? waiting ?? (active?.state === 'activating' && active);
      const left = until - Date.now();
      const patience = comes ? left : Math.min(left, BYPASSED);
      if (!(await Promise.race([changed, sleep(patience)]))) return undefined;
    }
  }

  /**
   * The worker that controls the page now, if it is ours.
   * @returns {Promise<Backend | undefined>}
   */
  async #controller() {
    const worker = this.container?.controller;
    this.asked = worker;
    try {
      if (worker) return await this.#by(worker);
      this.reason = 'none controls this page; a hard reload bypasses it';
    } catch (error) {
      this.reason = error.message;
    }
    return undefined;
  }

  /** Asks again, since another worker may control the page now. @returns {Promise<Backend>} */
  async again() {
    return (await this.#controller()) ?? this.inPage();
  }

  /**
   * Fetches and asks through a worker, if it is ours.
   * @param {ServiceWorker} worker
   * @returns {Promise<Backend>}
   */
  async #by(worker) {
    const { path, options } = await this.#use(worker);
    if (this.options && path !== this.path)
      throw new Error(`${worker.scriptURL} answers ${path}, not ${this.path}`);
    if (this.options && !sameKeys(options.keys, this.options.keys))
      throw new Error(`${worker.scriptURL} pins other keys than this page`);
    this.path = path;
    this.#held = options;
    const { id, proof } = this.asker;
    const { signal } = this.closing;
    const ask = (what, of, limit = limitOf(what)) =>
      question(worker, { edgeNet: what, asker: { id }, of }, { limit, signal });
    return {
      mode: 'service-worker',
      ask: (what, of) => ask(what, of),
      async fetch(request) {
        const headers = new Headers(request.headers);
        headers.set('edge-net', id);
        const init = { headers, signal: either(request.signal, signal) };
        try {
          const response = await fetch(new Request(request, init));
          if (response.headers.get('edge-net') === proof) return response;
          await response.body?.cancel();
        } catch (error) {
          if (request.signal.aborted || signal.aborted) throw error;
          // fetch() does not say why.
          const reason = await ask('reason', request.url, SILENCE).catch(() => undefined);
          if (reason) throw new Error(reason, { cause: error });
        }
        return undefined;
      },
    };
  }

  /** Has a worker use our options. @param {ServiceWorker} worker */
  async #use(worker) {
    const asker = { ...this.asker, options: this.options };
    const silence = worker.scriptURL === this.#url ? SILENCE : STRANGER;
    const { signal } = this.closing;
    const held = await question(worker, { edgeNet: 'use', asker }, { silence, signal });
    if (held?.id !== asker.id) throw new Error(`${worker.scriptURL} is another service worker`);
    return held;
  }

  /**
   * Takes the options of a worker of this site that is ours, though it does not control the page.
   * @returns {Promise<boolean>} whether there is one
   */
  async borrow() {
    for (const { active } of (await this.container?.getRegistrations()) ?? []) {
      const held = active && (await this.#use(active).catch(() => undefined));
      if (!held) continue;
      this.path = held.path;
      this.#held = held.options;
      return true;
    }
    return false;
  }

  /** The same code in this page. @returns {Promise<Backend>} */
  inPage() {
    this.#page ??= this.#openPage();
    this.#page.catch(() => (this.#page = undefined));
    return this.#page;
  }

  /** @returns {Promise<Backend>} */
  async #openPage() {
    const { closing } = this;
    try {
      const engine = (await openerOf(this.script))(this.options ?? { ...this.#held });
      await engine.start();
      return {
        mode: 'page',
        ask: (what, of) =>
          within(engine.ask(what, of), limitOf(what), `no answer to "${what}"`, closing.signal),
        fetch: (request) => {
          const signal = either(request.signal, closing.signal);
          return Promise.race([engine.fetch(request, signal), aborted(signal)]);
        },
      };
    } catch (error) {
      throw new Error(
        `edge-net: nothing can be verified here. The service worker: ${this.reason}. ` +
          `This page: ${error.message}`,
        { cause: error },
      );
    }
  }
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
 * - `failed` {model, file, message}: a fetch failed; `message` is the reason;
 * - `unstored` {message}: this device stores nothing, or not all; fetches work without;
 * - `mode` {mode, reason}: `EdgeNet.mode` changed, since another worker controls the page.
 */
export class EdgeNet extends EventTarget {
  #ways;
  /** @type {Promise<Backend>} */
  #backend;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #asking;

  /**
   * `register()` and `connect()` make one.
   * @param {Ways} ways
   * @param {Backend} backend
   */
  constructor(ways, backend) {
    super();
    /** Whether a service worker or this page verifies fetches. */
    this.mode = backend.mode;
    this.#ways = ways;
    this.#backend = Promise.resolve(backend);
    if (backend.mode === 'page' && ways.container)
      console.warn(`edge-net: EdgeNet.fetch works in this page. Service worker: ${ways.reason}`);
    const { signal } = ways.closing;
    const changed = () => this.#find();
    ways.container?.addEventListener('controllerchange', changed, { signal });
    // It may have changed while the script was loaded into this page.
    if (ways.container?.controller && ways.container.controller !== ways.asked) this.#find();
    const channel = new BroadcastChannel('edge-net');
    channel.onmessage = ({ data }) => this.#hear(data);
    signal.addEventListener('abort', () => channel.close());
    // An earlier page may have started a download that a newer worker waits for.
    this.#keepAlive();
  }

  /** @param {Message} message */
  #hear({ type, detail }) {
    if (type === 'request') return this.#keepAlive();
    if (type === 'refused' && detail.file === 'manifest.json')
      console.warn(`edge-net: ${detail.model}: ${detail.reason}`);
    if (type === 'unstored') console.warn(`edge-net: ${detail.message}`);
    if (type === 'failed')
      console.error(`edge-net: ${detail.model}/${detail.file}: ${detail.message}`);
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Finds out who answers now; what is asked meanwhile waits for it. */
  #find() {
    const found = this.#ways.again();
    this.#backend = found;
    const use = ({ mode }) => {
      if (this.#backend !== found || mode === this.mode) return;
      this.mode = mode;
      const reason = mode === 'page' ? this.#ways.reason : 'our service worker controls the page';
      this.dispatchEvent(new CustomEvent('mode', { detail: { mode, reason } }));
    };
    found.then(use, (error) => console.error(error.message));
  }

  /** Asks the worker, or the one that replaced it meanwhile. */
  async #ask(what, id) {
    this.#ways.closing.signal.throwIfAborted();
    const asked = this.#backend;
    try {
      return await (await asked).ask(what, id);
    } catch (error) {
      if (asked === this.#backend) throw error;
      return this.#ask(what, id);
    }
  }

  /** A GET or HEAD of a model. */
  #request(input, init) {
    const absolute = input instanceof Request ? input : new URL(input, BASE);
    const request = new Request(absolute, init);
    const { origin, pathname } = new URL(request.url);
    const { path } = this.#ways;
    if (
      origin !== self.origin ||
      !pathname.startsWith(path) ||
      !['GET', 'HEAD'].includes(request.method)
    )
      throw new TypeError(
        `edge-net: ${request.method} ${request.url} is no model of this site, so it cannot be ` +
          `verified; EdgeNet.fetch takes GET and HEAD of ${self.origin}${path}…`,
      );
    return request;
  }

  /**
   * Fetches verified bytes, with or without a service worker.
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>} rejects with an Error that says the reason
   */
  async fetch(input, init) {
    this.#ways.closing.signal.throwIfAborted();
    const request = this.#request(input, init);
    const response = await (await this.#backend).fetch(request);
    if (response) return response;
    // Another worker answered, or none: what came was not verified, and nobody gets it.
    this.#find();
    return (await this.#ways.inPage()).fetch(request);
  }

  /**
   * Ends what this EdgeNet holds: events, questions, and its fetches. Nothing that is stored is
   * lost, and other pages are not touched.
   */
  close() {
    clearInterval(this.#asking);
    this.#ways.closing.abort(CLOSED());
  }

  /**
   * The accepted, signed manifest of a model.
   * @param {string} id
   * @returns {Promise<any>}
   */
  manifest(id) {
    return this.#ask('manifest', id);
  }

  /**
   * The files stored on this device, complete or in part.
   * @returns {Promise<StoredFile[]>}
   */
  list() {
    return this.#ask('list');
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
    const url = input instanceof Request ? input.url : input;
    if (!ok) throw new Error(`edge-net: ${url}: status ${status}`);
    const signal = init?.signal ?? undefined;
    await body?.pipeTo(new WritableStream(), { signal });
    // The ETag is the CID in quotes.
    await this.idle(headers.get('ETag')?.slice(1, -1), { signal });
  }

  /**
   * Resolves when no download or write is left. Readers get the last bytes before they are stored.
   * A body that nobody reads or cancels is a download that is left.
   * @param {string} [cid]  only this artifact
   * @param {{signal?: AbortSignal}} [init]  a `signal` ends the wait
   * @returns {Promise<void>}
   */
  async idle(cid, { signal } = {}) {
    for (;;) {
      signal?.throwIfAborted();
      const busy = await this.#ask('downloads');
      if (cid === undefined ? busy.length === 0 : !busy.includes(cid)) return;
      await sleep(50);
    }
  }

  /**
   * Pins the files of a model's newest version: they are not evicted for others. Also asks the
   * browser to persist the storage.
   * @param {string} id
   * @returns {Promise<boolean>} whether the browser agreed
   */
  async pin(id) {
    await this.#ask('pin', id);
    // Firefox asks the user, who may not answer.
    const asked = Promise.resolve(navigator.storage?.persist?.());
    return (await within(asked, LIMIT, 'no decision').catch(() => false)) ?? false;
  }

  /**
   * @param {string} id
   * @returns {Promise<void>}
   */
  unpin(id) {
    return this.#ask('unpin', id);
  }

  /**
   * Deletes the stored bytes of a model, pinned or not.
   * @param {string} id
   * @returns {Promise<void>}
   */
  remove(id) {
    return this.#ask('remove', id);
  }

  /**
   * Deletes the stored bytes of all models. The manifests stay, so that older versions remain
   * refused.
   * @returns {Promise<void>}
   */
  clear() {
    return this.#ask('clear');
  }

  /**
   * Verifies the stored bytes of a model's newest version, and deletes bad segments.
   * @param {string} id
   * @returns {Promise<Array<{file: string, segments: number, good: number, bad: number[]}>>}
   */
  verify(id) {
    return this.#ask('verify', id);
  }

  /**
   * Bytes stored, the budget, and the browser's estimate; the real quota may be less.
   * @returns {Promise<Usage>}
   */
  async usage() {
    const persisted = (await navigator.storage?.persisted?.()) ?? false;
    return { ...(await this.#ask('usage')), persisted };
  }

  /**
   * Sends `downloads` while any download runs. Messages keep a worker alive in all browsers; the
   * bytes that it sends do so only in some. Then a newer worker may take over.
   */
  #keepAlive() {
    if (this.mode !== 'service-worker' || this.#ways.closing.signal.aborted) return;
    this.#asking ??= setInterval(async () => {
      if ((await this.#ask('downloads').catch(() => [])).length > 0) return;
      clearInterval(this.#asking);
      this.#asking = undefined;
      if (this.#ways.registration) takeOver(this.#ways.registration);
    }, ASK_AFTER);
  }
}

const CLOSED = () => new DOMException('edge-net: this EdgeNet was closed', 'AbortError');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const limitOf = (what) => (what === 'verify' ? LONG_LIMIT : LIMIT);

/** Undefined in webviews, some private windows, and workers; sandboxed frames throw. */
function containerHere() {
  try {
    return navigator.serviceWorker;
  } catch {
    return undefined;
  }
}

/** Resolves to true at the next change of the controller. */
const change = (container, signal) =>
  new Promise((resolve) =>
    container.addEventListener('controllerchange', () => resolve(true), { once: true, signal }),
  );

/** Rejects when the signal aborts. @returns {Promise<never>} */
const aborted = (signal) =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

/** A signal that aborts when one of two does. */
function either(one, other) {
  if (AbortSignal.any) return AbortSignal.any([one, other]);
  const controller = new AbortController();
  for (const signal of [one, other]) {
    if (signal.aborted) controller.abort(signal.reason);
    signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true });
  }
  return controller.signal;
}

/**
 * Limits a wait.
 * @template T
 * @param {Promise<T>} promise
 * @param {number} ms
 * @param {string} message of the error after that
 * @param {AbortSignal} [signal]  ends it at once
 * @returns {Promise<T>}
 */
function within(promise, ms, message, signal) {
  let timer, stop;
  const end = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`edge-net: ${message}`)), ms);
    stop = () => reject(signal.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop);
  });
  return Promise.race([promise, end]).finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  });
}

/**
 * Asks a worker over a channel of its own. Ours says at once and every two seconds that it works.
 * @param {ServiceWorker} worker
 * @param {{edgeNet: string, [more: string]: unknown}} message
 * @param {{silence?: number, limit?: number, signal?: AbortSignal}} limits  `silence`: the wait for
 *   its first word
 * @returns {Promise<any>}
 */
function question(worker, message, { silence = SILENCE, limit = LIMIT, signal } = {}) {
  const { port1, port2 } = new MessageChannel();
  const why = `the service worker ${worker.scriptURL} did not answer "${message.edgeNet}"`;
  const lacks = (ms) => `${why} within ${ms / 1000} s; reload the page, or see what controls it`;
  let timer;
  const answer = new Promise((resolve, reject) => {
    const wait = (ms) => {
      clearTimeout(timer);
      timer = setTimeout(() => reject(new Error(`edge-net: ${lacks(ms)}`)), ms);
    };
    wait(silence);
    port1.onmessage = ({ data }) => {
      if (data?.working) wait(SILENCE);
      else if (data?.error === undefined) resolve(data?.result);
      else reject(new Error(data.error));
    };
    worker.postMessage(message, [port2]);
  });
  return within(answer, limit, lacks(limit), signal).finally(() => {
    clearTimeout(timer);
    port1.close();
  });
}

/**
 * Lets a worker that waits take over, unless the active one has downloads: they would end with it.
 * @param {ServiceWorkerRegistration} registration
 */
async function takeOver({ waiting, active }) {
  if (!waiting) return;
  const asked = active && question(active, { edgeNet: 'downloads' }, { silence: STRANGER });
  const busy = asked && (await asked.catch(() => []));
  if (!busy?.length) question(waiting, { edgeNet: 'take over' }).catch(() => {});
}

/** Whether two sets of pinned keys are the same. */
function sameKeys(one, other) {
  const sorted = (keys) => JSON.stringify(Object.entries(keys ?? {}).sort());
  return sorted(one) === sorted(other);
}

/** @type {{createScriptURL(url: string): any} | undefined} */
let policy;

/** The URL as Trusted Types want it, where a page enforces them. @param {URL} url */
function trusted(url) {
  const { trustedTypes } = /** @type {any} */ (self);
  try {
    policy ??= trustedTypes?.createPolicy('edge-net', {
      createScriptURL: (of) => (new URL(of).origin === self.origin ? of : 'about:blank'),
    });
  } catch {} // Not allowed: register() throws if it needs the policy.
  return policy?.createScriptURL(url.href) ?? url.href;
}

/** What register() of the browser said, and what helps. @param {Error} error */
function hint({ message }) {
  if (/trusted|TrustedScriptURL/i.test(message))
    return `${message}; add "trusted-types edge-net" to the page's Content-Security-Policy`;
  return message;
}

/**
 * Loads the worker's script into this page: the same code without service worker events.
 * @param {URL} script
 * @returns {Promise<(options: object) => any>}
 */
async function openerOf(script) {
  const scope = /** @type {any} */ (self);
  if (!scope.edgeNetOpen) {
    const slow = `${script.href} did not load within ${LIMIT / 1000} s`;
    // import() needs no Trusted Types, and works in workers.
    await within(import(script.href), LIMIT, slow).catch((error) => {
      throw new Error(
        `${script.href} could not be loaded (${error.message}); serve edge-net-sw.js there, and ` +
          "allow it in script-src of the page's Content-Security-Policy",
      );
    });
  }
  return scope.edgeNetOpen;
}
