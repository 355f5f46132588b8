// The checks of `make lint` that are our own programs find what they look for, and nothing else.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

/**
 * What a check prints about a folder with these files, and whether it fails.
 * @param {string} check
 * @param {Record<string, string>} files
 */
async function run(check, files) {
  const folder = await mkdtemp(join(tmpdir(), 'edge-net-lint-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), text);
    }
    return await new Promise((resolve) => {
      const command = [`dev/${check}.mjs`, folder];
      execFile(process.execPath, command, (error, _, stderr) =>
        resolve({ failed: !!error, stderr }),
      );
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}

const PACKAGE = '[package]\nname = "core"\n';

test('circles: Rust files that import one another', async () => {
  const { failed, stderr } = await run('circles', {
    'Cargo.toml': PACKAGE,
    'src/lib.rs': 'mod a;\nmod b;\n',
    'src/a.rs': 'use crate::{b::{self, Thing as Other}, c};\n',
    'src/b/mod.rs': 'mod deep;\n',
    'src/b/deep.rs': 'fn f() -> u8 { super::super::a::g() }\n',
  });
  assert.equal(stderr, '');
  assert.equal(failed, false, 'b/deep.rs imports a.rs, which imports b/mod.rs alone');

  const round = await run('circles', {
    'Cargo.toml': PACKAGE,
    'src/lib.rs': 'mod a;\nmod b;\n',
    'src/a.rs': 'use crate::b::deep::Thing;\n',
    'src/b/mod.rs': 'pub mod deep;\n',
    'src/b/deep.rs': 'fn f() -> u8 { super::super::a::g() }\n',
  });
  assert.equal(round.failed, true);
  assert.equal(round.stderr, 'circles: src/a.rs -> src/b/deep.rs -> src/a.rs\n');
});

test('circles: comments, strings, tests and re-exports are no imports', async () => {
  const { failed, stderr } = await run('circles', {
    'Cargo.toml': PACKAGE,
    'src/lib.rs': 'mod a;\nmod b;\npub use a::Thing;\n',
    'src/a.rs':
      '// crate::b::f\n/// [`crate::b`]\nconst T: &str = "crate::b::f";\npub struct Thing;\n' +
      '#[cfg(test)]\nmod tests {\n    use crate::b::f;\n    fn t() { if true { f() } }\n}\n',
    'src/b.rs': 'use crate::Thing;\n',
  });
  assert.equal(stderr, '');
  assert.equal(failed, false);
});

test('circles: scripts that import one another', async () => {
  const { failed, stderr } = await run('circles', {
    'a.mjs': "import { b } from './lib/b.js';\n",
    'lib/b.js': "// import './c.js'\nexport * from './c.ts';\n",
    'lib/c.ts': "const { a } = await import('../a.mjs');\n",
  });
  assert.equal(failed, true);
  assert.equal(stderr, 'circles: a.mjs -> lib/b.js -> lib/c.ts -> a.mjs\n');
});

test('circles: a lower layer of the core, and a dependency on a worker', async () => {
  const { failed, stderr } = await run('circles', {
    'Cargo.toml': `${PACKAGE}[dependencies]\nedge-net-worker-sw.workspace = true\n`,
    'src/lib.rs': 'mod dag;\nmod http;\n',
    'src/dag/mod.rs': 'use crate::http::Range;\n',
    'src/http/mod.rs': 'pub struct Range;\n',
  });
  assert.equal(failed, true);
  assert.match(stderr, /^circles: Cargo.toml depends on edge-net-worker-sw: nothing may/m);
  assert.match(
    stderr,
    /^circles: src\/dag\/mod.rs imports src\/http\/mod.rs, which is in a layer/m,
  );
});

test('width: long lines, but not tables, URLs and hashes', async () => {
  const long = 'word '.repeat(21);
  const { failed, stderr } = await run('width', {
    'a.rs': `${'é'.repeat(50)}\n// ${long}\n`,
    'b.md': `| ${long} |\nhttps://example.com/${'a'.repeat(100)}\n${'0'.repeat(128)}\n`,
    'c.txt': `${long}\n`,
  });
  assert.equal(failed, true);
  assert.equal(stderr, 'width: a.rs:2: 108 characters\n');
});

test('functions: long ones, without comments and tests inside', async () => {
  const body = 'f();\n'.repeat(79);
  const tests = `test('b', () => {\n${'f();\n'.repeat(78)}});\n`;
  const { failed, stderr } = await run('functions', {
    'short.js': `function f() {\n// why\n\n${'f();\n'.repeat(78)}}\n`,
    'suite.mjs': `describe('a', () => {\n${tests}${tests}});\n`,
    'nested.mjs': `test('a', () => {\n${'f();\n'.repeat(40)}${tests}});\n`,
    'long.mjs': `export const f = () => {\n${body}};\n`,
    'long.rs': '#[allow(clippy::too_many_lines)]\nfn f() {}\n',
  });
  assert.equal(failed, true);
  assert.equal(
    stderr,
    'functions: long.mjs:1: function of 81 lines\nfunctions: long.rs: allows long functions\n',
  );
});
