// Traces one cold load and prints where the processor's time goes, in milliseconds a megabyte by
// process, thread and task: `node benches/trace.mjs --way ours --size 64`. `--out FILE` keeps the
// trace, which https://ui.perfetto.dev shows: page, worker, network and browser on one clock.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { KEYS } from '../dev/stack.mjs';
import { publish } from './artifact.mjs';
import { serveFolders } from './origin.mjs';
import { bundle, launch, open } from './pages.mjs';
import { byRole } from './processor.mjs';

const { values } = parseArgs({
  options: {
    way: { type: 'string', default: 'ours' },
    size: { type: 'string', default: '64' },
    rate: { type: 'string', default: '0' },
    least: { type: 'string', default: '0.1' },
    out: { type: 'string' },
  },
});
const MB = 1_000_000;
const CATEGORIES = ['toplevel', 'blink.user_timing', 'ServiceWorker', 'CacheStorage', 'Blob'];

/** CPU time of the outermost tasks by process, thread and where they were posted, in ms. */
function costs(events) {
  const names = new Map();
  for (const { name, pid, tid, args } of events)
    if (name === 'process_name' || name === 'thread_name')
      names.set(name === 'process_name' ? pid : `${pid}/${tid}`, args.name);
  const threads = new Map();
  for (const event of events.filter(({ ph, tdur }) => ph === 'X' && tdur !== undefined)) {
    const key = `${event.pid}/${event.tid}`;
    if (!threads.has(key)) threads.set(key, []);
    threads.get(key).push(event);
  }
  const found = new Map();
  for (const [key, all] of threads) {
    let end = 0;
    for (const { ts, dur, tdur, name, args } of all.sort((a, b) => a.ts - b.ts || b.dur - a.dur)) {
      if (ts < end) continue; // inside of another
      end = ts + dur;
      const from = args?.src_func ?? args?.src?.function ?? name;
      const task = `${names.get(+key.split('/')[0])} | ${names.get(key) ?? key} | ${from}`;
      found.set(task, (found.get(task) ?? 0) + tdur / 1000);
    }
  }
  return found;
}

const folder = mkdtempSync(join(tmpdir(), 'edge-net-trace-'));
const artifact = publish(folder, Number(values.size));
const data = await serveFolders([`${folder}/data`], Number(values.rate));
const browser = await launch(folder);
try {
  await bundle(folder, { entryPoints: ['benches/workbox.js'], format: 'iife' }, 'workbox.js');
  const options = { edge: data.url, keys: KEYS };
  const { page, ask, close } = await open(browser, folder, values.way, options);
  await page.bringToFront();
  const target = { ...artifact, url: `${data.url}${artifact.path}` };
  // The first load compiles scripts.
  await ask('cold', target);
  await ask('clear');
  await new Promise((resolve) => setTimeout(resolve, 3000));
  await page.tracing.start({ categories: CATEGORIES });
  const before = byRole(browser.process().pid);
  const { read, stored } = await ask('cold', target);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const after = byRole(browser.process().pid);
  const trace = Buffer.from(await page.tracing.stop());
  await close();
  if (values.out) writeFileSync(values.out, trace);
  const { traceEvents } = JSON.parse(trace.toString());
  const [soon, late] = [read.toFixed(0), stored.toFixed(0)];
  console.log(`${values.way}: read after ${soon} ms, kept after ${late} ms`);
  const megabytes = artifact.size / MB;
  const rows = [...costs(traceEvents)].sort(([, a], [, b]) => b - a);
  const all = rows.reduce((sum, [, ms]) => sum + ms, 0);
  console.log('\n| process | thread | task posted by | CPU, ms a MB |\n|---|---|---|---|');
  for (const [task, ms] of rows.filter(([, ms]) => ms / megabytes >= Number(values.least)))
    console.log(`| ${task} | ${(ms / megabytes).toFixed(2)} |`);
  console.log(`| all tasks | | | ${(all / megabytes).toFixed(2)} |`);
  for (const [role, ms] of Object.entries(after)) {
    const each = (ms - (before[role] ?? 0)) / megabytes;
    console.log(`| all of ${role}, by /proc | | | ${each.toFixed(2)} |`);
  }
} finally {
  await browser.close();
  data.stop();
  rmSync(folder, { recursive: true, force: true });
}
