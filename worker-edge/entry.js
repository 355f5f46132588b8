// The entry point of the edge worker. It answers ranges of a segment that was sent for the same URL
// before and is in the cache: to enter WASM costs a fifth of such a response (benches/README.md).
// Rust answers all other requests, and remembers the hits (src/hit.rs). Both answer alike
// (tests/hits.test.mjs).

import Rust from './build/index.js';

/**
 * What Rust remembers of a URL.
 * @typedef {object} Known
 * @property {{until: number}} validity milliseconds since the Unix epoch; 0 when the manifest that
 *   the URL depends on no longer holds
 * @property {number} size of the artifact
 * @property {Cache} cache of its segments
 * @property {string} key of its segments, without the number
 * @property {Headers} headers of a response without its length; those that depend on the range are
 *   set for each response
 * @property {Map<number, string>} segments that were in the cache, and the Server-Timing of each
 * @property {string} [timing] the Server-Timing that the headers have now
 */

/** Size of a segment: 16 leaves of 256 KiB. */
const SEGMENT = 4_194_304;
/** A simple range. Numbers are exact up to 15 digits. */
const RANGE = /^bytes=(\d{1,15})-(\d{1,15})$/;

/** @type {Map<string, Known>} */
let hits = new Map();

/**
 * @param {Request} request
 * @returns {Promise<Response | undefined>} undefined if Rust has to answer
 */
async function hit(request) {
  const known = hits.get(request.url);
  if (!known || request.method !== 'GET' || Date.now() >= known.validity.until) return;
  const asked = request.headers;
  if (asked.has('if-match') || asked.has('if-none-match') || asked.has('if-range')) return;
  const { size, headers } = known;
  const range = asked.get('range');
  const [, from, to] = range === null ? [, 0, size - 1] : (RANGE.exec(range) ?? []);
  const first = Number(from);
  const last = Math.min(Number(to), size - 1);
  const segment = Math.floor(first / SEGMENT);
  // Also false if the range did not match and has no numbers.
  if (!(first <= last && Math.floor(last / SEGMENT) === segment)) return;
  const timing = known.segments.get(segment);
  if (timing === undefined) return;
  const start = segment * SEGMENT;
  const part = new Request(known.key + segment, {
    headers: { range: `bytes=${first - start}-${last - start}` },
  });
  const found = await known.cache.match(part).catch(() => undefined);
  if (found?.headers.get('content-length') !== `${last - first + 1}`) {
    found?.body?.cancel(); // not awaited: nothing depends on it
    return;
  }
  // The shared headers are set and then copied by the response, without an await in between.
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
    hits = this.hits(); // a new map if WASM was restarted after a panic
    return super.fetch(request);
  }
}
