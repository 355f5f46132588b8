// The worker that is deployed. A range of a segment that was sent before by the same URL, and is in the cache, is answered
// here, since entering WASM costs a fifth of such an answer (benches/README.md). Everything else is answered by Rust; what is
// known here comes from there (src/hit.rs), and both answer alike (tests/hits.test.mjs).

import Rust from './build/index.js';

/**
 * What Rust remembers of a URL. `until` is set to 0 when the manifest behind it no longer holds.
 * @typedef {object} Known
 * @property {{until: number}} lease milliseconds since the Unix epoch
 * @property {number} size of the artifact
 * @property {Cache} cache what its segments are in
 * @property {string} key of its segments, but for the number
 * @property {Headers} headers of an answer, without its length; those that depend on the range are written anew each time
 * @property {Map<number, string>} segments that were seen in the cache, and what is said of each (Server-Timing)
 * @property {string} [timing] what of that the headers say
 */

/** Bytes of a segment: 16 leaves of 256 KiB. */
const SEGMENT = 4_194_304;
/** A range that needs no interpretation; numbers are exact up to 15 digits. */
const RANGE = /^bytes=(\d{1,15})-(\d{1,15})$/;

/** @type {Map<string, Known>} */
let hits = new Map();

/**
 * @param {Request} request
 * @returns {Promise<Response | undefined>} nothing where Rust has to answer
 */
async function hit(request) {
  const known = hits.get(request.url);
  if (!known || request.method !== 'GET' || Date.now() >= known.lease.until) return;
  const asked = request.headers;
  if (asked.has('if-match') || asked.has('if-none-match') || asked.has('if-range')) return;
  const { size, headers } = known;
  const range = asked.get('range');
  const [, from, to] = range === null ? [, 0, size - 1] : (RANGE.exec(range) ?? []);
  const first = Number(from);
  const last = Math.min(Number(to), size - 1);
  const segment = Math.floor(first / SEGMENT);
  // Not so either where there are no numbers.
  if (!(first <= last && Math.floor(last / SEGMENT) === segment)) return;
  const timing = known.segments.get(segment);
  if (timing === undefined) return;
  const start = segment * SEGMENT;
  const part = new Request(known.key + segment, { headers: { range: `bytes=${first - start}-${last - start}` } });
  const found = await known.cache.match(part).catch(() => undefined);
  if (found?.headers.get('content-length') !== `${last - first + 1}`) return;
  // From here to the copy that the response takes, no other request is in between.
  if (range === null) headers.delete('content-range');
  else headers.set('content-range', `bytes ${first}-${last}/${size}`);
  if (known.timing !== timing) headers.set('server-timing', (known.timing = timing));
  return new Response(found.body, { status: range === null ? 200 : 206, headers });
}

export default class extends Rust {
  /** @param {Request} request */
  async fetch(request) {
    const answer = await hit(request);
    if (answer) return answer;
    hits = this.hits(); // another map when WASM was started anew, after a panic
    return super.fetch(request);
  }
}
