// Compares the edge with the same proxy written in JavaScript, each alone in a bare workerd, and
// with nginx with slices: `make bench-edge`. Each round runs every way once, in another order;
// figures are medians of the rounds, ratios those of the same round.

import { execFile, spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { startIsolate } from '../dev/isolate.mjs';
import { startProgram } from '../dev/program.mjs';
import { KEYS, freePort, startStack } from '../dev/stack.mjs';
import { median } from './median.mjs';
import { ofGroup } from './processor.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    connections: { type: 'string', default: '16' },
    only: { type: 'string', default: '' },
  },
});
const ROUNDS = Number(values.rounds);
const CONNECTIONS = Number(values.connections);
const SIZE = 64 << 20;
const SEGMENT = 4 << 20;
/** Segments requested of each way in a round of misses. */
const MISSES = 48;

const version = (program, flag) => {
  const { error, stdout, stderr } = spawnSync(program, [flag], { encoding: 'utf8' });
  return error ? undefined : /[\d.]+\d/.exec(stdout + stderr)?.[0];
};
const [WRK, NGINX] = [version('wrk', '-v'), version('nginx', '-v')];
if (!WRK || !NGINX) {
  console.error(
    'make bench-edge needs wrk, and nginx with its slice module (Debian: wrk, nginx-light)',
  );
  process.exit(1);
}
const WORKERD = JSON.parse(readFileSync('node_modules/workerd/package.json', 'utf8')).version;

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'edge-net-bench-'));
const stops = [() => rmSync(folder, { recursive: true, force: true })];

const REPORT =
  'done = function(s, l, r) io.write(string.format("FIGURES %d %d %d %d %d %d\\n", ' +
  's.requests, s.duration, l:percentile(50), l:percentile(99), ' +
  's.errors.status + s.errors.read + s.errors.timeout + s.errors.connect, s.bytes)) end';

/** The requests of wrk: the whole file, or ranges at random offsets. */
const ranges = (length) =>
  `request = function() local s = math.random(0, ${SIZE} - ${length}); ` +
  `return wrk.format("GET", nil, {["Range"] = "bytes=" .. s .. "-" .. (s + ${length - 1})}) end`;

/** Measures hits for some seconds. */
async function hits(way, script) {
  const lua = join(folder, 'load.lua');
  writeFileSync(lua, `${script}\n${REPORT}\n`);
  const before = ofGroup(way.pid);
  const { stdout } = await run('wrk', [
    '-t1',
    `-c${values.connections}`,
    `-d${values.seconds}s`,
    '--timeout',
    '30s',
    '-s',
    lua,
    `${way.url}bench/v1.0.0/model.bin`,
  ]);
  const used = ofGroup(way.pid) - before;
  const [requests, duration, p50, p99, errors] = /FIGURES (.*)/
    .exec(stdout)[1]
    .split(' ')
    .map(Number);
  if (errors) throw new Error(`${way.name}: ${errors} errors\n${stdout}`);
  return {
    rate: (requests / duration) * 1e6,
    p50: p50 / 1000,
    p99: p99 / 1000,
    cpu: used / requests,
  };
}

/** Measures misses: a range of 64 KiB in each of many segments that were not requested before. */
async function misses(way, _, round) {
  const before = ofGroup(way.pid);
  const began = performance.now();
  const times = [];
  let next = round * MISSES;
  const read = async () => {
    while (next < (round + 1) * MISSES) {
      const start = next++ * SEGMENT + 1000;
      const asked = performance.now();
      const response = await fetch(`${way.url}misses/v1.0.0/model.bin`, {
        headers: { range: `bytes=${start}-${start + 65_535}` },
      });
      const { byteLength } = await response.arrayBuffer();
      if (response.status !== 206 || byteLength !== 65_536)
        throw new Error(`${way.name}: ${response.status}, ${byteLength} bytes`);
      times.push(performance.now() - asked);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, read));
  const seconds = (performance.now() - began) / 1000;
  times.sort((a, b) => a - b);
  return {
    rate: MISSES / seconds,
    p50: median(times),
    p99: times[Math.floor(times.length * 0.99)],
    cpu: (ofGroup(way.pid) - before) / MISSES,
  };
}

/** The measurements. */
const LOADS = [
  { what: '64 KiB ranges, kept', load: hits, script: ranges(65_536) },
  { what: '1 KiB ranges, kept', load: hits, script: ranges(1024) },
  { what: 'whole, 64 MiB, kept', load: hits, script: '' },
  // The simplest proxy would fetch the whole file for the first one.
  {
    what: '64 KiB ranges, each of another segment, not kept',
    load: misses,
    without: 'JavaScript, whole files',
  },
];

const stack = await startStack();
stops.push(() => stack.stop());
try {
  const block = randomFillSync(Buffer.alloc(SEGMENT));
  for (const [id, blocks] of [
    ['bench', SIZE / SEGMENT],
    ['misses', ROUNDS * MISSES],
  ]) {
    const dir = join(folder, id);
    mkdirSync(dir);
    const file = openSync(join(dir, 'model.bin'), 'w');
    for (let n = 0; n < blocks; n++) writeSync(file, block.fill(n, 0, 8));
    closeSync(file);
    await stack.publish({ dir, id, version: '1.0.0', type: 'embedding', name: id });
  }
  const bytes = readFileSync(join(folder, 'bench/model.bin'));

  const variables = {
    GCS_BASE: stack.urls.gcs,
    IPFS_GATEWAYS: '',
    PINNED_KEYS: JSON.stringify(KEYS),
  };
  const worker = async (name, main) => {
    const data = mkdtempSync(join(folder, 'worker-'));
    const isolate = await startIsolate({ variables, data, main });
    stops.push(isolate.stop);
    return { name, url: `${isolate.url}/models/`, pid: isolate.pid };
  };
  const nginx = async (name) => {
    const port = await freePort();
    const conf = join(folder, 'nginx.conf');
    writeFileSync(
      conf,
      `daemon off; ${process.getuid() === 0 ? 'user root;' : ''} pid ${folder}/nginx.pid;
error_log ${folder}/error.log; worker_processes 1; events {}
http { access_log off; client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p;
fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
proxy_cache_path ${folder}/nginx keys_zone=k:10m; server { listen 127.0.0.1:${port};
location /models/ { slice 4m; proxy_cache k; proxy_cache_key $uri$slice_range;
proxy_set_header Range $slice_range; proxy_http_version 1.1; proxy_cache_valid 200 206 1h;
proxy_pass ${stack.urls.gcs}/; } } }`,
    );
    const program = startProgram(['nginx', '-c', conf, '-p', folder], {
      cwd: folder,
      log: join(folder, 'nginx.log'),
      died: console.error,
    });
    stops.push(program.stop);
    await program.answers(`http://127.0.0.1:${port}/`, new AbortController().signal);
    return { name, url: `http://127.0.0.1:${port}/models/`, pid: program.pid };
  };
  const ways = [
    await worker('ours'),
    await worker('JavaScript, segments', 'benches/plain/segments.js'),
    await worker('JavaScript, whole files', 'benches/plain/whole.js'),
    await nginx('nginx'),
  ];

  // The whole file is cached from here on, each segment by its own request.
  for (const way of ways) {
    for (let segment = -1; segment < SIZE / SEGMENT; segment++) {
      const [first, last] =
        segment < 0 ? [0, SIZE - 1] : [segment * SEGMENT, segment * SEGMENT + 99];
      const response = await fetch(`${way.url}bench/v1.0.0/model.bin`, {
        headers: segment < 0 ? {} : { range: `bytes=${first}-${last}` },
      });
      const body = Buffer.from(await response.arrayBuffer());
      if (!body.equals(bytes.subarray(first, last + 1)))
        throw new Error(`${way.name} sends other bytes`);
    }
  }

  console.log(
    `workerd ${WORKERD}, nginx ${NGINX}, wrk ${WRK} (one thread, ${CONNECTIONS} connections, ` +
      `${values.seconds} s), ${ROUNDS} rounds, Node ${process.version}, ` +
      `${cpus().length} × ${cpus()[0].model}\n`,
  );
  console.log(
    '| what | way | requests/s | p50, ms | p99, ms | CPU a request, ms | ours is |\n' +
      '|---|---|---|---|---|---|---|',
  );
  for (const { what, load, script, without } of LOADS.filter(({ what }) =>
    what.includes(values.only),
  )) {
    const timed = ways.filter(({ name }) => name !== without);
    const figures = new Map(timed.map(({ name }) => [name, []]));
    for (let round = 0; round < ROUNDS; round++) {
      const order = round % 2 ? timed.toReversed() : timed;
      for (const way of order) figures.get(way.name).push(await load(way, script, round));
    }
    for (const [name, all] of figures) {
      const of = (key) => median(all.map((figure) => figure[key]));
      const ratios = all.map((figure, round) => figures.get('ours')[round].rate / figure.rate);
      const ratio = name === 'ours' ? '' : `${median(ratios).toFixed(2)}×`;
      const times = `${of('p50').toFixed(1)} | ${of('p99').toFixed(1)} | ${of('cpu').toFixed(2)}`;
      console.log(`| ${what} | ${name} | ${of('rate').toFixed(0)} | ${times} | ${ratio} |`);
    }
  }
} finally {
  for (const stop of stops.reverse()) await stop();
}
