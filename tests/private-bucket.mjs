// A bucket that accepts V4 signed URLs only: a proxy before the emulator, which accepts any
// request. It checks requests as specified
// (https://cloud.google.com/storage/docs/authentication/signatures). tests/gcs.rs compares
// signatures with those of Google's library.

import {
  createHash,
  createHmac,
  createVerify,
  generateKeyPairSync,
  randomBytes,
} from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';

const sha256 = (text) => createHash('sha256').update(text).digest('hex');
const hmac = (key, text) => createHmac('sha256', key).update(text).digest();

/**
 * @param {string} bucket  base URL of the bucket, which is public
 * @returns what the edge is told (`account`, `hmac`), `url`, the signed URLs that were asked for
 *   (`asked`), why others were refused (`refused`), and `late`: by how many milliseconds the
 *   bucket's clock is ahead.
 */
export async function privateBucket(bucket) {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const client_email = 'edge@project.iam.gserviceaccount.com';
  const account = {
    type: 'service_account',
    client_email,
    private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
  const hmacKey = { accessId: 'GOOG1EXAMPLE', secret: randomBytes(30).toString('base64') };
  const signers = { client_email, publicKey, hmacKey };
  const state = {
    account: JSON.stringify(account),
    hmac: hmacKey,
    asked: [],
    refused: [],
    late: 0,
    url: '',
  };
  const { pathname } = new URL(bucket);

  const server = http.createServer(async (request, response) => {
    const reason = await refusal(request, signers, Date.now() + state.late).catch(String);
    (reason ? state.refused : state.asked).push(
      reason ?? `${state.url.slice(0, -pathname.length)}${request.url}`,
    );
    if (reason)
      return response
        .writeHead(403, { 'content-type': 'application/xml' })
        .end(`<Error><Details>${reason}</Details></Error>`);
    const { pathname: path } = new URL(request.url, bucket);
    const { host, ...headers } = request.headers;
    http
      .get(new URL(path, bucket), { headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      })
      .on('error', () => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  state.url = `http://127.0.0.1:${server.address().port}${pathname}`;
  state.stop = () => (
    server.closeAllConnections(),
    new Promise((resolve) => server.close(resolve))
  );
  return state;
}

/**
 * The reason to refuse a request; `undefined` when it is accepted.
 * @param {http.IncomingMessage} request
 * @param {object} signers whose signatures are accepted: the owners of `hmacKey`, and of
 *   `publicKey` with the name `client_email`
 * @param {number} now the time of the bucket's clock
 */
async function refusal(request, { client_email, publicKey, hmacKey }, now) {
  const url = new URL(request.url, `http://${request.headers.host}`);
  const query = url.searchParams;
  const [algorithm, credential, date, expires, signed, signature] = [
    'Algorithm',
    'Credential',
    'Date',
    'Expires',
    'SignedHeaders',
    'Signature',
  ].map((part) => query.get(`X-Goog-${part}`));
  if (!signature) return 'it is not signed';
  if (signed !== 'host') return `signed headers ${signed}`;
  const from = Date.parse(date.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (!(now >= from - 15 * 60_000)) return `it is not valid before ${date}`;
  if (!(Number(expires) > 0 && Number(expires) <= 604_800 && now < from + Number(expires) * 1000))
    return `it expired ${expires} s after ${date}`;
  const scope = `${date.slice(0, 8)}/auto/storage/goog4_request`;
  const canonical = canonicalRequest(url, request.headers.host);
  const toSign = [algorithm, date, scope, sha256(canonical)].join('\n');
  if (algorithm === 'GOOG4-HMAC-SHA256') {
    if (credential !== `${hmacKey.accessId}/${scope}`) return `credential ${credential}`;
    const key = scope.split('/').reduce(hmac, `GOOG4${hmacKey.secret}`);
    return hmac(key, toSign).toString('hex') === signature ? undefined : 'its signature is wrong';
  }
  if (algorithm !== 'GOOG4-RSA-SHA256') return `algorithm ${algorithm}`;
  if (credential !== `${client_email}/${scope}`) return `credential ${credential}`;
  return createVerify('RSA-SHA256').update(toSign).verify(publicKey, signature, 'hex')
    ? undefined
    : 'its signature is wrong';
}

/** The canonical request, whose hash is signed. */
function canonicalRequest(url, host) {
  const query = url.search
    .slice(1)
    .split('&')
    .filter((part) => !part.startsWith('X-Goog-Signature='))
    .sort()
    .join('&');
  return ['GET', url.pathname, query, `host:${host}`, '', 'host', 'UNSIGNED-PAYLOAD'].join('\n');
}
