// The same proxy in JavaScript: segments of 4 MiB from the bucket in the Cache API, which cuts
// ranges out of them, with the same header fields. It verifies nothing.

const SEGMENT = 4_194_304;
const EXPOSED =
  'Accept-Ranges, Content-Length, Content-Range, ETag, Repr-Digest, Server-Timing, X-Model-Version';

/**
 * A cached segment, fetched first if it is missing. `x-size` is the artifact's size, `x-etag` its
 * entity tag.
 */
async function part(
  /** @type {string} */ origin,
  /** @type {URL} */ { origin: host, pathname },
  /** @type {number} */ segment,
  /** @type {string} */ range,
) {
  const key = `${host}/.segments${pathname}/${segment}`;
  const asked = new Request(key, { headers: { range } });
  const kept = await caches.default.match(asked);
  if (kept) return { found: kept, cache: 'hit' };
  const start = segment * SEGMENT;
  const fetched = await fetch(origin, {
    headers: { range: `bytes=${start}-${start + SEGMENT - 1}` },
  });
  const [, first, last, size] =
    /^bytes (\d+)-(\d+)\/(\d+)$/.exec(fetched.headers.get('content-range') ?? '') ?? [];
  if (fetched.status !== 206 || Number(first) !== start)
    throw new Error(`${origin}: ${fetched.status}`);
  const headers = {
    'cache-control': 'public, max-age=31536000, immutable',
    'content-length': `${Number(last) + 1 - start}`,
    'x-size': size,
    'x-etag': fetched.headers.get('etag'),
    'x-hash': fetched.headers.get('x-goog-hash'),
  };
  await caches.default.put(key, new Response(fetched.body, { headers }));
  const found = await caches.default.match(asked);
  if (!found) throw new Error('not kept');
  return { found, cache: 'miss' };
}

export default {
  /**
   * @param {Request} request
   * @param {{GCS_BASE: string}} env
   * @param {{waitUntil(p: Promise<unknown>): void}} context
   */
  async fetch(request, env, context) {
    const url = new URL(request.url);
    if (!url.pathname.startsWith('/models/')) return new Response('not found', { status: 404 });
    const origin = `${env.GCS_BASE}${url.pathname.replace(/^\/models/, '')}`;
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get('range') ?? '') ?? [];
    const first = Number(from ?? 0);
    const segment = Math.floor(first / SEGMENT);
    const start = segment * SEGMENT;
    const { found, cache } = await part(
      origin,
      url,
      segment,
      `bytes=${first - start}-${Math.min(Number(to ?? Infinity) - start, SEGMENT - 1)}`,
    );
    const size = Number(found.headers.get('x-size'));
    const last = Math.min(Number(to ?? Infinity), size - 1);
    const headers = {
      'accept-ranges': 'bytes',
      'access-control-allow-origin': '*',
      'access-control-expose-headers': EXPOSED,
      'cache-control': 'public, max-age=31536000, immutable',
      'content-length': `${last + 1 - first}`,
      'content-type': 'application/octet-stream',
      ...(from && { 'content-range': `bytes ${first}-${last}/${size}` }),
      'cross-origin-resource-policy': 'cross-origin',
      etag: found.headers.get('x-etag'),
      'repr-digest': found.headers.get('x-hash'),
      'server-timing': `origin;desc="gcs", cache;desc=${cache}`,
      'timing-allow-origin': '*',
      'x-content-type-options': 'nosniff',
      'x-model-version': url.pathname.split('/')[3],
    };
    const status = from ? 206 : 200;
    if (last < start + SEGMENT) return new Response(found.body, { status, headers });
    const { readable, writable } = new FixedLengthStream(last + 1 - first);
    const send = async () => {
      await found.body.pipeTo(writable, { preventClose: true });
      for (let next = segment + 1; next * SEGMENT <= last; next++) {
        const { found } = await part(
          origin,
          url,
          next,
          `bytes=0-${Math.min(last - next * SEGMENT, SEGMENT - 1)}`,
        );
        await found.body.pipeTo(writable, { preventClose: true });
      }
      await writable.close();
    };
    context.waitUntil(send());
    return new Response(readable, { status, headers });
  },
};
