// The body of function (): replaces the Cache API, IndexedDB and storage estimate by empty ones, as
// far as js/store.js uses them. `globalThis.quota` limits the bytes of the cache.
globalThis.quota = Infinity;

const caches = new Map();
const bytesStored = () =>
  [...caches.values()]
    .flatMap((cache) => [...cache.values()])
    .reduce((sum, { size }) => sum + size, 0);
class FakeCache {
  constructor(entries) {
    this.entries = entries;
  }
  async match(key) {
    const blob = this.entries.get(key);
    return blob && new Response(blob);
  }
  async put(key, response) {
    const blob = await response.blob();
    if (bytesStored() + blob.size > globalThis.quota) {
      throw new DOMException('the quota is exceeded', 'QuotaExceededError');
    }
    this.entries.set(key, blob);
  }
  async delete(key) {
    return this.entries.delete(key);
  }
}
globalThis.caches = {
  has: async (name) => caches.has(name),
  async open(name) {
    if (!caches.has(name)) caches.set(name, new Map());
    return new FakeCache(caches.get(name));
  },
  delete: async (name) => caches.delete(name),
};
// For tests that alter an entry: the bytes of a key that ends so.
globalThis.setCached = (suffix, bytes) => {
  for (const cache of caches.values()) {
    for (const key of cache.keys()) if (key.endsWith(suffix)) cache.set(key, new Blob([bytes]));
  }
};

// For tests of packs: the names of the entries, in the order in which they were written.
globalThis.namesOfEntries = () =>
  [...caches.values()].flatMap((cache) => [...cache.keys()].map((key) => key.split('/').at(-1)));

// js/store.js keeps the database open over all tests, so it is emptied instead of replaced.
globalThis.fakeStores ??= new Map();
for (const { rows } of globalThis.fakeStores.values()) rows.clear();
const succeed = (result) => {
  const request = { result };
  queueMicrotask(() => request.onsuccess?.());
  return request;
};
const objectStore = ({ rows, keyPath }) => ({
  get: (key) => succeed(structuredClone(rows.get(key))),
  getAll: () => succeed([...rows.values()].map((row) => structuredClone(row))),
  put: (row, key = row[keyPath]) => succeed((rows.set(key, structuredClone(row)), key)),
  delete: (key) => succeed(void rows.delete(key)),
  clear: () => succeed(void rows.clear()),
});
const database = {
  createObjectStore: (name, { keyPath } = {}) =>
    globalThis.fakeStores.set(name, { rows: new Map(), keyPath }),
  transaction(name) {
    const transaction = { objectStore: () => objectStore(globalThis.fakeStores.get(name)) };
    // A timer runs after the requests, which are microtasks.
    setTimeout(() => transaction.oncomplete());
    return transaction;
  },
};
globalThis.indexedDB = {
  open() {
    const request = { result: database };
    queueMicrotask(() => {
      request.onupgradeneeded({ oldVersion: 0 });
      request.onsuccess();
    });
    return request;
  },
};

const storage = { estimate: async () => ({ quota: 1000, usage: bytesStored() }) };
Object.defineProperty(globalThis, 'navigator', { value: { storage }, configurable: true });
