// Compares embeddings with onnxruntime-web, and two workers with one: `make bench-inference`.
// Figures are medians.

import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { startIsolate } from '../dev/isolate.mjs';
import { DEMO, KEYS, startStack } from '../dev/stack.mjs';
import { median } from './median.mjs';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '20' }, seconds: { type: 'string', default: '5' } },
});
const ROUNDS = Number(values.rounds);
const SECONDS = Number(values.seconds);
const LENGTHS = [16, 64, 128, 256];
/** Concurrent requests for embeddings, and for ranges of files. */
const [EMBEDDING, READING] = [4, 16];

const run = promisify(execFile);
const mb = (bytes) => (bytes / 1e6).toFixed(1);
const json = async (url, init) => {
  const response = await fetch(url, init);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
};
const folder = mkdtempSync(join(tmpdir(), 'edge-net-bench-'));
const stops = [() => rmSync(folder, { recursive: true, force: true })];

/** A sentence of this many tokens. */
const tokensOf = (length) => [
  101,
  ...Array.from({ length: length - 2 }, (_, i) => 2000 + ((i * 7919) % 20_000)),
  102,
];

async function onnxruntime() {
  const ort = await import('onnxruntime-web');
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(readFileSync(join(DEMO.dir, 'model.onnx')), {
    executionProviders: ['wasm'],
  });
  const tensor = (values) =>
    new ort.Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);
  return async (tokens) => {
    const feeds = {
      input_ids: tensor(tokens),
      attention_mask: tensor(tokens.map(() => 1)),
      token_type_ids: tensor(tokens.map(() => 0)),
    };
    const began = performance.now();
    const { data, dims } = (await session.run(feeds)).last_hidden_state;
    const sum = new Float32Array(dims[2]);
    for (let i = 0; i < data.length; i++) sum[i % dims[2]] += data[i];
    const length = Math.hypot(...sum);
    return {
      took: performance.now() - began,
      embedding: Array.from(sum, (value) => value / length),
    };
  };
}

const embedAt = (url, input) =>
  json(`${url}/v1/embeddings`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: DEMO.id, input, encoding_format: 'base64' }),
  });

/** Embeds for some seconds with concurrent requests: requests a second. */
async function embedding(url, length, until) {
  let answers = 0;
  const began = performance.now();
  const reader = async () => {
    while (performance.now() < until) {
      await embedAt(url, tokensOf(length));
      answers += 1;
    }
  };
  await Promise.all(Array.from({ length: EMBEDDING }, reader));
  return (answers / (performance.now() - began)) * 1000;
}

const REPORT =
  'done = function(s, l, r) io.write(string.format("FIGURES %d %d %d %d %d\\n", ' +
  's.requests, s.duration, l:percentile(50), l:percentile(99), ' +
  's.errors.status + s.errors.read + s.errors.timeout + s.errors.connect)) end';

/** Measures hits for some seconds: cached ranges of 64 KiB. */
async function hits(url) {
  const lua = join(folder, 'hits.lua');
  writeFileSync(
    lua,
    'request = function() local s = math.random(0, 20000000); ' +
      'return wrk.format("GET", nil, {["Range"] = "bytes=" .. s .. "-" .. (s + 65535)}) end\n' +
      `${REPORT}\n`,
  );
  const { stdout } = await run('wrk', [
    '-t1',
    `-c${READING}`,
    `-d${SECONDS}s`,
    '--timeout',
    '60s',
    '-s',
    lua,
    `${url}/models/${DEMO.id}/model.onnx`,
  ]);
  const [requests, duration, p50, p99, errors] = /FIGURES (.*)/
    .exec(stdout)[1]
    .split(' ')
    .map(Number);
  if (errors) throw new Error(`${errors} errors\n${stdout}`);
  return { rate: (requests / duration) * 1e6, p50: p50 / 1000, p99: p99 / 1000 };
}

const stack = await startStack();
stops.push(() => stack.stop());
try {
  await stack.publish();
  const variables = {
    GCS_BASE: stack.urls.gcs,
    IPFS_GATEWAYS: '',
    PINNED_KEYS: JSON.stringify(KEYS),
  };
  const start = async (options = {}) => {
    const isolate = await startIsolate({
      variables,
      data: mkdtempSync(join(folder, 'worker-')),
      ...options,
    });
    stops.push(isolate.stop);
    return isolate;
  };

  const version = (name) =>
    JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')).version;
  console.log(
    `workerd ${version('workerd')}, onnxruntime-web ${version('onnxruntime-web')} ` +
      `in Node ${process.version}, one thread, ${cpus().length} × ${cpus()[0].model}\n`,
  );
  const alone = await start({ main: 'benches/inference/alone.js' });
  const { instantiated, more, loaded, memory } = await json(
    `${alone.url}/load?model=${DEMO.id}/v${DEMO.version}`,
  );
  const theirs = await onnxruntime();
  const ours = (tokens) =>
    json(`${alone.url}/embed`, { method: 'POST', body: JSON.stringify(tokens) });
  console.log(
    `| tokens | ours in workerd, ms | onnxruntime-web, ms | ours / theirs |\n|---|---|---|---|`,
  );
  let peak = memory;
  for (const length of LENGTHS) {
    const tokens = tokensOf(length);
    // Both are compiled from here on.
    const [first, reference] = [await ours(tokens), await theirs(tokens)];
    const worst = Math.max(
      ...first.embedding.map((value, i) => Math.abs(value - reference.embedding[i])),
    );
    if (!(worst < 1e-3)) throw new Error(`${length} tokens: components differ by ${worst}`);
    const took = [[], []];
    for (let round = 0; round < ROUNDS; round++) {
      const order = round % 2 ? [1, 0] : [0, 1];
      for (const way of order) took[way].push((await [ours, theirs][way](tokens)).took);
    }
    peak = Math.max(peak, (await ours(tokens)).memory);
    const ratio = median(took[0].map((ms, round) => ms / took[1][round]));
    const [our, their] = took.map((ms) => median(ms).toFixed(1));
    console.log(`| ${length} | ${our} | ${their} | ${ratio.toFixed(2)}× |`);
  }
  await alone.stop();
  const [module, edgeModule] = [
    readFileSync('worker-inference/build/inference.wasm'),
    readFileSync('worker-edge/build/index_bg.wasm'),
  ];
  const zipped = (bytes) => gzipSync(bytes, { level: 9 }).length;
  const sizes = (modules) =>
    [(bytes) => bytes.length, zipped]
      .map((size) => modules.reduce((sum, bytes) => sum + size(bytes), 0))
      .map(mb)
      .join(' MB, ') + ' MB gzipped';
  /** Milliseconds that this V8 takes to compile a module, as a worker does at its start. */
  const compiled = (bytes) =>
    median(
      Array.from({ length: 5 }, () => {
        const began = performance.now();
        new WebAssembly.Module(bytes);
        return performance.now() - began;
      }),
    );
  console.log(`\n| what | |\n|---|---|`);
  console.log(`| module | ${sizes([module])} |`);
  console.log(`| it is compiled in | ${compiled(module).toFixed(0)} ms (in Node) |`);
  console.log(
    `| an instance is made in | ${instantiated.toFixed(1)} ms the first time, ` +
      `then ${more.toFixed(1)} ms |`,
  );
  console.log(`| the model is made ready in | ${loaded.toFixed(0)} ms |`);
  console.log(
    `| WASM memory of the model's instance, peak | ${mb(peak)} MB ` +
      `(${(peak / 22_928_619).toFixed(2)} times the file) |`,
  );

  if (spawnSync('wrk', ['-v']).error) {
    console.log(
      '\nOne worker beside two was left out: it needs wrk (Debian: apt-get install wrk).',
    );
  } else {
    const two = { name: 'two workers', modules: [edgeModule], options: { inference: {} } };
    const one = {
      name: 'one worker',
      modules: [edgeModule, module],
      options: { main: 'benches/inference/one-worker.js' },
    };
    console.log(
      '\n| | module of what answers hits | hits/s | p50, p99, ms | ' +
        `hits/s while ${EMBEDDING} clients embed 64 tokens | p50, p99, ms | ` +
        'embeddings/s of 16 tokens | its memory, MB |\n|---|---|---|---|---|---|---|---|',
    );
    for (const way of [two, one]) {
      const isolate = await start(way.options);
      await (await fetch(`${isolate.url}/models/${DEMO.id}/model.onnx`)).arrayBuffer();
      for (let segment = 0; segment < 6; segment++)
        await (
          await fetch(`${isolate.url}/models/${DEMO.id}/model.onnx`, {
            headers: { range: `bytes=${segment << 22}-${(segment << 22) + 9}` },
          })
        ).arrayBuffer();
      await embedAt(isolate.url, tokensOf(16));
      const idle = await hits(isolate.url);
      const until = performance.now() + SECONDS * 1000 + 500;
      const [busy] = await Promise.all([hits(isolate.url), embedding(isolate.url, 64, until)]);
      const rate = await embedding(isolate.url, 16, performance.now() + SECONDS * 1000);
      const inspector = await isolate.inspect();
      const { all } = await inspector.kept();
      inspector.close();
      await isolate.stop();
      const times = ({ p50, p99 }) => `${p50.toFixed(1)}, ${p99.toFixed(1)}`;
      console.log(
        `| ${way.name} | ${sizes(way.modules)} | ${idle.rate.toFixed(0)} | ${times(idle)} | ` +
          `${busy.rate.toFixed(0)} | ${times(busy)} | ${rate.toFixed(1)} | ${mb(all)} |`,
      );
    }
  }
} finally {
  for (const stop of stops.reverse()) await stop();
}
