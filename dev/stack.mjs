// The whole system on one machine: bucket (fake-gcs-server), IPFS node, edge (workerd), the demo page, and a faulty proxy
// before each of the first three. Run as a program it is `make serve`; tests import `startStack`.

import { execFile } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import sirv from 'sirv';
import { faultyProxy } from './faults.mjs';
import { ipfsNode } from './ipfs-gateway.mjs';
import { startProgram } from './program.mjs';
import { workers } from './workers.mjs';

const HOST = '127.0.0.1';
const BUCKET = 'edge-net-models';
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CLI = join(ROOT, 'target/release/edge-net-models');

/** The model that `publish()` publishes unless told otherwise. */
export const DEMO = {
  dir: join(ROOT, '.tools/models/minilm-l6-v2-q8'),
  id: 'minilm-l6-v2-q8',
  version: '1.1.0',
  type: 'embedding',
  name: 'all-MiniLM-L6-v2, int8',
  license: 'Apache-2.0',
  timestamp: '2026-11-24T00:00:00Z', // of manifests/minilm-l6-v2-q8.json, which is bundled with the edge
};

/** The development key: everyone has it. */
export const KEY = { id: 'development', pem: join(ROOT, 'dev/development-key.pem') };

/** Pinned keys of the development configuration: keyId → base64 of the raw public key. */
export const KEYS = {
  [KEY.id]: Buffer.from(
    createPublicKey(readFileSync(KEY.pem)).export({ format: 'jwk' }).x,
    'base64url',
  ).toString('base64'),
};

/**
 * Starts everything and resolves when all of it answers; when something fails, stops what runs and rejects.
 *
 * @param {object} [options]
 * @param {number} [options.web] port of the page; for each port 0 takes a free one
 * @param {number} [options.edge]
 * @param {number} [options.gcs]
 * @param {number} [options.ipfs]
 * @param {string} [options.pages] a folder of pages to serve besides `web/`
 * @param {Record<string, string | object>} [options.vars] variables of the edge worker besides the addresses and keys, and other bindings
 * @param {Record<string, string> | null} [options.inference] variables of the worker that embeds, besides the keys; null leaves it out
 * @param {string} [options.dataDir] where objects, blocks, caches and logs go; a temporary folder, removed by `stop`, if not given
 * @param {(line: string) => void} [options.log] told of progress
 * @param {AbortSignal} [options.signal] gives up starting
 */
export async function startStack({
  web = 0,
  edge = 0,
  gcs = 0,
  ipfs = 0,
  pages,
  vars,
  inference,
  dataDir,
  log = () => {},
  signal,
} = {}) {
  const giveUp = new AbortController();
  signal?.addEventListener('abort', () => giveUp.abort(signal.reason));
  const data = dataDir ?? (await mkdtemp(join(tmpdir(), 'edge-net-')));
  const urls = {};
  /** Ports by part, kept when it is stopped and started again. */
  const ports = { web, edge, gcs, ipfs };
  /** How to stop what runs, by part. */
  const running = { gcs: [], ipfs: [], edge: [], page: [] };

  /** Serves `handler` on the port of `part`, which it keeps. */
  const serve = async (part, handler, setting) => {
    const server = await listen(handler, ports[part], setting);
    ports[part] = server.port;
    return server;
  };
  const program = (part, command, env) => {
    const child = startProgram(command, {
      cwd: ROOT,
      env,
      log: join(data, `${part}.log`),
      died: log,
    });
    running[part].push(child.stop);
    return child;
  };

  const start = {
    async gcs() {
      const inner = await freePort();
      // A real bucket's CORS configuration says which header fields pages may read; the emulator has none.
      const cors = {
        'access-control-expose-headers': 'Accept-Ranges, Content-Length, Content-Range, ETag',
      };
      const proxy = await serve('gcs', faultyProxy(`http://${HOST}:${inner}`, cors), 'GCS_PORT');
      running.gcs.push(proxy.stop);
      await mkdir(join(data, 'gcs', BUCKET), { recursive: true }); // a folder is a bucket
      const options = {
        scheme: 'http',
        host: HOST,
        port: inner,
        'public-host': `${HOST}:${proxy.port}`,
        'external-url': `http://${HOST}:${proxy.port}`,
        backend: 'filesystem',
        'filesystem-root': join(data, 'gcs'),
        'log-level': 'warn',
      };
      const emulator = program('gcs', [
        join(ROOT, '.tools/bin/fake-gcs-server'),
        ...flags(options),
      ]);
      await emulator.answers(`http://${HOST}:${inner}/storage/v1/b`, giveUp.signal);
      urls.gcs = `http://${HOST}:${proxy.port}/${BUCKET}`;
      urls.gcsFault = `http://${HOST}:${proxy.port}/__fault`;
    },

    async ipfs() {
      const node = await listen(await ipfsNode(join(data, 'ipfs')), 0);
      running.ipfs.push(node.stop);
      const proxy = await serve('ipfs', faultyProxy(`http://${HOST}:${node.port}`), 'IPFS_PORT');
      running.ipfs.push(proxy.stop);
      urls.ipfs = `http://${HOST}:${proxy.port}/ipfs/`;
      urls.ipfsFault = `http://${HOST}:${proxy.port}/__fault`;
    },

    /** Needs the addresses of bucket and IPFS node, which may be stopped. */
    async edge() {
      const inner = await freePort();
      const proxy = await serve('edge', faultyProxy(`http://${HOST}:${inner}`), 'EDGE_PORT');
      running.edge.push(proxy.stop);
      const variables = {
        GCS_BASE: urls.gcs,
        IPFS_GATEWAYS: urls.ipfs,
        PINNED_KEYS: JSON.stringify(KEYS),
        ...vars,
      };
      const command = workers({ port: inner, persist: join(data, 'edge'), variables, inference });
      const worker = program('edge', command, {
        WRANGLER_SEND_METRICS: 'false',
        WRANGLER_LOG_PATH: join(data, 'wrangler'),
        CLOUDFLARE_CF_FETCH_ENABLED: 'false',
      });
      await worker.answers(`http://${HOST}:${inner}/`, giveUp.signal);
      urls.edge = `http://${HOST}:${proxy.port}`;
      urls.edgeFault = `http://${HOST}:${proxy.port}/__fault`;
    },

    /** `web/`, and what is built in `web/dist/` at the root too: there the service worker's script has the root as its scope. */
    async page() {
      const folders = ['web', 'web/dist', ...(pages ? [pages] : [])];
      const options = { dev: true, etag: true }; // read anew each time, `Cache-Control: no-cache`
      const files = folders.map((folder) => sirv(resolve(ROOT, folder), options));
      const page = await serve('web', pageHandler(files, urls), 'PORT');
      running.page.push(page.stop);
      urls.page = `http://${HOST}:${page.port}/`;
    },
  };

  const stop = (part) => Promise.all(running[part].splice(0).map((stopOne) => stopOne()));

  const registry = {
    folder: join(data, 'edge/v3/d1/miniflare-D1DatabaseObject'),
    aside: join(data, 'registry'),
    /** Those of the database, with its log; without metadata.sqlite, which is not it, workerd would not start. */
    files: async () =>
      (await readdir(registry.folder)).filter((name) => /^[0-9a-f]{64}\.sqlite/.test(name)),
  };

  const stack = {
    /** `page`; `edge`; `gcs` and `ipfs`, the bases that artifacts are fetched from; `edgeFault`, `gcsFault`, `ipfsFault`: see faults.mjs. */
    urls,
    /** Where objects, blocks, caches and logs are. */
    dataDir: data,
    startEdge: start.edge,
    startGcs: start.gcs,
    startIpfs: start.ipfs,
    stopEdge: () => stop('edge'),
    stopGcs: () => stop('gcs'),
    stopIpfs: () => stop('ipfs'),

    /** Spoils the registry's database: D1 then fails whatever it is asked. The edge has to be stopped meanwhile. */
    async breakRegistry() {
      await cp(registry.folder, registry.aside, { recursive: true });
      for (const name of await registry.files())
        await writeFile(join(registry.folder, name), 'not a database'.repeat(1000));
    },
    /** Undoes that. */
    async mendRegistry() {
      await rm(registry.folder, { recursive: true });
      await rename(registry.aside, registry.folder);
    },

    /**
     * Publishes a folder to bucket and IPFS node with the real command line tool, and resolves to what that printed.
     * @param {{dir: string, id: string, version: string, type: string, name?: string, license?: string, timestamp?: string, registry?: string, key?: typeof KEY}} [model]
     */
    async publish(model = DEMO) {
      const { dir, key, ...described } = { key: KEY, ...model };
      if (!existsSync(CLI)) throw new Error(`${CLI} is not there; build it: make cli`);
      const signed = { ...described, key: key.pem, 'key-id': key.id };
      const targets = {
        bucket: BUCKET,
        'gcs-endpoint': new URL(urls.gcs).origin,
        'ipfs-api': new URL(urls.ipfs).origin,
      };
      const command = ['publish', dir, ...flags({ ...signed, ...targets })];
      const { stdout } = await promisify(execFile)(CLI, command, { signal: giveUp.signal });
      return stdout;
    },

    /** Stops everything; nothing is left running. */
    async stop() {
      await Promise.all(Object.keys(running).map(stop));
      if (!dataDir) await rm(data, { recursive: true, force: true, maxRetries: 3 });
    },
  };

  /** Starts parts side by side. When one fails the others are given up, and waited for: what is half started cannot be stopped. */
  const startAll = (...parts) =>
    Promise.allSettled(
      parts.map((part) => start[part]().catch((error) => giveUp.abort(error))),
    ).then(() => giveUp.signal.throwIfAborted());
  try {
    log('starting the bucket and the IPFS node');
    await startAll('gcs', 'ipfs');
    log('starting the edge');
    await startAll('edge', 'page');
  } catch (error) {
    await stack.stop();
    throw error;
  }
  return stack;
}

/** `{name: value}` as command line options. */
const flags = (options) => Object.entries(options).map(([name, value]) => `--${name}=${value}`);

/** Files of the first folder that has them; and `/dev.json`, which tells the page where everything is. */
function pageHandler(folders, urls) {
  return (request, response) => {
    if (request.url !== '/dev.json') {
      const missing = () => response.writeHead(404).end();
      return folders.reduceRight(
        (next, folder) => () => folder(request, response, next),
        missing,
      )();
    }
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' });
    response.end(JSON.stringify({ ...urls, page: undefined, ipfs: [urls.ipfs], keys: KEYS }));
  };
}

/** Serves `handler` on `port`, or a free one for 0. `setting` is what to change when the port is taken. */
async function listen(handler, port, setting) {
  const server = http.createServer(handler).listen(port, HOST);
  try {
    await once(server, 'listening');
  } catch (error) {
    if (error.code !== 'EADDRINUSE') throw error;
    throw new Error(`port ${port} is in use; choose another: make serve ${setting}=…`);
  }
  const stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { port: server.address().port, stop };
}

/** A port that nothing listens on now. */
export async function freePort() {
  const { port, stop } = await listen(() => {}, 0);
  await stop();
  return port;
}

/** Ports given on the command line: `--web 8080 --edge 8787 …`. */
function portsAsked() {
  const { values } = parseArgs({
    options: {
      web: { type: 'string' },
      edge: { type: 'string' },
      gcs: { type: 'string' },
      ipfs: { type: 'string' },
    },
  });
  for (const [part, value] of Object.entries(values)) {
    if (!/^\d+$/.test(value) || Number(value) > 65535)
      throw new Error(`the port of ${part} must be a number up to 65535, not ${value}`);
    values[part] = Number(value);
  }
  return values;
}

async function main() {
  const end = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => end.abort());
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || end.abort(), 250).unref(); // make was killed

  try {
    const stack = await startStack({ ...portsAsked(), log: console.log, signal: end.signal });
    try {
      console.log('publishing the demo model');
      await stack.publish();
      const { edge, gcs, ipfs, page } = stack.urls;
      console.log(`\nedge  ${edge}\ngcs   ${gcs}\nipfs  ${ipfs}\n\n  ${page}\n`);
      if (!end.signal.aborted) await once(end.signal, 'abort');
    } finally {
      await stack.stop();
    }
  } catch (error) {
    if (end.signal.aborted) return;
    console.error(`make serve: ${error.stderr || error.message}`);
    process.exitCode = 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
