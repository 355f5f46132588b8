// A service worker that responds with whole entries of the Cache API, and slices of them.
addEventListener('install', () => skipWaiting());
addEventListener('activate', (event) => event.waitUntil(clients.claim()));
addEventListener('fetch', (event) => {
  if (!event.request.url.endsWith('.bin')) return;
  event.respondWith(
    (async () => {
      const entry = await caches.match(event.request.url);
      if (!entry) return fetch(event.request);
      const [, start, end] =
        /^bytes=(\d+)-(\d+)$/.exec(event.request.headers.get('range') ?? '') ?? [];
      return start === undefined
        ? entry
        : new Response((await entry.blob()).slice(Number(start), Number(end) + 1), { status: 206 });
    })(),
  );
});
