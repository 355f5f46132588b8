// HTTP at the edge, exchange by exchange: the bytes sent, and the expected response. RFC 9110
// sections in brackets.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { DEMO, startStack } from '../dev/stack.mjs';

const MODEL = readFileSync(`${DEMO.dir}/model.onnx`);
const SIZE = MODEL.length;
const FILE = `/models/${DEMO.id}/model.onnx`;
const VERSIONED = `/models/${DEMO.id}/v${DEMO.version}/model.onnx`;
const ETAG = '"bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu"';
const OTHER = '"bafybeievh6oa2rruq2yqu2drzqx5lhzchmwhagcpjgav47x3zk25reelie"';
const SOON = 'public, max-age=60, must-revalidate, no-transform';
const DATE = 'Mon, 23 Nov 2026 00:00:00 GMT';

/** Sends a request as it is and resolves to the response. Paths and fields are not normalised. */
function exchange(url, head) {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const chunks = [];
    const socket = connect(Number(port), hostname, () => socket.write(`${head}\r\n\r\n`, 'latin1'));
    socket.setTimeout(20_000, () => socket.destroy(new Error(`no answer to ${head}`)));
    socket.on('error', reject);
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('close', () => {
      const all = Buffer.concat(chunks);
      const end = all.indexOf('\r\n\r\n');
      const [first, ...lines] = all.subarray(0, end).toString('latin1').split('\r\n');
      const fields = Object.fromEntries(
        lines.map((line) => [
          line.slice(0, line.indexOf(':')).toLowerCase(),
          line.slice(line.indexOf(':') + 1).trim(),
        ]),
      );
      resolve({ status: Number(first.split(' ')[1]), fields, body: all.subarray(end + 4) });
    });
  });
}

/** The bytes of a chunked body (RFC 9112, section 7.1). */
function whole({ fields, body }) {
  if (fields['transfer-encoding'] !== 'chunked') return body;
  const parts = [];
  for (let at = 0; ;) {
    const end = body.indexOf('\r\n', at);
    const length = parseInt(body.subarray(at, end).toString(), 16);
    if (!length) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + length));
    at = end + 2 + length + 2;
  }
}

const SHA256 = '8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6';
const part = (start, end) => ({
  status: 206,
  body: MODEL.subarray(start, end),
  fields: {
    'content-range': `bytes ${start}-${end - 1}/${SIZE}`,
    'content-length': `${end - start}`,
    etag: ETAG,
  },
});
const all = {
  status: 200,
  body: MODEL,
  fields: {
    'content-length': `${SIZE}`,
    'content-range': undefined,
    'accept-ranges': 'bytes',
    etag: ETAG,
  },
};
const none = {
  status: 416,
  problem: /has 22928619 bytes/,
  fields: { 'content-range': `bytes */${SIZE}` },
};
const unchanged = {
  status: 304,
  body: '',
  fields: {
    etag: ETAG,
    'cache-control': SOON,
    'content-length': undefined,
    'content-range': undefined,
  },
};
const failed = { status: 412, problem: /the entity tag of model\.onnx is "bafybei/ };

/**
 * The request besides Host and Connection, and the expected response; `undefined` is a field that
 * must be absent.
 */
const EXCHANGES = {
  'Ranges [14]': [
    [`GET ${FILE}`, 'range: bytes=0-0', part(0, 1)],
    [`GET ${FILE}`, 'range: bytes=100-199', part(100, 200)],
    [`GET ${FILE}`, 'RANGE: bytes=100-199', part(100, 200)],
    [`GET ${FILE}`, 'range: Bytes=100-199', part(100, 200)],
    [`GET ${FILE}`, `range: bytes=4194300-4194310`, part(4_194_300, 4_194_311)],
    [`GET ${FILE}`, `range: bytes=${SIZE - 1}-`, part(SIZE - 1, SIZE)],
    [`GET ${FILE}`, 'range: bytes=-1', part(SIZE - 1, SIZE)],
    [`GET ${FILE}`, 'range: bytes=-1000', part(SIZE - 1000, SIZE)],
    // Beyond the end: clamped to the size [14.1.2].
    [`GET ${FILE}`, `range: bytes=${SIZE - 10}-${SIZE + 10}`, part(SIZE - 10, SIZE)],
    [`GET ${FILE}`, 'range: bytes=22928600-99999999999999999999999', part(22_928_600, SIZE)],
    [`GET ${FILE}`, 'range: bytes=-99999999999999999999999', part(0, SIZE)],
    // Outside of the file [15.5.17].
    [`GET ${FILE}`, `range: bytes=${SIZE}-`, none],
    [`GET ${FILE}`, 'range: bytes=99999999999999999999999-', none],
    [`GET ${FILE}`, 'range: bytes=-0', none],
    // An unknown unit or a malformed range is ignored [14.2].
    [`GET ${FILE}`, 'range: bytes=5-4', all],
    [`GET ${FILE}`, 'range: bytes=', all],
    [`GET ${FILE}`, 'range: bytes=-', all],
    [`GET ${FILE}`, 'range: bytes=a-b', all],
    [`GET ${FILE}`, 'range: bytes=0x0-0x9', all],
    [`GET ${FILE}`, 'range: items=0-9', all],
    [`GET ${FILE}`, 'range: 0-9', all],
    // Several ranges: the whole file [14.2 allows that].
    [`GET ${FILE}`, 'range: bytes=0-9,20-29', all],
    [`GET ${FILE}`, `range: bytes=${'0-0,'.repeat(1000)}1-1`, all],
    // Range applies to GET only [14.2].
    [`HEAD ${FILE}`, 'range: bytes=0-9', { ...all, body: '' }],
  ],
  'Conditions [13]': [
    [`GET ${FILE}`, `if-none-match: ${ETAG}`, unchanged],
    [`HEAD ${FILE}`, `if-none-match: ${ETAG}`, unchanged],
    [`GET ${FILE}`, `if-none-match: W/${ETAG}`, unchanged], // compared weakly [13.1.2]
    [`GET ${FILE}`, `if-none-match: ${OTHER}, ${ETAG}`, unchanged],
    [`GET ${FILE}`, `if-none-match: ${OTHER}\r\nif-none-match: ${ETAG}`, unchanged],
    [`GET ${FILE}`, 'if-none-match: *', unchanged],
    [`HEAD ${FILE}`, `if-none-match: ${OTHER}`, { ...all, body: '' }],
    // Before Range [13.2.2].
    [`GET ${FILE}`, `if-none-match: ${ETAG}\r\nrange: bytes=0-9`, unchanged],
    [`GET ${FILE}`, `if-none-match: ${OTHER}\r\nrange: bytes=0-9`, part(0, 10)],
    [`GET ${FILE}`, `if-match: ${ETAG}\r\nrange: bytes=0-9`, part(0, 10)],
    [`GET ${FILE}`, 'if-match: *\r\nrange: bytes=0-9', part(0, 10)],
    [`GET ${FILE}`, `if-match: ${OTHER}, ${ETAG}\r\nrange: bytes=0-9`, part(0, 10)],
    [`GET ${FILE}`, `if-match: ${OTHER}`, failed],
    [`GET ${FILE}`, `if-match: W/${ETAG}`, failed], // compared strongly [13.1.1]
    // If-Match first [13.2.2].
    [`GET ${FILE}`, `if-match: ${OTHER}\r\nif-none-match: ${ETAG}`, failed],
    [`GET ${FILE}`, `if-range: ${ETAG}\r\nrange: bytes=0-9`, part(0, 10)],
    [`GET ${FILE}`, `if-range: ${OTHER}\r\nrange: bytes=0-9`, all],
    [`GET ${FILE}`, `if-range: W/${ETAG}\r\nrange: bytes=0-9`, all], // compared strongly [13.1.5]
    [`GET ${FILE}`, `if-range: ${DATE}\r\nrange: bytes=0-9`, all], // dates are not supported
    [`GET ${FILE}`, `if-range: ${OTHER}\r\nrange: bytes=${SIZE}-`, all],
    [`HEAD ${FILE}`, `if-modified-since: ${DATE}`, { ...all, body: '' }],
    [`HEAD ${FILE}`, `if-unmodified-since: Thu, 01 Jan 1970 00:00:00 GMT`, { ...all, body: '' }],
  ],
  Fields: [
    [
      `HEAD ${FILE}`,
      '',
      {
        ...all,
        body: '',
        fields: {
          ...all.fields,
          'cache-control': SOON,
          'content-type': 'application/octet-stream',
          'x-model-version': DEMO.version,
        },
      },
    ],
    [
      `HEAD ${VERSIONED}`,
      '',
      {
        ...all,
        body: '',
        fields: {
          ...all.fields,
          'cache-control': 'public, max-age=31536000, immutable, no-transform',
        },
      },
    ],
    [
      `HEAD ${FILE}`,
      '',
      {
        status: 200,
        fields: {
          'repr-digest': `sha-256=:${Buffer.from(SHA256, 'hex').toString('base64')}:`,
          'x-model-checksum': SHA256,
        },
      },
    ],
    // Cross-origin isolated pages (COEP require-corp) may use it, and read these fields.
    [
      `GET ${FILE}`,
      'origin: https://app.example\r\nrange: bytes=0-0',
      {
        ...part(0, 1),
        fields: {
          'access-control-allow-origin': '*',
          'cross-origin-resource-policy': 'cross-origin',
          'access-control-expose-headers': /Content-Range, ETag, Link, Location, Repr-Digest/,
          'x-content-type-options': 'nosniff',
        },
      },
    ],
    [
      `GET ${FILE}`,
      'range: bytes=0-0',
      {
        ...part(0, 1),
        fields: { 'server-timing': /origin;desc="(gcs|ipfs)", cache;desc=(hit|miss)/ },
      },
    ],
    [
      `OPTIONS ${FILE}`,
      'origin: https://app.example\r\naccess-control-request-method: GET\r\n' +
        'access-control-request-headers: range',
      {
        status: 204,
        body: '',
        fields: {
          'access-control-allow-methods': 'GET, HEAD, OPTIONS',
          'access-control-allow-headers': /Range/,
          'access-control-max-age': '86400',
          allow: 'GET, HEAD, OPTIONS',
        },
      },
    ],
    [
      'OPTIONS /v1/models',
      '',
      {
        status: 204,
        body: '',
        fields: { 'access-control-allow-methods': 'GET, HEAD, POST, OPTIONS' },
      },
    ],
    [`GET /Xenova/MiniLM-L6-v2-q8/resolve/main/model.onnx`, 'range: bytes=100-199', part(100, 200)],
    [
      `HEAD /org/${DEMO.id}/resolve/v${DEMO.version}/model.onnx`,
      '',
      {
        ...all,
        body: '',
        fields: { 'cache-control': 'public, max-age=31536000, immutable, no-transform' },
      },
    ],
  ],
  'What is not there, and what is not allowed': [
    ...['POST', 'PUT', 'DELETE', 'PATCH'].map((method) => [
      `${method} ${FILE}`,
      'content-length: 0',
      {
        status: 405,
        problem: /is not allowed here; use GET or HEAD/,
        fields: { allow: 'GET, HEAD, OPTIONS' },
      },
    ]),
    [`QUERY ${FILE}`, 'content-length: 0', { status: 405, problem: /QUERY is not allowed here/ }],
    [
      'DELETE /v1/models',
      '',
      {
        status: 405,
        problem: /use GET or HEAD or POST/,
        fields: { allow: 'GET, HEAD, POST, OPTIONS' },
      },
    ],
    ['GET /', '', { status: 404, problem: /nothing here/ }],
    ['GET /models/', '', { status: 404, problem: /names no model file/ }],
    ['GET /models/nothing/model.onnx', '', { status: 404, problem: /no such model/ }],
    [
      `GET /models/${DEMO.id}/nothing.onnx`,
      '',
      {
        status: 404,
        problem:
          /has no file "nothing\.onnx"; it has 1_Pooling\/config\.json, config\.json, model\.onnx/,
      },
    ],
    [`GET /models/${DEMO.id}/v9.9.9/model.onnx`, '', { status: 404, problem: /no such model/ }],
    [`GET /models/../../../etc/passwd`, '', { status: 404, problem: /./ }],
    [`GET /models/${DEMO.id}/../../etc/passwd`, '', { status: 404, problem: /./ }],
    [`GET /models/${DEMO.id}/%2e%2e/%2e%2e/manifest.json`, '', { status: 404, problem: /./ }],
    [`GET /models/${DEMO.id}/..%2f..%2fmanifest.json`, '', { status: 404, problem: /./ }],
    [`GET /models/${DEMO.id}/model.onnx%00.txt`, '', { status: 404, problem: /./ }],
    [
      `GET /models/${DEMO.id}/model.onnx%0d%0aset-cookie:%20a=b`,
      '',
      { status: 404, problem: /./, fields: { 'set-cookie': undefined } },
    ],
    [`GET //models/${DEMO.id}/model.onnx`, '', { status: 404, problem: /./ }],
    [`GET /MODELS/${DEMO.id}/model.onnx`, '', { status: 404, problem: /./ }],
    [`GET /models/${'a'.repeat(5000)}/model.onnx`, '', { status: 404, problem: /./ }],
    [
      'GET /.segments/bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu/0',
      '',
      { status: 404, problem: /./ },
    ],
  ],
};

describe('exchanges with the edge', () => {
  /** @type {Awaited<ReturnType<typeof startStack>>} */
  let stack;
  before(async () => {
    stack = await startStack();
    await stack.publish();
  });
  after(() => stack?.stop());

  for (const [group, rows] of Object.entries(EXCHANGES)) {
    describe(group, () => {
      for (const [line, fields, expected] of rows) {
        test(`${line.slice(0, 100)} ${fields.slice(0, 100).replaceAll('\r\n', ', ')}`, async () => {
          const { host } = new URL(stack.urls.edge);
          const answer = await exchange(
            stack.urls.edge,
            [
              `${line} HTTP/1.1`,
              `host: ${host}`,
              'connection: close',
              ...(fields ? [fields] : []),
            ].join('\r\n'),
          );
          const body = whole(answer);
          assert.equal(answer.status, expected.status, body.subarray(0, 500).toString());
          if (expected.problem) {
            assert.equal(answer.fields['content-type'], 'application/problem+json');
            const { status, detail } = JSON.parse(body.toString());
            assert.equal(status, expected.status);
            assert.match(detail, expected.problem);
          }
          if (expected.body !== undefined)
            assert.ok(
              body.equals(Buffer.from(expected.body)),
              `${body.length} bytes instead of ${expected.body.length}`,
            );
          for (const [name, value] of Object.entries(expected.fields ?? {})) {
            if (value instanceof RegExp) assert.match(answer.fields[name] ?? '', value, name);
            else assert.equal(answer.fields[name], value, name);
          }
        });
      }
    });
  }
});
