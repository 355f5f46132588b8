// A reverse proxy that injects faults. It is in front of the bucket, the IPFS gateway and the edge
// of the development stack, so that tests and the demo page can break each of them.
//
//   GET /__fault
//     → {"mode": "none", "match": …, "offset": 0, "rate": …, "hits": 0, "open": 0, "sent": 0}
//   PUT /__fault {"mode": "corrupt", "match": "^/ipfs/", "offset": 5000000}
//     → the new state in the same form
//
// `match` is a regular expression on path and query. Without it, `down` applies to all requests and
// the other modes to the bytes of artifacts. Since the last PUT, `hits` counts the affected
// requests, `open` those that are still open, and `sent` the bytes sent for them.

import http from 'node:http';
import { pipeline } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGzip } from 'node:zlib';

/** What each mode does to the requests that match. */
const MODES = {
  none: 'nothing',
  down: 'the connection is closed without an answer',
  corrupt:
    'the byte at `offset` of the artifact has all its bits flipped, whichever range is asked for',
  html: '200 with a web page, as a captive portal answers',
  'ignore-range': '200 with the whole artifact where a range was asked for',
  'lie-range': 'Content-Range names a range that is one byte off',
  'slip-range': 'Content-Range is written as bytes=…, as an old server does',
  'no-range': '501 where a range was asked for, as gateways answer for large files',
  truncate: 'the body ends half way and looks complete',
  cut: 'the connection is lost half way through the body',
  slow: 'the body arrives at `rate` bytes a second; 0 is never',
  error: '503',
  limit: '429 with Retry-After, every other second',
  flap: 'the connection is closed without an answer, every other second',
  redirect: 'a redirect to itself, without end',
  gzip: 'the body is compressed on the way, which nobody asked for: parts of a file cannot be',
};

/** All paths but manifests, leaf tables, single blocks, and the upload APIs. */
const ARTIFACTS =
  String.raw`^/(?!storage/|upload/|api/|v1/)` +
  String.raw`(?!.*(?:manifest\.json|\.leaves)(?:$|\?))(?!.*[?&]format=)`;

/** The status with which a mode refuses a request, if it does. */
const refusal = (mode, { headers }) =>
  ({ error: 503, 'no-range': headers.range && 501 })[mode];

/**
 * A request listener for `node:http` that forwards all requests to `target`.
 * @param {string} target origin, such as `http://127.0.0.1:4443`
 * @param {Record<string, string>} [extra] header fields to set on every response
 */
export function faultyProxy(target, extra = {}) {
  let fault = parse({ mode: 'none' });

  return (request, response) => {
    if (request.url === '/__fault') return control(request, response);
    const mode = fault.takes(request) ? fault.state.mode : 'none';
    if (mode !== 'none') {
      const { state } = fault;
      state.hits++;
      state.open++;
      response.on('close', () => state.open--);
    }
    const odd = Math.floor(Date.now() / 1000) % 2 === 1;
    if (mode === 'down' || (mode === 'flap' && odd)) return request.socket.destroy();
    const refuse = (status, fields) =>
      response
        .writeHead(status, {
          'access-control-allow-origin': '*',
          'access-control-expose-headers': 'Retry-After',
          ...fields,
        })
        .end();
    if (refusal(mode, request)) return refuse(refusal(mode, request), {});
    if (mode === 'limit' && odd) return refuse(429, { 'retry-after': '1' });
    if (mode === 'redirect') return refuse(302, { location: request.url });
    if (mode === 'html') {
      response.writeHead(200, { 'content-type': 'text/html', 'access-control-allow-origin': '*' });
      return response.end('<!doctype html><title>Sign in</title><p>Sign in to use this network.');
    }

    // Offsets count uncompressed bytes.
    const headers = { ...request.headers, 'accept-encoding': 'identity' };
    delete headers.connection;
    if (mode === 'ignore-range') delete headers.range;
    // `agent: false`: a new connection, since a kept one may be closed by the server at that
    // moment.
    const passed = http.request(target, {
      agent: false,
      method: request.method,
      path: request.url,
      headers,
    });
    passed.on('error', (error) => {
      if (response.headersSent) return response.destroy();
      response.writeHead(502, {
        'content-type': 'application/problem+json',
        'access-control-allow-origin': '*',
      });
      response.end(
        JSON.stringify({
          status: 502,
          title: 'Bad gateway',
          detail: `${target}: ${error.message}`,
        }),
      );
    });
    passed.on('response', (answer) => pass(answer, mode, fault.state, extra, response));
    // The client has disconnected.
    response.on('close', () => response.writableFinished || passed.destroy());
    request.pipe(passed);
  };

  async function control(request, response) {
    // Only local pages may set faults, not other sites that a developer visits.
    const local = /^http:\/\/(127\.0\.0\.1|localhost)(:\d+)?$/.test(request.headers.origin ?? '');
    const headers = {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      ...(local && {
        'access-control-allow-origin': request.headers.origin,
        'access-control-allow-methods': 'GET, PUT',
        'access-control-allow-headers': 'content-type',
      }),
    };
    if (request.method === 'OPTIONS') return response.writeHead(204, headers).end();
    try {
      if (request.method === 'PUT') {
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        fault = parse(JSON.parse(Buffer.concat(chunks)));
      }
      response.writeHead(200, headers).end(JSON.stringify(fault.state));
    } catch (error) {
      response.writeHead(400, { ...headers, 'content-type': 'application/problem+json' });
      response.end(JSON.stringify({ status: 400, title: 'Not a fault', detail: error.message }));
    }
  }
}

/** Checks a requested fault; throws an Error that says what is wrong. */
function parse({ mode, match, offset = 0, rate = 262_144 }) {
  if (!Object.hasOwn(MODES, mode))
    throw new Error(
      `mode must be one of ${Object.keys(MODES).join(', ')}; it is ${JSON.stringify(mode)}`,
    );
  for (const [name, value] of Object.entries({ offset, rate })) {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new Error(
        `${name} must be a whole number, not negative; it is ${JSON.stringify(value)}`,
      );
  }
  match ??= mode === 'down' ? '' : ARTIFACTS;
  const expression = new RegExp(match);
  return {
    state: { mode, match, offset, rate, hits: 0, open: 0, sent: 0 },
    takes: ({ method, url }) =>
      mode !== 'none' &&
      (mode === 'down' || ['GET', 'HEAD'].includes(method)) &&
      expression.test(url),
  };
}

/** Forwards the response of the real server with the fault of `mode`. */
function pass(answer, mode, state, extra, response) {
  const { offset, rate } = state;
  const headers = { ...answer.headers, ...extra };
  for (const hop of ['connection', 'keep-alive', 'transfer-encoding']) delete headers[hop];
  const [, first, last, size] =
    /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers['content-range'] ?? '')?.map(Number) ?? [];
  const length = Number(headers['content-length']);
  const start = first ?? 0;

  if (mode === 'lie-range' && first !== undefined) {
    const shift = first > 0 ? -1 : 1;
    headers['content-range'] = `bytes ${first + shift}-${last + shift}/${size}`;
  }
  if (mode === 'slip-range' && first !== undefined)
    headers['content-range'] = `bytes=${first}-${last}/${size}`;
  if (mode === 'truncate') delete headers['content-length'];

  const stages = [answer];
  if (mode === 'corrupt') stages.push((body) => corrupt(body, offset - start));
  if (mode === 'truncate') stages.push((body) => half(body, length));
  if (mode === 'cut')
    stages.push((body) =>
      half(body, length, () => {
        throw new Error('cut');
      }),
    );
  if (mode === 'slow') stages.push((body) => slow(body, rate));
  if (mode === 'gzip') {
    delete headers['content-length'];
    headers['content-encoding'] = 'gzip';
    stages.push(createGzip({ level: 1 }));
  }

  if (mode !== 'none') stages.push((body) => counted(body, state));

  response.writeHead(answer.statusCode, headers);
  response.flushHeaders();
  pipeline([...stages, response], () => {}); // an error closes the connection
}

async function* corrupt(body, at) {
  for await (const chunk of body) {
    if (at >= 0 && at < chunk.length) chunk[at] ^= 0xff;
    at -= chunk.length;
    yield chunk;
  }
}

async function* half(body, length, end = () => {}) {
  let left = Math.floor(length / 2);
  for await (const chunk of body) {
    yield chunk.subarray(0, left);
    left -= chunk.length;
    if (left <= 0) return end();
  }
}

async function* counted(body, state) {
  for await (const chunk of body) {
    state.sent += chunk.length;
    yield chunk;
  }
}

async function* slow(body, rate) {
  for await (const chunk of body) {
    if (rate === 0) await new Promise(() => {});
    await sleep((chunk.length / rate) * 1000);
    yield chunk;
  }
}
