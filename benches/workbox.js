// The service worker of Workbox's documentation for large media.
import { CacheableResponsePlugin } from 'workbox-cacheable-response';
import { RangeRequestsPlugin } from 'workbox-range-requests';
import { registerRoute } from 'workbox-routing';
import { CacheFirst } from 'workbox-strategies';

addEventListener('install', () => skipWaiting());
addEventListener('activate', (event) => event.waitUntil(clients.claim()));
const plugins = [new CacheableResponsePlugin({ statuses: [200] }), new RangeRequestsPlugin()];
registerRoute(
  ({ url }) => url.pathname.endsWith('.bin'),
  new CacheFirst({ cacheName: 'models', plugins }),
);
