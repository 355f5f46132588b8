// A small IPFS node for development: the reference UnixFS importer and exporter over a block store
// on disk. It implements the parts that the project uses of the path and trustless gateway
// specifications (https://specs.ipfs.tech/http-gateways/) and of kubo's RPC. It has no peers: only
// added blocks exist.

import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { CarWriter } from '@ipld/car';
import * as dagPb from '@ipld/dag-pb';
import { Busboy } from '@fastify/busboy';
import { FsBlockstore } from 'blockstore-fs';
import { exporter } from 'ipfs-unixfs-exporter';
import { importByteStream } from 'ipfs-unixfs-importer';
import { fixedSize } from 'ipfs-unixfs-importer/chunker';
import { balanced } from 'ipfs-unixfs-importer/layout';
import { CID } from 'multiformats/cid';

/** How kubo builds files by default with `--cid-version=1 --raw-leaves`. */
export const PROFILE = {
  cidVersion: 1,
  rawLeaves: true,
  chunker: fixedSize({ chunkSize: 262_144 }),
  layout: balanced({ maxChildrenPerNode: 174 }),
};
/** The same as query parameters of `/api/v0/add`. */
const PROFILE_QUERY = { 'cid-version': '1', 'raw-leaves': 'true', chunker: 'size-262144' };

const FORMATS = { raw: 'application/vnd.ipld.raw', car: 'application/vnd.ipld.car' };

const HEADERS = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': 'GET, HEAD, OPTIONS',
  'access-control-allow-headers': 'Accept, If-None-Match, Range',
  'access-control-expose-headers':
    'Accept-Ranges, Content-Length, Content-Range, Etag, X-Ipfs-Path, X-Ipfs-Roots',
  'cross-origin-resource-policy': 'cross-origin',
  'x-content-type-options': 'nosniff',
};

/** A request that is refused, with its HTTP status. */
class Refused extends Error {
  constructor(status, message, headers = {}) {
    super(message);
    Object.assign(this, { status, headers });
  }
}

/**
 * A request listener for `node:http`.
 * @param {string} directory the folder of the blocks; created if it does not exist
 */
export async function ipfsNode(directory) {
  const blocks = new FsBlockstore(directory);
  await blocks.open();

  return async (request, response) => {
    try {
      const url = new URL(request.url, 'http://node');
      if (url.pathname === '/api/v0/add') await add(blocks, url, request, response);
      else if (url.pathname.startsWith('/ipfs/')) await get(blocks, url, request, response);
      else throw new Refused(404, `nothing is at ${url.pathname}; /ipfs/{cid} and /api/v0/add are`);
    } catch (error) {
      // Cut off, so that it does not look complete.
      if (response.headersSent || response.destroyed) return response.destroy();
      if (error.name === 'NotFoundError')
        error = new Refused(404, `${request.url} needs a block that this node does not have`);
      const status = error.status ?? 500;
      response.writeHead(status, {
        ...HEADERS,
        ...error.headers,
        'content-type': 'application/problem+json',
      });
      response.end(
        JSON.stringify({
          status,
          title: status === 404 ? 'Not found' : 'Refused',
          detail: error.message,
        }),
      );
    }
  };
}

async function get(blocks, url, request, response) {
  if (request.method === 'OPTIONS') return response.writeHead(204, HEADERS).end();
  if (!['GET', 'HEAD'].includes(request.method))
    throw new Refused(405, `${request.method} is not answered here`, {
      allow: 'GET, HEAD, OPTIONS',
    });

  const { type, etag, size, content } = await representation(
    blocks,
    url,
    request.headers.accept ?? '',
  );
  const headers = {
    ...HEADERS,
    etag,
    vary: 'Accept',
    'cache-control': 'public, max-age=29030400, immutable',
    'x-ipfs-path': url.pathname,
    'x-ipfs-roots': url.pathname.split('/')[2],
  };
  const known = (request.headers['if-none-match'] ?? '').split(',').map((tag) => tag.trim());
  if (known.includes('*') || known.includes(etag)) return response.writeHead(304, headers).end();

  headers['content-type'] = type;
  let status = 200;
  let range = { start: 0, end: size };
  if (size !== undefined) {
    headers['accept-ranges'] = 'bytes';
    const mayBePart =
      request.method === 'GET' && [undefined, etag].includes(request.headers['if-range']);
    const asked = mayBePart ? parseRange(request.headers.range, size) : undefined;
    if (asked) {
      range = asked;
      status = 206;
      headers['content-range'] = `bytes ${range.start}-${range.end - 1}/${size}`;
    }
    headers['content-length'] = range.end - range.start;
  }
  response.writeHead(status, headers);
  if (request.method === 'HEAD') return response.end();
  await pipeline(content(range), response);
}

/**
 * The subject of a URL and an Accept header: a file, a block, or a DAG. `size` is undefined if
 * unknown.
 */
async function representation(blocks, url, accept) {
  const [, , text, ...path] = url.pathname.split('/');
  let cid;
  try {
    cid = CID.parse(text);
  } catch (error) {
    throw new Refused(400, `${text} is not a CID: ${error.message}`);
  }
  if (path.some((part) => part !== ''))
    throw new Refused(
      501,
      'paths below a CID are not answered here; ask for the file by its own CID',
    );

  const format =
    url.searchParams.get('format') ??
    Object.keys(FORMATS).find((name) => accept.includes(FORMATS[name]));
  if (format === 'raw') {
    const block = await buffer(blocks.get(cid));
    return {
      type: FORMATS.raw,
      etag: `"${cid}.raw"`,
      size: block.length,
      content: ({ start, end }) => [block.subarray(start, end)],
    };
  }
  if (format === 'car') {
    await buffer(blocks.get(cid)); // a 404 is still possible here
    return {
      type: `${FORMATS.car}; version=1; order=dfs; dups=n`,
      etag: `W/"${cid}.car"`,
      content: () => car(blocks, cid),
    };
  }
  if (format) throw new Refused(400, `format=${format} is not answered here; raw and car are`);

  const file = await exporter(cid, blocks);
  if (!['file', 'raw', 'identity'].includes(file.type))
    throw new Refused(501, `${cid} is a ${file.type}; only files are answered here`);
  return {
    type: 'application/octet-stream',
    etag: `"${cid}"`,
    size: Number(file.size),
    content: ({ start, end }) => file.content({ offset: start, length: end - start }),
  };
}

/**
 * A byte range (RFC 9110, section 14); undefined for none, or one that may be ignored (several
 * ranges, another unit). `end` is exclusive and clamped to the size.
 */
function parseRange(header, size) {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (!first && !last) return undefined;
  if (first && last && Number(last) < Number(first)) return undefined;
  const start = first ? Number(first) : Math.max(0, size - Number(last));
  const end = first && last ? Math.min(size, Number(last) + 1) : size;
  if (start >= end)
    throw new Refused(416, `${header} lies outside the ${size} bytes there are`, {
      'content-range': `bytes */${size}`,
    });
  return { start, end };
}

/** The DAG under `root` as a CARv1 file, depth first, each block once. */
function car(blocks, root) {
  const { writer, out } = CarWriter.create([root]);
  const stream = Readable.from(out);
  const seen = new Set();
  const write = async (cid) => {
    if (seen.has(cid.toString())) return;
    seen.add(cid.toString());
    const bytes = await buffer(blocks.get(cid));
    await writer.put({ cid, bytes });
    if (cid.code === dagPb.code)
      for (const link of dagPb.decode(bytes).Links) await write(link.Hash);
  };
  write(root)
    .then(() => writer.close())
    .catch((error) => stream.destroy(error));
  return stream;
}

/**
 * kubo's `POST /api/v0/add`: adds each file of a multipart/form-data body; responds with a line of
 * JSON for each.
 */
async function add(blocks, url, request, response) {
  if (request.method !== 'POST')
    throw new Refused(405, 'POST is what /api/v0/add answers', { allow: 'POST' });
  for (const [name, value] of Object.entries(PROFILE_QUERY)) {
    if (url.searchParams.get(name) !== value)
      throw new Refused(400, `${name} must be ${value}: this node makes one kind of DAG`);
  }
  let form;
  try {
    form = new Busboy({ headers: request.headers });
  } catch (error) {
    throw new Refused(400, `the body must be multipart/form-data: ${error.message}`);
  }
  const added = [];
  form.on('file', (field, content, name) => {
    const file = importByteStream(content, blocks, PROFILE).then(({ cid, size }) => ({
      Name: name || cid.toString(),
      Hash: cid.toString(),
      Size: size.toString(),
    }));
    file.catch(() => {}); // reported below
    added.push(file);
  });
  let files;
  try {
    await pipeline(request, form);
    files = await Promise.all(added);
  } catch (error) {
    throw new Refused(400, `the upload could not be read: ${error.message}`);
  }
  if (files.length === 0) throw new Refused(400, 'the form has no file in it');
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(files.map((file) => JSON.stringify(file) + '\n').join(''));
}
