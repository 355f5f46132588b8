// Where the bench's bytes come from: files with ranges, at full speed or shaped to a rate, the same for all that is compared.

import { createReadStream, statSync } from 'node:fs';
import http from 'node:http';
import { pipeline } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

const TYPES = { html: 'text/html', js: 'text/javascript', mjs: 'text/javascript', json: 'application/json' };

/** A link of `rate` bytes a second that all answers share; 0 is as quick as can be. */
function link(rate) {
  let free = 0;
  return async (bytes) => {
    if (rate === 0) return;
    const now = performance.now();
    free = Math.max(free, now) + (bytes / rate) * 1000;
    // Timers are coarse: up to 5 ms ahead is let through.
    if (free - now > 5) await sleep(free - now);
  };
}

/**
 * Serves the first folder that has a path, on a free port of 127.0.0.1.
 * @param {string[]} folders
 * @param {number} [rate] bytes a second
 */
export async function serveFolders(folders, rate = 0) {
  const take = link(rate);
  const server = http.createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://x').pathname);
    const file = folders.map((folder) => folder + path).find((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
    const cors = { 'access-control-allow-origin': '*', 'access-control-allow-headers': 'range', 'access-control-expose-headers': 'content-range, content-length, etag' };
    if (request.method === 'OPTIONS') return response.writeHead(204, cors).end();
    if (!file) return response.writeHead(404, cors).end();
    const { size } = statSync(file);
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const start = Number(first ?? 0);
    const end = Math.min(last ? Number(last) : size - 1, size - 1);
    const range = first === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${size}` };
    const type = TYPES[file.split('.').at(-1)] ?? 'application/octet-stream';
    response.writeHead(first === undefined ? 200 : 206, { ...cors, ...range, 'accept-ranges': 'bytes', 'content-length': end - start + 1, 'content-type': type, 'cache-control': 'no-cache' });
    const shaped = async function* (chunks) {
      for await (const chunk of chunks) {
        await take(chunk.length);
        yield chunk;
      }
    };
    const read = createReadStream(file, { start, end, highWaterMark: 131_072 });
    pipeline(rate ? [read, shaped, response] : [read, response], () => {}); // who leaves early needs no more
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => (server.closeAllConnections(), server.close()) };
}
