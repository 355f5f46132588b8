// The service worker of an app that had one before.
self.EDGE_NET = JSON.parse(new URL(self.location.href).searchParams.get('models'));
importScripts('/edge-net-sw.js');

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  if (new URL(event.request.url).pathname === '/own')
    event.respondWith(new Response('answered by the app'));
});
