// The npm package of the tool: built, installed, run.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const run = async (...command) =>
  (await promisify(execFile)(command[0], command.slice(1))).stdout.trim();

test('npm install --global installs the tool and its manual pages', async () => {
  const prefix = await mkdtemp(join(tmpdir(), 'edge-net-npm-'));
  try {
    const packed = await run(process.execPath, 'cli/npm.mjs');
    await run(
      'npm',
      'install',
      '--global',
      '--prefix',
      prefix,
      '--offline',
      '--no-audit',
      '--no-fund',
      packed,
    );
    const [, version] = /^version = "(.*)"$/m.exec(await readFile('Cargo.toml', 'utf8'));
    assert.equal(
      await run(join(prefix, 'bin/edge-net-models'), '--version'),
      `edge-net-models ${version}`,
    );
    assert.ok((await readdir(join(prefix, 'share/man/man1'))).includes('edge-net-models-pull.1'));
  } finally {
    await rm(prefix, { recursive: true });
  }
});
