// What is kept on this device: bytes in the Cache API, keyed by content, so that versions and URLs share them and none goes
// stale; the index in IndexedDB. Reading and writing only: what is good, and what is kept, is decided in Rust.
// Everything here may be missing or wrong, since browsers evict, and private windows may have neither: then nothing is kept,
// and all else works.

/** @typedef {{cid: string, size: number, have: number[], used: number, pinned: boolean}} Row  `have`: the segments kept */

const CACHE = 'edge-net-segments-v1';
const DATABASE = 'edge-net';
/** Bytes in a segment. */
const SEGMENT = 4_194_304;
/**
 * Segments in a pack. A browser reads one large entry twice as fast as many of 4 MiB (benches/README.md), so finished artifacts
 * are packed; by 64 MiB, so that packing needs little room and loses little when it is interrupted.
 */
const PACK = 16;

/** Keys of the Cache API are URLs; these are never fetched. */
const key = (cid, name) => `https://edge-net.invalid/${cid}/${name}`;
const segmentsOf = (size) => Math.max(1, Math.ceil(size / SEGMENT));

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

/** The database; opened again after the browser or another context closed it. */
function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 2);
    request.onupgradeneeded = ({ oldVersion }) => {
      if (oldVersion === 1) request.result.deleteObjectStore('segments');
      if (oldVersion < 1) {
        // Key: `{id}` for the newest, which is also the floor below which none is accepted; `{id}@{version}` for each. Value: the text.
        request.result.createObjectStore('manifests');
        // Key: CID. Value: the leaf table's bytes.
        request.result.createObjectStore('leaf-tables');
      }
      request.result.createObjectStore('artifacts', { keyPath: 'cid' });
    };
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const forget = () => (opened = undefined);
      request.result.onclose = forget;
      request.result.onversionchange = () => (request.result.close(), forget());
      resolve(request.result);
    };
  });
  opened.catch(() => (opened = undefined));
  return opened;
}

/**
 * One transaction; resolves when it is done, to the result of the request that `act` returns.
 * @param {string} name
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest | void} act
 * @returns {Promise<any>} undefined where there is no IndexedDB
 */
async function transact(name, mode, act) {
  try {
    const transaction = (await database()).transaction(name, mode);
    const request = act(transaction.objectStore(name));
    return await new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onabort = () => reject(transaction.error);
    });
  } catch {
    return undefined;
  }
}

/** A text of `manifests`, or the bytes of a leaf table. */
export const get = (store, name) => transact(store, 'readonly', (of) => of.get(name));
export const put = (store, name, value) =>
  transact(store, 'readwrite', (of) => of.put(value, name));
export const manifests = async () =>
  (await transact('manifests', 'readonly', (of) => of.getAll())) ?? [];
/** @returns {Promise<Row[]>} */
export const rows = async () =>
  (await transact('artifacts', 'readonly', (of) => of.getAll())) ?? [];

/** The segments that each artifact's row names, as this context saw it last: what it does not name need not be looked for. */
const named = new Map();

/** Changes the row of an artifact, in one transaction: other contexts change it too. */
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

/**
 * Notes a use of an artifact.
 * @returns {Promise<boolean>} whether the browser still has the cache: a user may clear it at any time
 */
export async function use(cid, size) {
  const intact = Promise.resolve()
    .then(() => caches.has(CACHE))
    .catch(() => false);
  await change(cid, size, (row) => ({ ...row, used: Date.now() }));
  return intact;
}

/** Notes whether an artifact is pinned. */
export const pin = (cid, size, pinned) => change(cid, size, (row) => ({ ...row, pinned }));

/** Notes that segments are kept, or are not. */
const note = (cid, size, kept, lost) =>
  change(cid, size, (row) => ({
    ...row,
    have: [...new Set([...row.have, ...kept])].filter((segment) => !lost.includes(segment)),
  }));

const segmentsOfPack = (pack, size) =>
  Array.from({ length: Math.min(PACK, segmentsOf(size) - pack * PACK) }, (_, i) => pack * PACK + i);

/**
 * The entry that holds a segment, not to be trusted.
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

/** The entries that hold the segments from `from` to before `to`; undefined when one is missing. */
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
 * Keeps a segment.
 * @param {Array<Uint8Array | Blob>} parts
 * @returns {Promise<boolean>} false when there is no room for it
 */
export async function save(cid, size, segment, parts) {
  try {
    const cache = await caches.open(CACHE);
    // A blob is in the browser's hands already: it is stored without another copy.
    const whole = parts.length === 1 && parts[0] instanceof Blob ? parts[0] : new Blob(parts);
    await cache.put(key(cid, segment), new Response(whole));
  } catch (error) {
    // Whatever estimate() promised. Any other failure (a private window) is not mended by letting others go.
    return error.name !== 'QuotaExceededError';
  }
  await note(cid, size, [segment], []);
  return true;
}

/** Drops a segment that is not good; the others of its pack stay. */
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
  } catch {} // What is there is verified when it is read.
  await note(cid, size, [], [segment]);
}

/**
 * Packs what is kept of an artifact. An entry appears whole or not at all, so this may be interrupted.
 * @returns {Promise<boolean>} whether there was something to pack
 */
export async function pack(cid, size) {
  let packed = false;
  try {
    const cache = await caches.open(CACHE);
    for (let pack = 0; size > SEGMENT && pack * PACK < segmentsOf(size); pack++) {
      const segments = segmentsOfPack(pack, size);
      const singles = await Promise.all(segments.map((segment) => cache.match(key(cid, segment))));
      if (!singles.every(Boolean)) continue;
      const blobs = await Promise.all(singles.map((single) => single.blob()));
      await cache.put(key(cid, `pack-${pack}`), new Response(new Blob(blobs)));
      packed = true;
      for (const segment of segments) await cache.delete(key(cid, segment));
    }
  } catch {} // No room for both at once: it stays as it is.
  // It may have been let go meanwhile; what no row knows of would stay for ever.
  if (packed && !(await transact('artifacts', 'readonly', (of) => of.get(cid))))
    await drop(cid, size);
  return packed;
}

/** Lets go of all bytes of an artifact. */
export async function drop(cid, size) {
  try {
    const cache = await caches.open(CACHE);
    for (let segment = 0; segment < segmentsOf(size); segment++) {
      await cache.delete(key(cid, segment));
      if (segment % PACK === 0) await cache.delete(key(cid, `pack-${segment / PACK}`));
    }
  } catch {}
  named.delete(cid);
  await transact('artifacts', 'readwrite', (of) => of.delete(cid));
  await transact('leaf-tables', 'readwrite', (of) => of.delete(cid));
}

/** Lets go of all bytes. The manifests stay: they are the floor. */
export async function clear() {
  await Promise.resolve()
    .then(() => caches.delete(CACHE))
    .catch(() => {});
  named.clear();
  for (const name of ['artifacts', 'leaf-tables'])
    await transact(name, 'readwrite', (of) => of.clear());
}

/** What the browser says of its storage; it may promise what is not there. */
export const estimate = () =>
  Promise.resolve()
    .then(() => navigator.storage.estimate())
    .catch(() => ({}));
