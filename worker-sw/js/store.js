// The store on this device: bytes in the Cache API, keyed by CID, so that versions and URLs share
// them and no entry goes stale; the index in IndexedDB. This file reads and writes; Rust verifies,
// and decides what to store and to evict. Entries may be missing or altered, since browsers evict,
// and private windows may have no storage: then nothing is stored, and downloads still work.

/**
 * @typedef {object} Row
 * @property {string} cid
 * @property {number} size
 * @property {number[]} have  the segments stored
 * @property {number} used  the last use, in milliseconds since the Unix epoch
 * @property {boolean} pinned
 */

const CACHE = 'edge-net-segments-v1';
const DATABASE = 'edge-net';
/** Bytes of a segment. */
const SEGMENT = 4_194_304;
/**
 * Segments of a pack. A browser reads one large entry twice as fast as many of 4 MiB
 * (benches/README.md), so complete artifacts are packed. Packs are 64 MiB: packing needs little
 * extra space, and an interruption loses little.
 */
const PACK = 16;

/** The key of an entry. The Cache API requires a URL; this one is never fetched. */
const key = (cid, name) => `https://edge-net.invalid/${cid}/${name}`;
const segmentsOf = (size) => Math.max(1, Math.ceil(size / SEGMENT));

/** The wait for the database to open, in milliseconds. */
const OPENING = 10_000;
/** The same while another tab keeps an older one open, in milliseconds. */
const BLOCKED = 3_000;
const KEPT = 'it does not open; close other tabs of this site';
/** The limit of a transaction, in milliseconds: another context may hold a long one. */
const TRANSACTION = 10_000;
/** The same after one that reached the limit, until one ends in time, in milliseconds. */
const SHORT_TRANSACTION = 250;

/** What pages were told; once is enough. */
const told = new Set();

/** Tells all pages why something is not stored. Fetches work without. */
function unstored(what, error) {
  const message = `nothing is stored on this device for now: ${what} (${error?.message ?? error})`;
  if (told.has(what)) return;
  told.add(what);
  const channel = new BroadcastChannel('edge-net');
  channel.postMessage({ type: 'unstored', detail: { message } });
  channel.close();
}

/** Opens the database. `blocked` is called when another tab keeps an older one open. */
function openDatabase(blocked) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 2);
    request.onupgradeneeded = ({ oldVersion }) => {
      if (oldVersion === 1) request.result.deleteObjectStore('segments');
      if (oldVersion < 1) {
        // Key: `{id}` for the newest, below which no version is accepted; `{id}@{version}` for a
        // version. Value: the JSON text.
        request.result.createObjectStore('manifests');
        // Key: the CID. Value: the bytes of the leaf table.
        request.result.createObjectStore('leaf-tables');
      }
      request.result.createObjectStore('artifacts', { keyPath: 'cid' });
    };
    request.onblocked = blocked;
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const forget = () => (usable = undefined);
      request.result.onclose = forget;
      request.result.onversionchange = () => (request.result.close(), forget());
      resolve(request.result);
    };
  });
}

/** @type {Promise<IDBDatabase> | undefined} */
let usable;

/**
 * The database. It is opened again after the browser or another context closed it. If it does not
 * open soon, all do without it until it does.
 */
function database() {
  if (usable) return usable;
  let opening;
  const unblocked = new Promise((resolve, reject) => {
    opening = openDatabase(() => setTimeout(() => reject(new Error(KEPT)), BLOCKED));
    opening.then(resolve, reject);
  });
  const limited = limit(unblocked, OPENING, KEPT);
  usable = limited;
  opening.then(
    () => (usable = opening),
    (error) => ((usable = undefined), unstored('IndexedDB cannot be opened', error)),
  );
  limited.catch((error) => usable && unstored('IndexedDB is blocked', error));
  return usable;
}

/** Rejects after a while. */
function limit(promise, ms, message) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * Runs one transaction. Resolves when it is complete, with the result of the request that `act`
 * returns.
 * @param {string} name
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest | void} act
 * @returns {Promise<any>} undefined without IndexedDB, or when the transaction fails
 */
async function transact(name, mode, act) {
  try {
    const transaction = (await database()).transaction(name, mode);
    const request = act(transaction.objectStore(name));
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onabort = () => reject(transaction.error);
    });
    return await timely(done, transaction);
  } catch {
    return undefined;
  }
}

const LATE = 'another tab of this site uses it; close other tabs';
let patience = TRANSACTION;

/** Ends a transaction that takes too long. Firefox reports its end only when it is its turn. */
async function timely(done, transaction) {
  try {
    const result = await limit(done, patience, LATE);
    patience = TRANSACTION;
    return result;
  } catch (error) {
    if (error.message === LATE) {
      patience = SHORT_TRANSACTION;
      unstored('IndexedDB does not answer', error);
      transaction.abort();
    }
    throw error;
  }
}

/** Manifests that could not be stored, by name: the floor holds while this context lives. */
const inMemory = new Map();

/** Reads a text of `manifests`, or the bytes of a leaf table. */
export const get = async (store, name) =>
  (store === 'manifests' && inMemory.get(name)) ||
  transact(store, 'readonly', (of) => of.get(name));
export async function put(store, name, value) {
  const stored = await transact(store, 'readwrite', (of) => of.put(value, name));
  if (store !== 'manifests') return;
  if (stored === undefined) inMemory.set(name, value);
  else inMemory.delete(name);
}
export const manifests = async () => [
  ...inMemory.values(),
  ...((await transact('manifests', 'readonly', (of) => of.getAll())) ?? []),
];
/** @returns {Promise<Row[]>} */
export async function rows() {
  await record();
  return (await transact('artifacts', 'readonly', (of) => of.getAll())) ?? [];
}

/**
 * For each CID, the segments of its row as this context last saw it. The cache is not asked for
 * others.
 */
const named = new Map();

/** Changes the row of an artifact in one transaction, since other contexts change it too. */
function change(cid, size, alter) {
  return transact('artifacts', 'readwrite', (of) => {
    const request = of.get(cid);
    request.onsuccess = () => {
      const row = alter(request.result ?? { cid, size, have: [], used: Date.now(), pinned: false });
      named.set(cid, row.have);
      of.put(row);
    };
  });
}

/** How long the cache is taken to exist after it was seen, in milliseconds. */
const SEEN = 1_000;
/** When it was seen last. */
let seen = 0;

/** Whether the cache exists: a user may clear it at any time. */
async function exists() {
  const now = Date.now();
  if (now - seen < SEEN) return true;
  const found = await Promise.resolve()
    .then(() => caches.has(CACHE))
    .catch(() => false);
  if (found) seen = now;
  return found;
}

/** The wait before uses are recorded, in milliseconds: a write costs as much as a small read. */
const LATER = 1_000;
/** Uses that are not recorded yet: size and time by CID. */
const uses = new Map();

/** Records the uses, all at once. */
async function record() {
  const all = [...uses];
  uses.clear();
  await Promise.all(
    all.map(([cid, { size, used }]) => change(cid, size, (row) => ({ ...row, used }))),
  );
}

/**
 * Notes a use of an artifact.
 * @returns {Promise<boolean>} whether the cache still exists
 */
export async function use(cid, size) {
  const intact = exists();
  if (uses.size === 0) setTimeout(record, LATER);
  uses.set(cid, { size, used: Date.now() });
  // The first time, the row says which segments are stored.
  if (!named.has(cid)) await record();
  return intact;
}

/** Records whether an artifact is pinned. */
export const pin = (cid, size, pinned) => change(cid, size, (row) => ({ ...row, pinned }));

/** Records segments as stored, or as lost. */
const note = (cid, size, kept, lost) =>
  change(cid, size, (row) => ({
    ...row,
    have: [...new Set([...row.have, ...kept])].filter((segment) => !lost.includes(segment)),
  }));

const segmentsOfPack = (pack, size) =>
  Array.from({ length: Math.min(PACK, segmentsOf(size) - pack * PACK) }, (_, i) => pack * PACK + i);

/**
 * The entry that holds a segment. Its bytes are not verified.
 * @returns {Promise<{first: number, count: number, blob: Blob} | undefined>}
 */
export async function piece(cid, size, segment) {
  if (named.get(cid)?.includes(segment) === false) return undefined;
  try {
    const cache = await caches.open(CACHE);
    const pack = Math.floor(segment / PACK);
    const packed = size > SEGMENT && (await cache.match(key(cid, `pack-${pack}`)));
    if (packed)
      return {
        first: pack * PACK,
        count: segmentsOfPack(pack, size).length,
        blob: await packed.blob(),
      };
    const single = await cache.match(key(cid, segment));
    return single && { first: segment, count: 1, blob: await single.blob() };
  } catch {
    return undefined;
  }
}

/** The entries that hold the segments `from` to `to - 1`; undefined when one is missing. */
export async function pieces(cid, size, from, to) {
  const found = [];
  while (from < to) {
    const next = await piece(cid, size, from);
    if (!next) return undefined;
    found.push(next);
    from = next.first + next.count;
  }
  return found;
}

/**
 * How long a segment waits for the others of its pack, in milliseconds: as much is lost when the
 * browser ends.
 */
const WAIT = 2_000;

/** Segments that wait for the others of their pack, by CID and pack. */
const gathered = new Map();

function gathering(name) {
  const group = { blobs: new Map(), taken: false };
  group.ended = new Promise((resolve) => {
    group.end = (complete) => (gathered.delete(name), clearTimeout(timer), resolve(complete));
  });
  const timer = setTimeout(group.end, WAIT, false);
  gathered.set(name, group);
  return group;
}

/**
 * Gathers segments that arrive soon after one another, so that they are written as a pack: what is
 * written singly is read and written again, to be packed.
 * @param {Array<Uint8Array | Blob>} parts
 * @returns {Promise<{first: number, count: number, blob: Blob} | undefined>} the entry that the
 *   caller is to save; undefined when another caller saves the pack
 */
export async function gather(cid, size, segment, parts) {
  const blob = new Blob(parts);
  const pack = Math.floor(segment / PACK);
  const name = `${cid}/${pack}`;
  const all = segmentsOfPack(pack, size);
  const group = gathered.get(name) ?? gathering(name);
  group.blobs.set(segment, blob);
  if (group.blobs.size === all.length) group.end(true);
  if (!(await group.ended)) return { first: segment, count: 1, blob };
  if (group.taken) return undefined;
  group.taken = true;
  const whole = new Blob(all.map((segment) => group.blobs.get(segment)));
  return { first: all[0], count: all.length, blob: whole };
}

/**
 * Stores an entry: a segment, or all segments of a pack.
 * @returns {Promise<boolean>} false when the quota is exceeded
 */
export async function save(cid, size, first, count, blob) {
  const pack = first / PACK;
  const packed =
    size > SEGMENT && Number.isInteger(pack) && count === segmentsOfPack(pack, size).length;
  try {
    const cache = await caches.open(CACHE);
    const name = packed ? `pack-${pack}` : first;
    await cache.put(key(cid, name), new Response(blob));
  } catch (error) {
    // The quota may be less than estimate() said. Eviction does not help against other failures, as
    // in a private window.
    if (error.name !== 'QuotaExceededError') unstored('the Cache API fails', error);
    return error.name !== 'QuotaExceededError';
  }
  const segments = Array.from({ length: count }, (_, at) => first + at);
  await note(cid, size, segments, []);
  return true;
}

/** Deletes a bad segment; the others of its pack stay. */
export async function forget(cid, size, segment) {
  try {
    const cache = await caches.open(CACHE);
    const bad = await piece(cid, size, segment);
    if (bad && bad.count > 1) {
      for (const other of segmentsOfPack(bad.first / PACK, size).filter(
        (other) => other !== segment,
      )) {
        const at = (other - bad.first) * SEGMENT;
        await cache.put(key(cid, other), new Response(bad.blob.slice(at, at + SEGMENT)));
      }
      await cache.delete(key(cid, `pack-${bad.first / PACK}`));
    }
    await cache.delete(key(cid, segment));
  } catch {} // Entries are verified when they are read.
  await note(cid, size, [], [segment]);
}

/**
 * Packs the stored segments of an artifact. The cache adds an entry whole or not at all, so an
 * interruption is safe.
 * @returns {Promise<boolean>} whether a pack was written
 */
export async function pack(cid, size) {
  let packed = false;
  try {
    const cache = await caches.open(CACHE);
    for (let pack = 0; size > SEGMENT && pack * PACK < segmentsOf(size); pack++) {
      const segments = segmentsOfPack(pack, size);
      if (await cache.match(key(cid, `pack-${pack}`))) continue;
      const singles = await Promise.all(segments.map((segment) => cache.match(key(cid, segment))));
      if (!singles.every(Boolean)) continue;
      const blobs = await Promise.all(singles.map((single) => single.blob()));
      await cache.put(key(cid, `pack-${pack}`), new Response(new Blob(blobs)));
      packed = true;
      for (const segment of segments) await cache.delete(key(cid, segment));
    }
  } catch {} // No space for both copies: the single entries stay.
  // The artifact may have been deleted meanwhile; a pack without a row would stay for ever.
  if (packed && !(await transact('artifacts', 'readonly', (of) => of.get(cid))))
    await drop(cid, size);
  return packed;
}

/** Deletes all bytes of an artifact. */
export async function drop(cid, size) {
  try {
    const cache = await caches.open(CACHE);
    for (let segment = 0; segment < segmentsOf(size); segment++) {
      await cache.delete(key(cid, segment));
      if (segment % PACK === 0) await cache.delete(key(cid, `pack-${segment / PACK}`));
    }
  } catch {}
  named.delete(cid);
  uses.delete(cid);
  await transact('artifacts', 'readwrite', (of) => of.delete(cid));
  await transact('leaf-tables', 'readwrite', (of) => of.delete(cid));
}

/** Deletes all bytes. The manifests stay, so that older versions remain refused. */
export async function clear() {
  await Promise.resolve()
    .then(() => caches.delete(CACHE))
    .catch(() => {});
  named.clear();
  uses.clear();
  seen = 0;
  for (const name of ['artifacts', 'leaf-tables'])
    await transact(name, 'readwrite', (of) => of.clear());
}

/** The browser's estimate of its storage; the real quota may be less. */
export const estimate = () =>
  Promise.resolve()
    .then(() => navigator.storage.estimate())
    .catch(() => ({}));
