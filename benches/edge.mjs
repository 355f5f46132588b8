// The edge beside the same proxy written plainly in JavaScript, on the same workerd, and beside nginx with slices: `make bench-edge`.
// Needs wrk, and nginx with its slice module. Each round does every way once, in another order; figures are medians of the rounds.

import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { startProgram } from '../dev/program.mjs';
import { KEYS, startStack } from '../dev/stack.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '5' }, connections: { type: 'string', default: '16' } } });
const ROUNDS = Number(values.rounds);
const SIZE = 64 << 20;
const run = promisify(execFile);
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
const folder = mkdtempSync(join(tmpdir(), 'edge-net-bench-'));
const stops = [() => rmSync(folder, { recursive: true, force: true })];

/** What the processes of a group have used of the processor, in milliseconds (proc_pid_stat(5), fields 5, 14 and 15; ticks of 10 ms). */
function processor(group) {
  let ticks = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ').map(Number);
      if (fields[2] === group) ticks += fields[11] + fields[12];
    } catch {} // it has ended
  }
  return ticks * 10;
}

/** What wrk sends: the whole file, or ranges at random places. */
const SCRIPTS = {
  '64 KiB ranges, kept': `request = function() local s = math.random(0, ${SIZE - 65536}); return wrk.format("GET", nil, {["Range"] = "bytes=" .. s .. "-" .. (s + 65535)}) end`,
  '1 KiB ranges, kept': `request = function() local s = math.random(0, ${SIZE - 1024}); return wrk.format("GET", nil, {["Range"] = "bytes=" .. s .. "-" .. (s + 1023)}) end`,
  'whole, kept': '',
};
const REPORT = 'done = function(s, l, r) io.write(string.format("FIGURES %d %d %d %d %d %d\\n", s.requests, s.duration, l:percentile(50), l:percentile(99), s.errors.status + s.errors.read + s.errors.timeout + s.errors.connect, s.bytes)) end';

async function load(url, script, way) {
  const lua = join(folder, 'load.lua');
  writeFileSync(lua, `${script}\n${REPORT}\n`);
  const before = processor(way.pid);
  const { stdout } = await run('wrk', ['-t1', `-c${values.connections}`, `-d${values.seconds}s`, '--timeout', '30s', '-s', lua, url]);
  const used = processor(way.pid) - before;
  const [requests, duration, p50, p99, errors] = /FIGURES (.*)/.exec(stdout)[1].split(' ').map(Number);
  if (errors) throw new Error(`${way.name}: ${errors} errors\n${stdout}`);
  return { rate: (requests / duration) * 1e6, p50: p50 / 1000, p99: p99 / 1000, cpu: used / requests };
}

const stack = await startStack();
stops.push(() => stack.stop());
try {
  const dir = join(folder, 'model');
  mkdirSync(dir);
  const bytes = randomFillSync(Buffer.alloc(SIZE));
  writeFileSync(join(dir, 'model.bin'), bytes);
  await stack.publish({ dir, id: 'bench', version: '1.0.0', type: 'embedding', name: 'bench' });
  const path = '/models/bench/v1.0.0/model.bin';

  const start = async (name, command, env, url) => {
    const child = startProgram(command, { cwd: process.cwd(), env, log: join(folder, `${name}.log`), died: console.error });
    stops.push(child.stop);
    await child.answers(url, new AbortController().signal);
    return { name, url: `${url}${path}`, pid: child.pid };
  };
  const wrangler = { WRANGLER_SEND_METRICS: 'false', WRANGLER_LOG_PATH: join(folder, 'wrangler'), CLOUDFLARE_CF_FETCH_ENABLED: 'false' };
  const worker = (name, port, variables, config) =>
    start(name, [process.execPath, 'dev/edge.mjs', `${port}`, join(folder, name), JSON.stringify(variables), config], wrangler, `http://127.0.0.1:${port}`);
  const [a, b, c] = [0, 1, 2].map((n) => 18_700 + Math.floor(Math.random() * 900) * 10 + n);
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; ${process.getuid() === 0 ? 'user root;' : ''} pid ${folder}/nginx.pid; error_log ${folder}/error.log; worker_processes 1; events {}
http { access_log off; client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
proxy_cache_path ${folder}/nginx keys_zone=k:10m; server { listen 127.0.0.1:${c}; location /models/ { slice 4m; proxy_cache k; proxy_cache_key $uri$slice_range;
proxy_set_header Range $slice_range; proxy_http_version 1.1; proxy_cache_valid 200 206 1h; proxy_pass ${stack.urls.gcs}/; } } }`,
  );
  const ways = [
    await worker('ours', a, { GCS_BASE: stack.urls.gcs, IPFS_GATEWAYS: '', PINNED_KEYS: JSON.stringify(KEYS) }, 'wrangler.toml'),
    await worker('plain JavaScript', b, { GCS_BASE: stack.urls.gcs }, 'benches/plain/wrangler.toml'),
    await start('nginx', ['nginx', '-c', join(folder, 'nginx.conf'), '-p', folder], {}, `http://127.0.0.1:${c}`),
  ];

  console.log(`wrk, ${values.connections} connections, ${values.seconds} s, ${ROUNDS} rounds; a file of 64 MiB; Node ${process.version}, ${cpus().length} × ${cpus()[0].model}\n`);
  console.log('| what | way | requests/s | p50, ms | p99, ms | CPU a request, ms | ours is |\n|---|---|---|---|---|---|---|');
  for (const way of ways) {
    const body = Buffer.from(await (await fetch(way.url)).arrayBuffer());
    if (!body.equals(bytes)) throw new Error(`${way.name} sends other bytes`);
  }
  for (const [what, script] of Object.entries(SCRIPTS)) {
    const figures = new Map(ways.map(({ name }) => [name, []]));
    for (let round = 0; round < ROUNDS; round++) {
      const order = round % 2 ? ways.toReversed() : ways;
      for (const way of order) figures.get(way.name).push(await load(way.url, script, way));
    }
    for (const [name, all] of figures) {
      const of = (key) => median(all.map((figure) => figure[key]));
      const ratio = name === 'ours' ? '' : `${median(all.map((figure, round) => figures.get('ours')[round].rate / figure.rate)).toFixed(2)}×`;
      console.log(`| ${what} | ${name} | ${of('rate').toFixed(0)} | ${of('p50').toFixed(1)} | ${of('p99').toFixed(1)} | ${of('cpu').toFixed(2)} | ${ratio} |`);
    }
  }
} finally {
  for (const stop of stops.reverse()) await stop();
}
