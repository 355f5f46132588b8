// Artifacts of random bytes, with their signed manifests.

import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { KEY } from '../dev/stack.mjs';

const CLI = 'target/release/edge-net-models';

/**
 * Publishes an artifact below `{folder}/data`.
 * @param {string} folder
 * @param {number} size in MiB; 23: 22.9 MB, as a small embedding model
 */
export function publish(folder, size) {
  const id = `random-${size}`;
  const [draft, version] = [join(folder, 'draft', id), join(folder, 'data/models', id, 'v1.0.0')];
  for (const dir of [draft, version]) mkdirSync(dir, { recursive: true });
  const file = openSync(join(draft, 'model.bin'), 'w');
  const bytes = size === 23 ? 22_928_619 : size * 1_048_576;
  const block = Buffer.alloc(8 * 1_048_576);
  for (let left = bytes; left > 0; left -= block.length)
    writeSync(file, randomFillSync(block), 0, Math.min(left, block.length));
  closeSync(file);
  const flags = {
    id,
    version: '1.0.0',
    type: 'embedding',
    key: KEY.pem,
    'key-id': KEY.id,
    out: version,
  };
  execFileSync(
    CLI,
    [
      'publish',
      draft,
      '--dry-run',
      ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`),
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  renameSync(join(draft, 'model.bin'), join(version, 'model.bin'));
  copyFileSync(join(version, 'manifest.json'), join(version, '../manifest.json'));
  const { cid } = Object.values(
    JSON.parse(readFileSync(join(version, 'manifest.json'), 'utf8')).artifacts,
  )[0];
  return {
    id,
    size: bytes,
    cid,
    path: `/models/${id}/v1.0.0/model.bin`,
    file: join(version, 'model.bin'),
  };
}
