// Compares ways of loading artifacts in one Chromium: `make bench`. Prints the tables of
// benches/README.md. Each round runs every way once, in another order; a figure is the median of
// the rounds, a ratio the median of the rounds' ratios.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ipfsNode } from '../dev/ipfs-gateway.mjs';
import { KEYS } from '../dev/stack.mjs';
import { publish } from './artifact.mjs';
import { median } from './median.mjs';
import { serveFolders } from './origin.mjs';
import { bundle, launch, open } from './pages.mjs';
import { limit, ofTree } from './processor.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    sizes: { type: 'string', default: '23,256,1024' },
    only: { type: 'string' },
    /** The browser gets one part in so many of the machine's processor time. */
    throttle: { type: 'string', default: '1' },
  },
});
const ROUNDS = Number(values.rounds);
const THROTTLE = Number(values.throttle);
const SIZES = values.sizes.split(',').map(Number);
const GIGABIT = 125_000_000;
const MB = 1_000_000;
/**
 * The wait before each cold load, in milliseconds, so that earlier work is done: artifacts are
 * packed after 2 s.
 */
const REST = 3000;

const folder = mkdtempSync(join(tmpdir(), 'edge-net-bench-'));
const stops = [() => rmSync(folder, { recursive: true, force: true })];

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

/** Times by `what`, then by way, one number for each round. */
const times = {};
const note = (what, way, ms) => ((times[what] ??= {})[way] ??= []).push(ms);

/** CPU time of all processes of the browser by `what`, then by way, in milliseconds. */
const costs = {};

async function compare(context, artifact, data, ways, options, label) {
  const browser = context.process().pid;
  const pages = [];
  for (const way of ways)
    pages.push(await open(context, folder, way, { edge: data, keys: KEYS, ...options }));
  const target = { ...artifact, url: `${data}${artifact.path}` };
  for (let round = 0; round < ROUNDS; round++) {
    for (let turn = 0; turn < pages.length; turn++) {
      const { way, page, ask, endWorker } = pages[(turn + round) % pages.length];
      // In the foreground, as for a waiting user: browsers throttle background pages.
      await page.bringToFront();
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
        note('all that is stored, verified again', way, await ask('verify', target));
      }
      for (let i = 0; i < 3; i++) note('warm', way, await ask('warm', target));
      if (way === 'transformers.js') continue;
      for (let i = 0; i < 5; i++) {
        const start = Math.floor(Math.random() * (artifact.size - 1_048_576));
        note('warm, 1 MiB of it', way, await ask('range', target, [start, start + 1_048_576]));
      }
    }
  }
  for (const { ask, close } of pages) {
    await ask('clear');
    await close();
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
  const { page, ask, close } = await open(context, folder, 'ours', { edge: data, keys: KEYS });
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
  await ask('cold', { ...artifact, url: `${data}${artifact.path}` });
  watching = false;
  await Promise.all(watches);
  await close();
  for (const [what, bytes] of Object.entries(peak))
    console.log(
      `| ${(artifact.size / MB).toFixed(0)} MB | ${what} | ${(bytes / MB).toFixed(0)} MB |`,
    );
}

try {
  await bundle(folder, { entryPoints: ['benches/workbox.js'], format: 'iife' }, 'workbox.js');
  await bundle(
    folder,
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
  const artifacts = SIZES.map((size) => publish(folder, size));
  const fast = await serveFolders([`${folder}/data`]);
  const shaped = await serveFolders([`${folder}/data`], GIGABIT);
  stops.push(fast.stop, shaped.stop);
  const browser = await launch(folder);
  const { pid } = browser.process();
  const unlimited = THROTTLE > 1 && limit(pid, cpus().length / THROTTLE);
  stops.push(async () => {
    await browser.close();
    if (unlimited) await unlimited();
  });
  console.log(
    `${await browser.version()}, Node ${process.version}, ${cpus().length} × ${cpus()[0].model}, ` +
      `${ROUNDS} rounds${THROTTLE > 1 ? `, 1/${THROTTLE} of the processor` : ''}\n`,
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
