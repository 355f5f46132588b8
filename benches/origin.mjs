// The origin of the benches: files with ranges, at full speed or shaped to a rate.

import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const TYPES = {
  html: 'text/html',
  js: 'text/javascript',
  mjs: 'text/javascript',
  json: 'application/json',
};

/** Bytes written at once. */
const CHUNK = 262_144;

/** A link of `rate` bytes a second that all responses share; 0: unlimited. */
function link(rate) {
  let free = 0;
  return async (bytes) => {
    if (rate === 0) return;
    const now = performance.now();
    free = Math.max(free, now) + (bytes / rate) * 1000;
    // Timers are coarse: bytes pass up to 5 ms early.
    if (free - now > 5) await sleep(free - now);
  };
}

/**
 * Serves the first folder that has a path, on a free port of 127.0.0.1.
 * @param {string[]} folders
 * @param {number} [rate] bytes a second
 * @returns {Promise<{url: string, sent: number, stop: () => void}>} `sent`: bytes sent so far
 */
export async function serveFolders(folders, rate = 0) {
  const take = link(rate);
  let memory = { path: '', bytes: Buffer.alloc(0) };
  let sent = 0;
  const server = http.createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://x').pathname);
    const file = folders
      .map((folder) => folder + path)
      .find((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
    const cors = {
      'access-control-allow-origin': '*',
      'access-control-allow-headers': 'range',
      'access-control-expose-headers': 'content-range, content-length, etag',
    };
    if (request.method === 'OPTIONS') return response.writeHead(204, cors).end();
    if (!file) return response.writeHead(404, cors).end();
    const { size } = statSync(file);
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const start = Number(first ?? 0);
    const end = Math.min(last ? Number(last) : size - 1, size - 1);
    const range = first === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${size}` };
    const type = TYPES[file.split('.').at(-1)] ?? 'application/octet-stream';
    response.writeHead(first === undefined ? 200 : 206, {
      ...cors,
      ...range,
      'accept-ranges': 'bytes',
      'content-length': end - start + 1,
      'content-type': type,
      'cache-control': 'no-cache',
    });
    // From memory, since the bench shares the processors; small files do not displace large ones.
    const small = size < 1 << 20;
    if (!small && memory.path !== file) memory = { path: file, bytes: readFileSync(file) };
    const bytes = small ? readFileSync(file) : memory.bytes;
    const gone = new AbortController();
    response.on('close', () => gone.abort());
    for (let at = start; at <= end && !response.destroyed; at += CHUNK) {
      const chunk = bytes.subarray(at, Math.min(at + CHUNK, end + 1));
      await take(chunk.length);
      sent += chunk.length;
      if (!response.write(chunk))
        await once(response, 'drain', { signal: gone.signal }).catch(() => {});
    }
    response.end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    get sent() {
      return sent;
    },
    stop: () => (server.closeAllConnections(), server.close()),
  };
}
