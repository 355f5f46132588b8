// Products of packed weights in one thread of Chromium, with SIMD and with relaxed SIMD:
// `node benches/products.mjs [type…]`. The best of some tries.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch } from './pages.mjs';

const ROOT = new URL('..', import.meta.url).pathname;
const TYPES = {
  Q4_1: 3, Q8_0: 8, Q5_0: 6, Q4_K: 12, Q6_K: 14, Q4_0: 2, Q5_1: 7, Q5_K: 13, Q2_K: 10, Q3_K: 11,
  F16: 1, BF16: 30, F32: 0,
};
const FEATURES = { 'SIMD': '+simd128', 'relaxed SIMD': '+simd128,+relaxed-simd' };
const asked = process.argv.slice(2);
const types = Object.entries(TYPES).filter(([name]) => !asked.length || asked.includes(name));

/** The script and the module of the example, compiled with these features. */
function compile(folder, features) {
  const target = join(ROOT, 'target/products', features.includes('relaxed') ? 'relaxed' : 'simd');
  const wasm = ['--target', 'wasm32-unknown-unknown', '--target-dir', target];
  const flags = { ...process.env, RUSTFLAGS: `-Ctarget-feature=${features}` };
  const of = ['--release', '--quiet', '--package', 'edge-net-tensor', '--example', 'products_wasm'];
  execFileSync('cargo', ['build', ...of, ...wasm], { cwd: ROOT, env: flags, stdio: 'inherit' });
  const module = join(target, 'wasm32-unknown-unknown/release/examples/products_wasm.wasm');
  const bindgen = process.env.WASM_BINDGEN ?? join(ROOT, '.tools/bin/wasm-bindgen');
  execFileSync(bindgen, ['--target', 'no-modules', '--out-dir', folder, module]);
  return {
    script: readFileSync(join(folder, 'products_wasm.js'), 'utf8'),
    module: readFileSync(join(folder, 'products_wasm_bg.wasm')).toString('base64'),
  };
}

/** Runs in the page: figures of each type. */
async function measure(module, types) {
  const bytes = await (await fetch(`data:;base64,${module}`)).arrayBuffer();
  await wasm_bindgen({ module_or_path: bytes });
  // The compiler takes its time to optimize.
  const best = (run, tries) => {
    let least = Infinity;
    const end = performance.now() + 1000;
    for (let i = 0; i < tries || performance.now() < end; i++) {
      const began = performance.now();
      run();
      least = Math.min(least, performance.now() - began);
    }
    return least / 1e3;
  };
  const COLUMNS = 2048;
  const LARGE = 64 * 2 ** 20;
  const memory = new wasm_bindgen.Memory(LARGE);
  const figures = { read: LARGE / best(() => memory.read(), 15) / 1e9 };
  memory.free();
  for (const [name, type] of types) {
    const probe = new wasm_bindgen.Product(type, 64, COLUMNS, 1);
    const rows = Math.floor(LARGE / (probe.bytes() / 64) / 8) * 8;
    probe.free();
    let began = performance.now();
    const large = new wasm_bindgen.Product(type, rows, COLUMNS, 1);
    const bytes = large.bytes();
    const pack = bytes / (performance.now() - began) / 1e6;
    const decode = best(() => large.multiply(), 15);
    large.free();
    const [outputs, inputs] = [1536, 32];
    const small = new wasm_bindgen.Product(type, outputs, COLUMNS, inputs);
    const prompt = best(() => small.multiply(), 7);
    const round = best(() => small.round(), 7);
    small.free();
    figures[name] = {
      pack,
      decode: bytes / decode / 1e9,
      decodeProducts: (rows * COLUMNS) / decode / 1e9,
      prompt: (outputs * COLUMNS * inputs) / prompt / 1e9,
      round: (inputs * COLUMNS) / round / 1e9,
    };
  }
  return figures;
}

const folder = mkdtempSync(join(tmpdir(), 'edge-net-bench-'));
const builds = Object.entries(FEATURES).map(([name, of]) => [name, compile(folder, of)]);
if (process.env.BUILD_ONLY) process.exit();
const browser = await launch(folder);
try {
  for (const [name, { script, module }] of builds) {
    const page = await browser.newPage();
    await page.evaluate(`${script}; globalThis.wasm_bindgen = wasm_bindgen;`);
    const { read, ...figures } = await page.evaluate(measure, module, types);
    console.log(`${name}; memory is read at ${read.toFixed(1)} GB/s`);
    const heads = ['pack GB/s', 'decode GB/s', 'decode G products/s', 'prompt G products/s'];
    console.log(['type ', ...heads, 'round G/s'].join('  '));
    for (const [type, of] of Object.entries(figures)) {
      const cells = [of.pack, of.decode, of.decodeProducts, of.prompt, of.round];
      const text = cells.map((cell, i) => cell.toFixed(2).padStart([9, 11, 19, 19, 9][i]));
      console.log(`${type.padEnd(5)} ${text.join('  ')}`);
    }
    await page.close();
  }
} finally {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
}
