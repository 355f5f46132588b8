// The deployment: `wrangler deploy --dry-run` accepts it, and both modules contain the same core.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';

const run = promisify(execFile);

test('make deploy-dry-run: production with all bindings', async () => {
  const { stdout } = await run('make', ['deploy-dry-run']);
  const gzipped = [...stdout.matchAll(/gzip: ([\d.]+) KiB/g)].map(([, size]) => Number(size));
  assert.equal(gzipped.length, 2, 'the edge, and the worker that embeds');
  assert.ok(
    gzipped.every((size) => size < 3072),
    `the free plan takes 3 MiB; these are ${gzipped.join(' and ')} KiB`,
  );
  assert.match(stdout, /env\.INFERENCE \(edge-net-inference-production\)/);
  assert.match(stdout, /env\.EDGE \(edge-net-models-production\)/);
  for (const variable of [
    'MAX_INPUTS',
    'MAX_INPUT_TOKENS',
    'MAX_TOKENS',
    'MAX_BODY_BYTES',
    'MAX_REQUESTS',
  ])
    assert.match(stdout, new RegExp(`env\\.${variable} `));
  for (const variable of ['GCS_BASE', 'IPFS_GATEWAYS', 'PINNED_KEYS', 'SEGMENT_CACHE'])
    assert.match(stdout, new RegExp(`env\\.${variable} `));
  assert.match(stdout, /env\.API_LIMIT \(100 requests\/60s\)/);
});

test('make deploy reports a missing login', async () => {
  const { CLOUDFLARE_API_TOKEN: _, ...others } = process.env;
  const home = await mkdtemp(join(tmpdir(), 'edge-net-home-'));
  try {
    await assert.rejects(
      run('make', ['logged-in'], { env: { ...others, XDG_CONFIG_HOME: home } }),
      /not logged in to Cloudflare; run npx wrangler login/,
    );
  } finally {
    await rm(home, { recursive: true });
  }
});

test('both WASM modules are built from the same core crate', async () => {
  for (const crate of ['edge-net-worker-edge', 'edge-net-worker-sw']) {
    const { stdout } = await run('cargo', [
      'tree',
      '--quiet',
      '--package',
      crate,
      '--target',
      'wasm32-unknown-unknown',
      '--prefix',
      'none',
      '--format',
      '{p}',
    ]);
    assert.match(stdout, /^edge-net-core v/m);
  }
  // A text of the core that both must contain.
  for (const wasm of [
    'worker-edge/build/index_bg.wasm',
    'worker-sw/build/edge_net_worker_sw_bg.wasm',
  ]) {
    assert.ok(readFileSync(wasm).includes('which is not pinned here'), wasm);
  }
});

test('the WASM of the service worker is at most 170 KB gzipped', () => {
  assert.ok(
    gzipSync(readFileSync('worker-sw/build/edge_net_worker_sw_bg.wasm'), { level: 9 }).length <=
      170_000,
  );
});
