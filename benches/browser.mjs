// Compares ways of loading artifacts in one Chromium: `make bench`. Prints the tables of
// benches/README.md. Each round runs every way once, in another order; a figure is the median of
// the rounds, a ratio the median of the rounds' ratios.

import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  writeSync,
  readFileSync,
  copyFileSync,
} from 'node:fs';
import http from 'node:http';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import puppeteer from 'puppeteer-core';
import { ipfsNode } from '../dev/ipfs-gateway.mjs';
import { KEY, KEYS } from '../dev/stack.mjs';
import { median } from './median.mjs';
import { serveFolders } from './origin.mjs';
import { ofTree } from './processor.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    sizes: { type: 'string', default: '23,256,1024' },
    only: { type: 'string' },
  },
});
const ROUNDS = Number(values.rounds);
const SIZES = values.sizes.split(',').map(Number);
const GIGABIT = 125_000_000;
const CLI = 'target/release/edge-net-models';
const MB = 1_000_000;
/**
 * The wait before each cold load, in milliseconds, so that earlier work is done: artifacts are
 * packed after 2 s.
 */
const REST = 3000;

const folder = mkdtempSync(join(tmpdir(), 'edge-net-bench-'));
const stops = [() => rmSync(folder, { recursive: true, force: true })];

/** Writes an artifact of random bytes and its signed manifest. */
function publish(size) {
  const id = `random-${size}`;
  const [draft, version] = [join(folder, 'draft', id), join(folder, 'data/models', id, 'v1.0.0')];
  for (const dir of [draft, version]) mkdirSync(dir, { recursive: true });
  const file = openSync(join(draft, 'model.bin'), 'w');
  const bytes = size === 23 ? 22_928_619 : size * 1_048_576;
  const block = Buffer.alloc(8 * 1_048_576);
  for (let left = bytes; left > 0; left -= block.length)
    writeSync(file, randomFillSync(block), 0, Math.min(left, block.length));
  closeSync(file);
  const flags = {
    id,
    version: '1.0.0',
    type: 'embedding',
    key: KEY.pem,
    'key-id': KEY.id,
    out: version,
  };
  execFileSync(
    CLI,
    [
      'publish',
      draft,
      '--dry-run',
      ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`),
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  renameSync(join(draft, 'model.bin'), join(version, 'model.bin'));
  copyFileSync(join(version, 'manifest.json'), join(version, '../manifest.json'));
  const { cid } = Object.values(
    JSON.parse(readFileSync(join(version, 'manifest.json'), 'utf8')).artifacts,
  )[0];
  return {
    id,
    size: bytes,
    cid,
    path: `/models/${id}/v1.0.0/model.bin`,
    file: join(version, 'model.bin'),
  };
}

/** Serves the block store that Helia reads. */
async function gateway(file) {
  const server = http.createServer(await ipfsNode(join(folder, 'blocks'))).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  stops.push(() => (server.closeAllConnections(), server.close()));
  const url = `http://127.0.0.1:${server.address().port}`;
  const form = new FormData();
  form.append('file', new Blob([readFileSync(file)]));
  const added = await fetch(`${url}/api/v0/add?cid-version=1&raw-leaves=true&chunker=size-262144`, {
    method: 'POST',
    body: form,
  });
  if (!added.ok) throw new Error(await added.text());
  return url;
}

/** A page with its own origin for each way, so that they share no storage. */
async function open(context, way, options) {
  const origin = await serveFolders(['benches/pages', `${folder}/built`, 'web', 'web/dist']);
  stops.push(origin.stop);
  const page = await context.newPage();
  page.on('pageerror', (error) => console.error(`${way}: ${error.message}`));
  await page.goto(`${origin.url}/index.html`);
  await page.waitForFunction(() => 'bench' in globalThis);
  await page.evaluate(([way, options]) => bench.start(way, options), [way, options]);
  const endWorker = async () => {
    const session = await page.createCDPSession();
    await session.send('ServiceWorker.enable');
    await session.send('ServiceWorker.stopAllWorkers');
    await session.detach();
  };
  return { way, page, endWorker };
}

/** Times by `what`, then by way, one number for each round. */
const times = {};
const note = (what, way, ms) => ((times[what] ??= {})[way] ??= []).push(ms);

/** CPU time of all processes of the browser by `what`, then by way, in milliseconds. */
const costs = {};

async function compare(context, artifact, data, ways, options, label) {
  const browser = context.process().pid;
  const pages = [];
  for (const way of ways)
    pages.push(await open(context, way, { edge: data, keys: KEYS, ...options }));
  const target = { ...artifact, url: `${data}${artifact.path}` };
  for (let round = 0; round < ROUNDS; round++) {
    for (let turn = 0; turn < pages.length; turn++) {
      const { way, page, endWorker } = pages[(turn + round) % pages.length];
      // In the foreground, as for a waiting user: browsers throttle background pages.
      await page.bringToFront();
      const ask = (what, ...rest) =>
        page.evaluate(([what, rest]) => bench[what](...rest), [what, rest]);
      await ask('clear');
      await new Promise((resolve) => setTimeout(resolve, REST));
      if (way !== 'cache.match') {
        const before = ofTree(browser);
        const { read, stored } = await ask('cold', target);
        // What it does later is part of the price.
        await new Promise((resolve) => setTimeout(resolve, REST));
        note(`cold, read${label}`, way, read);
        note(`cold, read and kept${label}`, way, stored);
        ((costs[`cold, read and kept${label}`] ??= {})[way] ??= []).push(ofTree(browser) - before);
      }
      if (label || way === 'native' || way === 'helia') continue;
      await ask('fill', target);
      if (way === 'ours') {
        await endWorker();
        note('warm, a new worker: verified again', way, await ask('warm', target));
      }
      for (let i = 0; i < 3; i++) note('warm', way, await ask('warm', target));
      if (way === 'transformers.js') continue;
      for (let i = 0; i < 5; i++) {
        const start = Math.floor(Math.random() * (artifact.size - 1_048_576));
        note('warm, 1 MiB of it', way, await ask('range', target, [start, start + 1_048_576]));
      }
    }
  }
  for (const { page } of pages) {
    await page.evaluate(() => bench.clear());
    await page.close();
  }
}

/** A table: medians in ms, MB/s and CPU time, and the ratio of speeds. */
function table(artifact) {
  for (const [what, byWay] of Object.entries(times)) {
    const bytes = what.includes('1 MiB') ? 1_048_576 : artifact.size;
    const ours = median(byWay.ours ?? [NaN]);
    for (const [way, all] of Object.entries(byWay)) {
      const ratio = way === 'ours' ? '' : `${(median(all) / ours).toFixed(2)}×`;
      const ms = median(all);
      const cost = costs[what]?.[way];
      const cpu = cost ? (median(cost) / (bytes / MB)).toFixed(2) : '';
      const cells = [ms.toFixed(0), (bytes / ms / 1000).toFixed(0), cpu, ratio].join(' | ');
      console.log(`| ${(artifact.size / MB).toFixed(0)} MB | ${what} | ${way} | ${cells} |`);
    }
    delete times[what];
    delete costs[what];
  }
}

/** The largest heaps of page and worker while an artifact is streamed, in MB. */
async function heap(context, artifact, data) {
  const { page } = await open(context, 'ours', { edge: data, keys: KEYS });
  const cdp = await context.target().createCDPSession();
  const peak = {};
  let watching = true;
  const watch = async (name, session) => {
    while (watching) {
      const usage = await session.send('Runtime.getHeapUsage').catch(() => undefined);
      if (usage) {
        peak[`${name}, JS heap`] = Math.max(peak[`${name}, JS heap`] ?? 0, usage.usedSize);
        peak[`${name}, with buffers`] = Math.max(
          peak[`${name}, with buffers`] ?? 0,
          usage.usedSize + (usage.backingStorageSize ?? 0),
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const sessions = [['page', await page.createCDPSession()]];
  const { targetInfos } = await cdp.send('Target.getTargets');
  const target = targetInfos.find(
    ({ type, url }) => type === 'service_worker' && url.startsWith(new URL(page.url()).origin),
  );
  const { sessionId } = await cdp.send('Target.attachToTarget', {
    targetId: target.targetId,
    flatten: false,
  });
  let id = 0;
  const answers = new Map();
  cdp.on('Target.receivedMessageFromTarget', ({ message }) => {
    const { id, result } = JSON.parse(message);
    answers.get(id)?.(result);
  });
  const send = (method) =>
    new Promise(
      (resolve) => (
        answers.set(++id, resolve),
        cdp.send('Target.sendMessageToTarget', {
          sessionId,
          message: JSON.stringify({ id, method }),
        })
      ),
    );
  sessions.push(['worker', { send }]);
  const watches = sessions.map(([name, session]) => watch(name, session));
  await page.evaluate((target) => bench.cold(target), {
    ...artifact,
    url: `${data}${artifact.path}`,
  });
  watching = false;
  await Promise.all(watches);
  for (const [what, bytes] of Object.entries(peak))
    console.log(
      `| ${(artifact.size / MB).toFixed(0)} MB | ${what} | ${(bytes / MB).toFixed(0)} MB |`,
    );
}

try {
  const bundle = (entry, outfile) =>
    build({
      ...entry,
      bundle: true,
      minify: true,
      outfile: `${folder}/built/${outfile}`,
      logLevel: 'error',
      define: { 'process.env.NODE_ENV': '"production"' },
    });
  await bundle({ entryPoints: ['benches/workbox.js'], format: 'iife' }, 'workbox.js');
  await bundle(
    {
      stdin: {
        contents: `export { createVerifiedFetch } from '@helia/verified-fetch'`,
        resolveDir: 'benches',
      },
      format: 'esm',
      platform: 'browser',
    },
    'helia.js',
  );
  const artifacts = SIZES.map(publish);
  const fast = await serveFolders([`${folder}/data`]);
  const shaped = await serveFolders([`${folder}/data`], GIGABIT);
  stops.push(fast.stop, shaped.stop);
  const executablePath = execFileSync('sh', ['-c', 'command -v chromium'], {
    encoding: 'utf8',
  }).trim();
  // Without network instrumentation: reporting each packet to a debugger costs more than some of
  // the work measured.
  const args = [
    '--no-sandbox',
    '--disable-gpu',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-sync',
  ];
  const browser = await puppeteer.launch({
    executablePath,
    headless: true,
    networkEnabled: false,
    userDataDir: join(folder, 'profile'),
    protocolTimeout: 600_000,
    args,
  });
  stops.push(() => browser.close());
  console.log(
    `${await browser.version()}, Node ${process.version}, ${cpus().length} × ${cpus()[0].model}, ` +
      `${ROUNDS} rounds\n`,
  );
  console.log('| artifact | what | way | median, ms | MB/s | CPU, ms a MB | ours is |');
  console.log('|---|---|---|---|---|---|---|');
  const only = (ways) =>
    ways.filter((way) => way === 'ours' || !values.only || values.only.split(',').includes(way));
  for (const artifact of artifacts) {
    const ways = only([
      'ours',
      'workbox',
      'cache.match',
      'native',
      'transformers.js',
      ...(artifact.size < 100 * MB ? ['helia'] : []),
    ]);
    const gate = ways.includes('helia') ? await gateway(artifact.file) : undefined;
    await compare(browser, artifact, fast.url, ways, { gateway: gate }, '');
    await compare(
      browser,
      artifact,
      shaped.url,
      only(['ours', 'workbox', 'native']),
      {},
      ', at 1 Gbit/s',
    );
    table(artifact);
  }
  console.log('\n| artifact | peak while it is streamed, cold | |\n|---|---|---|');
  await heap(browser, artifacts.at(-1), fast.url);
} finally {
  for (const stop of stops.reverse()) await stop();
}
