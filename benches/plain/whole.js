// The simplest proxy: the whole file from the bucket in the Cache API, which cuts ranges out of it.
// It verifies nothing.

export default {
  /**
   * @param {Request} request
   * @param {{GCS_BASE: string}} env
   * @param {{waitUntil(p: Promise<unknown>): void}} context
   */
  async fetch(request, env, context) {
    const kept = await caches.default.match(request);
    if (kept) return kept;
    const url = new URL(request.url);
    const origin = `${env.GCS_BASE}${url.pathname.replace(/^\/models/, '')}`;
    const whole = await fetch(origin);
    if (!whole.ok) return new Response('not found', { status: whole.status });
    const headers = {
      'cache-control': 'public, max-age=31536000, immutable',
      'content-length': whole.headers.get('content-length'),
      'accept-ranges': 'bytes',
    };
    const keep = new Response(whole.body, { headers });
    if (!request.headers.has('range')) {
      const answer = keep.clone();
      context.waitUntil(caches.default.put(request.url, keep));
      return answer;
    }
    await caches.default.put(request.url, keep);
    return (await caches.default.match(request)) ?? new Response('not kept', { status: 502 });
  },
};
