// The whole system on one machine: bucket (fake-gcs-server), IPFS node, edge (workerd), the demo
// page, and a fault proxy before each of the first three. `make serve` runs it as a program; tests
// import `startStack`.

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

/** The model that `publish()` publishes by default. */
export const DEMO = {
  dir: join(ROOT, '.tools/models/minilm-l6-v2-q8'),
  id: 'minilm-l6-v2-q8',
  version: '1.1.0',
  type: 'embedding',
  name: 'all-MiniLM-L6-v2, int8',
  license: 'Apache-2.0',
  // As in manifests/minilm-l6-v2-q8.json, which is bundled with the edge.
  timestamp: '2026-11-24T00:00:00Z',
};

/** The development key, which is public. */
export const KEY = { id: 'development', pem: join(ROOT, 'dev/development-key.pem') };

/**
 * What `publish()` publishes.
 * @typedef {object} Model
 * @property {string} dir
 * @property {string} id
 * @property {string} version
 * @property {string} type
 * @property {string} [name]
 * @property {string} [license]
 * @property {string} [timestamp]
 * @property {string} [registry]
 * @property {typeof KEY} [key]
 */

/** Pinned keys of the development configuration: keyId → base64 of the raw public key. */
export const KEYS = {
  [KEY.id]: Buffer.from(
    createPublicKey(readFileSync(KEY.pem)).export({ format: 'jwk' }).x,
    'base64url',
  ).toString('base64'),
};

/**
 * Starts all parts and resolves when they respond. When one fails, stops the others and rejects.
 *
 * @param {object} [options]
 * @param {number} [options.web] port of the page; 0, for each port: a free one
 * @param {number} [options.edge]
 * @param {number} [options.gcs]
 * @param {number} [options.ipfs]
 * @param {string} [options.pages] a folder of pages to serve in addition to `web/`
 * @param {Record<string, string | object>} [options.vars] more variables and bindings of the edge
 * @param {Record<string, string> | null} [options.inference] more variables of the inference
 *   worker; null: it does not run
 * @param {string} [options.dataDir] folder of objects, blocks, caches and logs; by default a
 *   temporary one, removed by `stop`
 * @param {(line: string) => void} [options.log] called with lines of progress
 * @param {AbortSignal} [options.signal] aborts the start
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
  /** @type {System} */
  const system = {
    data,
    urls: {},
    ports: { web, edge, gcs, ipfs },
    running: { gcs: [], ipfs: [], edge: [], page: [] },
    giveUp,
    log,
  };
  const start = {
    gcs: () => startBucket(system),
    ipfs: () => startIpfsNode(system),
    edge: () => startEdge(system, vars, inference),
    page: () => startPage(system, pages),
  };

  const stack = {
    /**
     * `page`; `edge`; `gcs` and `ipfs`, base URLs of artifacts; `edgeFault`, `gcsFault`,
     * `ipfsFault`: see faults.mjs.
     */
    urls: system.urls,
    /** The folder of objects, blocks, caches and logs. */
    dataDir: data,
    startEdge: start.edge,
    startGcs: start.gcs,
    startIpfs: start.ipfs,
    stopEdge: () => stopPart(system, 'edge'),
    stopGcs: () => stopPart(system, 'gcs'),
    stopIpfs: () => stopPart(system, 'ipfs'),
    ...registryFaults(data),

    /**
     * Publishes a folder to bucket and IPFS node with the command line tool; resolves to its
     * output.
     * @param {Model} [model]
     */
    publish: (model = DEMO) => publish(system, model),

    /** Stops all parts. */
    async stop() {
      await Promise.all(Object.keys(system.running).map((part) => stopPart(system, part)));
      if (!dataDir) await rm(data, { recursive: true, force: true, maxRetries: 3 });
    },
  };

  try {
    log('starting the bucket and the IPFS node');
    await startAll([start.gcs, start.ipfs], giveUp);
    log('starting the edge');
    await startAll([start.edge, start.page], giveUp);
  } catch (error) {
    await stack.stop();
    throw error;
  }
  return stack;
}

/**
 * What the parts of a stack share.
 * @typedef {object} System
 * @property {string} data the folder of objects, blocks, caches and logs
 * @property {Record<string, string>} urls filled by the parts as they start
 * @property {Record<string, number>} ports the port of each part, which stays the same over
 *   restarts
 * @property {Record<string, (() => Promise<void>)[]>} running the functions that stop each running
 *   part
 * @property {AbortController} giveUp aborts the start
 * @property {(line: string) => void} log
 */

/**
 * Calls functions that start parts concurrently. When one fails, aborts the others and waits for
 * them: a part that is starting cannot be stopped.
 */
const startAll = (starts, giveUp) =>
  Promise.allSettled(
    starts.map((start) => start().catch((error) => giveUp.abort(error))),
  ).then(() => giveUp.signal.throwIfAborted());

/** Calls the functions that stop a part, each of them once. */
const stopPart = ({ running }, part) =>
  Promise.all(running[part].splice(0).map((stopOne) => stopOne()));

/** Serves `handler` on the port of `part`. */
async function serve({ ports }, part, handler, setting) {
  const server = await listen(handler, ports[part], setting);
  ports[part] = server.port;
  return server;
}

/** Starts a program that stops with `part`. */
function runProgram({ data, running, log }, part, command, env) {
  const child = startProgram(command, {
    cwd: ROOT,
    env,
    log: join(data, `${part}.log`),
    died: log,
  });
  running[part].push(child.stop);
  return child;
}

async function startBucket(system) {
  const { data, urls, running, giveUp } = system;
  const inner = await freePort();
  // A real bucket's CORS configuration exposes header fields to pages; the emulator has none.
  const cors = {
    'access-control-expose-headers': 'Accept-Ranges, Content-Length, Content-Range, ETag',
  };
  const proxy = await serve(system, 'gcs', faultyProxy(`http://${HOST}:${inner}`, cors), 'GCS_PORT');
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
  const emulator = runProgram(system, 'gcs', [
    join(ROOT, '.tools/bin/fake-gcs-server'),
    ...flags(options),
  ]);
  await emulator.answers(`http://${HOST}:${inner}/storage/v1/b`, giveUp.signal);
  urls.gcs = `http://${HOST}:${proxy.port}/${BUCKET}`;
  urls.gcsFault = `http://${HOST}:${proxy.port}/__fault`;
}

async function startIpfsNode(system) {
  const { data, urls, running } = system;
  const node = await listen(await ipfsNode(join(data, 'ipfs')), 0);
  running.ipfs.push(node.stop);
  const proxy = await serve(system, 'ipfs', faultyProxy(`http://${HOST}:${node.port}`), 'IPFS_PORT');
  running.ipfs.push(proxy.stop);
  urls.ipfs = `http://${HOST}:${proxy.port}/ipfs/`;
  urls.ipfsFault = `http://${HOST}:${proxy.port}/__fault`;
}

/** Needs the addresses of the bucket and the IPFS node; both may be stopped. */
async function startEdge(system, vars, inference) {
  const { data, urls, running, giveUp } = system;
  const inner = await freePort();
  const proxy = await serve(system, 'edge', faultyProxy(`http://${HOST}:${inner}`), 'EDGE_PORT');
  running.edge.push(proxy.stop);
  const variables = {
    GCS_BASE: urls.gcs,
    IPFS_GATEWAYS: urls.ipfs,
    PINNED_KEYS: JSON.stringify(KEYS),
    ...vars,
  };
  const command = workers({ port: inner, persist: join(data, 'edge'), variables, inference });
  const worker = runProgram(system, 'edge', command, {
    WRANGLER_SEND_METRICS: 'false',
    WRANGLER_LOG_PATH: join(data, 'wrangler'),
    CLOUDFLARE_CF_FETCH_ENABLED: 'false',
  });
  await worker.answers(`http://${HOST}:${inner}/`, giveUp.signal);
  urls.edge = `http://${HOST}:${proxy.port}`;
  urls.edgeFault = `http://${HOST}:${proxy.port}/__fault`;
}

/**
 * Serves `web/`, and the files of `web/dist/` at the root too, where the service worker's scope is
 * the root.
 */
async function startPage(system, pages) {
  const { urls, running } = system;
  const folders = ['web', 'web/dist', ...(pages ? [pages] : [])];
  const options = { dev: true, etag: true }; // read for each request, `Cache-Control: no-cache`
  const files = folders.map((folder) => sirv(resolve(ROOT, folder), options));
  const page = await serve(system, 'web', pageHandler(files, urls), 'PORT');
  running.page.push(page.stop);
  urls.page = `http://${HOST}:${page.port}/`;
}

/** Functions that break and repair the registry's database, which is in the folder `data`. */
function registryFaults(data) {
  const folder = join(data, 'edge/v3/d1/miniflare-D1DatabaseObject');
  const aside = join(data, 'registry');
  /**
   * The files of the database and its log. Not metadata.sqlite: without it workerd does not start.
   */
  const files = async () =>
    (await readdir(folder)).filter((name) => /^[0-9a-f]{64}\.sqlite/.test(name));

  return {
    /**
     * Breaks the registry's database: all D1 queries fail. The edge has to be stopped meanwhile.
     */
    async breakRegistry() {
      await cp(folder, aside, { recursive: true });
      for (const name of await files())
        await writeFile(join(folder, name), 'not a database'.repeat(1000));
    },
    /** Repairs the database. */
    async mendRegistry() {
      await rm(folder, { recursive: true });
      await rename(aside, folder);
    },
  };
}

/** `publish()` of the stack. */
async function publish({ urls, giveUp }, model) {
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
}

/** `{name: value}` as command line options. */
const flags = (options) => Object.entries(options).map(([name, value]) => `--${name}=${value}`);

/**
 * Serves files of the first folder that has them, and `/dev.json` with the addresses for the page.
 */
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

/**
 * Serves `handler` on `port`; 0: a free one. `setting` is the option to change when the port is in
 * use.
 */
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

/** A free port. */
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
      await stack.publish({ ...DEMO, registry: stack.urls.edge });
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
