// The compared ways of loading an artifact, in the page. Each loads `url` of the data origin, or
// its equivalent, and reads the whole body; each stores in its own way.

/** Reads a body as a stream; resolves to the number of bytes. */
async function drain(response) {
  if (!response.ok) throw new Error(`${response.url}: status ${response.status}`);
  const reader = response.body.getReader();
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return bytes;
    bytes += value.length;
  }
}

async function worker(script) {
  const controlled = new Promise((resolve) =>
    navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true }),
  );
  await navigator.serviceWorker.register(script);
  if (!navigator.serviceWorker.controller) await controlled;
}

const clear = async () => {
  for (const name of await caches.keys()) await caches.delete(name);
};
const range = (bytes) => ({ headers: { range: `bytes=${bytes[0]}-${bytes[1] - 1}` } });

const WAYS = {
  /** The browser alone: nothing is verified or stored. */
  native: {
    start: async () => {},
    load: async ({ url }) => drain(await fetch(url, { cache: 'no-store' })),
    clear: async () => {},
  },

  /**
   * A whole entry of the Cache API from a service worker that does nothing else: the baseline of
   * warm reads.
   */
  'cache.match': {
    start: () => worker('/cache-match.js'),
    load: async ({ url }) => drain(await fetch(url)),
    fill: async ({ url }) => (await caches.open('native')).add(url),
    range: async ({ url }, bytes) => drain(await fetch(url, range(bytes))),
    clear,
  },

  /** Workbox's CacheFirst with its plugin for ranges. */
  workbox: {
    start: () => worker('/workbox.js'),
    load: async ({ url }) => drain(await fetch(url)),
    kept: async ({ url }) => Boolean(await caches.match(url)),
    range: async ({ url }, bytes) => drain(await fetch(url, range(bytes))),
    clear,
  },

  /** As transformers.js: the body into one buffer, the buffer into the cache and to the app. */
  'transformers.js': {
    start: async () => {},
    async load({ url }) {
      const cache = await caches.open('transformers-cache');
      const kept = await cache.match(url);
      if (kept) return (await kept.arrayBuffer()).byteLength;
      const response = await fetch(url);
      const buffer = new Uint8Array(Number(response.headers.get('content-length')));
      let at = 0;
      const reader = response.body.getReader();
      for (let read = await reader.read(); !read.done; read = await reader.read()) {
        buffer.set(read.value, at);
        at += read.value.length;
      }
      await cache.put(url, new Response(buffer, { headers: response.headers }));
      return buffer.byteLength;
    },
    kept: async ({ url }) => Boolean(await caches.match(url)),
    clear,
  },

  /**
   * Helia's verified fetch from a trustless gateway. Its blocks are in memory only, so each load is
   * cold.
   */
  helia: {
    async start(options) {
      this.options = options;
      const { createVerifiedFetch } = await import('/helia.js');
      const { gateway } = options;
      this.fetch = await createVerifiedFetch({
        gateways: [gateway],
        routers: [],
        allowLocal: true,
        allowInsecure: true,
      });
    },
    load: async function ({ cid }) {
      return drain(await this.fetch(`ipfs://${cid}`));
    },
    async clear() {
      await this.fetch.stop();
      await this.start(this.options);
    },
  },

  ours: {
    async start({ edge, keys }) {
      const { register } = await import('/edge-net.js');
      this.edgeNet = await register({ edge, keys });
    },
    load: async ({ path }) => drain(await fetch(path)),
    async kept({ id }) {
      return (await this.edgeNet.list()).some(
        (row) => row.model === id && row.cachedBytes === row.size,
      );
    },
    async rested() {
      const names = (await (await caches.open('edge-net-segments-v1')).keys()).map(({ url }) =>
        url.split('/').at(-1),
      );
      return names.length === 1 || names.every((name) => name.startsWith('pack-'));
    },
    range: async ({ path }, bytes) => drain(await fetch(path, range(bytes))),
    async verify({ id }) {
      const [{ segments, good }] = await this.edgeNet.verify(id);
      if (good !== segments) throw new Error(`${good} good segments of ${segments}`);
    },
    async clear() {
      await this.edgeNet.clear();
    },
  },
};

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let way;

globalThis.bench = {
  async start(name, options) {
    way = WAYS[name];
    await way.start(options);
  },
  /** Milliseconds until all was read, and until all was stored. */
  async cold(artifact) {
    const started = performance.now();
    const bytes = await way.load(artifact);
    const read = performance.now() - started;
    while (way.kept && !(await way.kept(artifact))) await sleep(5);
    const stored = performance.now() - started;
    if (bytes !== artifact.size) throw new Error(`${bytes} bytes instead of ${artifact.size}`);
    return { read, stored };
  },
  async fill(artifact) {
    await way.fill?.(artifact);
    for (let waited = 0; way.rested && !(await way.rested()) && waited < 60_000; waited += 100)
      await sleep(100);
  },
  async warm(artifact) {
    const started = performance.now();
    const bytes = await way.load(artifact);
    if (bytes !== artifact.size) throw new Error(`${bytes} bytes instead of ${artifact.size}`);
    return performance.now() - started;
  },
  async verify(artifact) {
    const started = performance.now();
    await way.verify(artifact);
    return performance.now() - started;
  },
  async range(artifact, bytes) {
    const started = performance.now();
    const got = await way.range(artifact, bytes);
    if (got !== bytes[1] - bytes[0]) throw new Error(`${got} bytes of a range`);
    return performance.now() - started;
  },
  clear: () => way.clear(),
};
