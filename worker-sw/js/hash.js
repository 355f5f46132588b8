// Hashes blobs leaf by leaf. The bytes pass through a buffer that is used again: reading into fresh
// memory costs more than hashing (benches/README.md).

/** Bytes of a leaf. */
const LEAF = 262_144;
/** Bytes read at once: whole leaves. */
const BATCH = 4 * LEAF;
/** Bytes of a SHA-256 digest. */
const DIGEST = 32;

/** Buffers that nobody uses now. As many exist as blobs were hashed at a time. */
const spare = [];

const hash = (leaf) => crypto.subtle.digest('SHA-256', leaf);

/** A reader into buffers of the caller; undefined where the browser has none for blobs. */
function readerOf(blob) {
  try {
    return blob.stream().getReader({ mode: 'byob' });
  } catch {
    return undefined;
  }
}

/**
 * The SHA-256 digests of a blob's leaves, one after the other.
 * @param {Blob} blob
 * @returns {Promise<Uint8Array>} rejects when the browser lost the blob
 */
export async function digests(blob) {
  const reader = readerOf(blob);
  const leaves = reader ? await hashStream(reader, blob.size) : hashSlices(blob);
  const all = new Uint8Array(DIGEST * Math.ceil(blob.size / LEAF));
  (await Promise.all(leaves)).forEach((digest, at) => all.set(new Uint8Array(digest), at * DIGEST));
  return all;
}

/** @returns {Promise<Array<Promise<ArrayBuffer>>>} */
async function hashStream(reader, size) {
  let buffer = spare.pop() ?? new ArrayBuffer(BATCH);
  const leaves = [];
  try {
    for (let at = 0; at < size; at += BATCH) {
      const want = Math.min(BATCH, size - at);
      for (let got = 0; got < want; ) {
        const room = new Uint8Array(buffer, got, want - got);
        const { value } = await reader.read(room, { min: room.length });
        if (!value?.length) throw new Error('the blob ended early');
        got += value.length;
        buffer = value.buffer;
      }
      // digest() copies its input before it returns, so the buffer is free for the next batch.
      for (let leaf = 0; leaf < want; leaf += LEAF)
        leaves.push(hash(new Uint8Array(buffer, leaf, Math.min(LEAF, want - leaf))));
    }
  } finally {
    if (buffer.byteLength) spare.push(buffer);
  }
  return leaves;
}

/** The same without such a reader. */
function hashSlices(blob) {
  const at = Array.from({ length: Math.ceil(blob.size / LEAF) }, (_, leaf) => leaf * LEAF);
  return at.map(async (at) => hash(await blob.slice(at, at + LEAF).arrayBuffer()));
}
