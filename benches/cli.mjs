// Compares the tool: `pull` with curl, the hashing of `publish` with sha256sum; and measures the
// cost of being killed.
//
//   node benches/cli.mjs [--size 1024] [--rounds 5] [--kills 20] [--dir /tmp]

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { link, mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from './median.mjs';
import { serveFolders } from './origin.mjs';

const CLI = fileURLToPath(new URL('../target/release/edge-net-models', import.meta.url));
const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '5' },
    kills: { type: 'string', default: '20' },
    dir: { type: 'string', default: tmpdir() },
  },
});
const [mib, rounds, kills] = [values.size, values.rounds, values.kills].map(Number);
const SEGMENT = 4 << 20;
const LANES = 4;

const root = await mkdtemp(join(values.dir, 'edge-net-bench-'));

/**
 * Runs a program; resolves to milliseconds and, if `watched`, which slows it down, its peak memory
 * in MiB.
 */
async function run(file, args, { env = {}, kill, watched = false } = {}) {
  const child = spawn(file, args, {
    env: { PATH: process.env.PATH, HOME: join(root, 'home'), EDGE_NET_IPFS_GATEWAYS: ' ', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const began = performance.now();
  let said = '';
  child.stdout.on('data', (data) => (said += data));
  let peak = 0;
  const watch =
    watched &&
    setInterval(() => {
      try {
        peak = Math.max(
          peak,
          Number(
            /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0,
          ),
        );
      } catch {} // it has exited
    }, 10);
  if (kill) sleep(kill).then(() => child.kill('SIGKILL'));
  const [code] = await once(child, 'close');
  clearInterval(watch);
  if (code !== 0 && !kill) throw new Error(`${file} ${args.join(' ')} ended with ${code}`);
  return { ms: performance.now() - began, peak: peak / 1024, said, code };
}

/**
 * Runs each way once a round, in another order each time, and prints the medians. The first round
 * is watched, and does not count.
 */
async function compare(title, ways) {
  const names = Object.keys(ways);
  const times = Object.fromEntries(names.map((name) => [name, []]));
  const peaks = {};
  for (let round = -1; round < rounds; round++) {
    const watched = round < 0;
    for (const name of round % 2 ? [...names].reverse() : names) {
      const { ms, peak } = await ways[name](watched);
      if (watched) peaks[name] = peak;
      else times[name].push(ms);
    }
  }
  const [ours, other] = names.map((name) => times[name]);
  const ratio = median(ours.map((ms, round) => other[round] / ms));
  for (const name of names) {
    const ms = median(times[name]);
    const last = name === names[0] ? `${ratio.toFixed(2)}×` : '';
    const cells = [ms, (mib * 1048.576) / ms, peaks[name]].map((cell) => cell.toFixed(0));
    console.log(`| ${title} | ${name} | ${cells.join(' | ')} | ${last} |`);
  }
}

try {
  const folder = join(root, 'big/v1.0.0');
  const file = join(folder, 'model.bin');
  await mkdir(folder, { recursive: true });
  const written = await open(file, 'w');
  const hash = createHash('sha256');
  for (let at = 0; at < mib; at += 16) {
    const bytes = randomBytes(16 << 20);
    hash.update(bytes);
    await written.write(bytes);
  }
  await written.sync();
  await written.close();
  const want = hash.digest('hex');

  const key = join(root, 'key.pem');
  const keys = (await run(CLI, ['keygen', '--key-id', 'bench', '--out', key])).said;
  const publish = [
    'publish',
    file,
    '--id',
    'big',
    '--version',
    '1.0.0',
    '--type',
    'vision',
    '--key',
    key,
    '--key-id',
    'bench',
    '--dry-run',
  ];
  await run(CLI, [...publish, '--out', folder]);
  await link(join(folder, 'manifest.json'), join(root, 'big/manifest.json'));

  console.log(
    '| what | way | median, ms | MB/s | peak, MiB | ours is |\n|---|---|---|---|---|---|',
  );
  await compare('hashing', {
    'publish --dry-run': (watched) => run(CLI, publish, { watched }),
    sha256sum: (watched) => run('sha256sum', [file], { watched }),
  });

  const origin = await serveFolders([root]);
  const env = { EDGE_NET_CDN_ENDPOINT: origin.url, EDGE_NET_KEYS: keys };
  const out = join(root, 'out');
  const fresh = () => rm(out, { recursive: true, force: true }).then(() => mkdir(out));
  await compare('from loopback', {
    pull: async (watched) => (
      await fresh(),
      run(CLI, ['pull', 'big', '--output', out], { env, watched })
    ),
    curl: async (watched) => (
      await fresh(),
      run(
        'curl',
        [
          '--silent',
          '--fail',
          '--output',
          join(out, 'model.bin'),
          `${origin.url}/big/v1.0.0/model.bin`,
        ],
        { watched },
      )
    ),
  });
  origin.stop();

  // The download takes about 4 s, so that it can be killed 20 times.
  const slow = await serveFolders([root], mib * (1 << 18));
  env.EDGE_NET_CDN_ENDPOINT = slow.url;
  await fresh();
  let killed = 0;
  const pull = ['pull', 'big', '--output', out, '--json'];
  for (let n = 0; n < kills; n++)
    killed += (await run(CLI, pull, { env, kill: 40 + Math.random() * 200 })).code === null;
  await run(CLI, pull, { env });
  const again = slow.sent - mib * 1048576;
  const worst = again / Math.max(1, killed) / SEGMENT;
  slow.stop();
  const got = createHash('sha256');
  for await (const chunk of createReadStream(join(out, 'big/model.bin'))) got.update(chunk);
  if (got.digest('hex') !== want) throw new Error('what was pulled is not what was published');
  console.log(
    `\nkilled ${killed} times of ${kills}; the SHA-256 is correct; ` +
      `${(again / 1048576).toFixed(1)} MiB came again, ` +
      `${worst.toFixed(2)} segments each time (${LANES} lanes)`,
  );
  if (worst > LANES) process.exitCode = 1;
} finally {
  await rm(root, { recursive: true, force: true });
}
