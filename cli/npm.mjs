// Builds an npm package of the tool for this machine's operating system and processor, in
// target/npm/. Installation: `npm install --global target/npm/*.tgz`.

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = join(root, 'target/npm');
const workspace = readFileSync(join(root, 'Cargo.toml'), 'utf8');
const [, version] = /^version = "(.*)"$/m.exec(workspace);
const [, license] = /^license = "(.*)"$/m.exec(workspace);

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, 'package'), { recursive: true });
const program = join(out, 'package/edge-net-models');
copyFileSync(join(root, 'target/release/edge-net-models'), program);
chmodSync(program, 0o755);
execFileSync(program, ['man', '--out', join(out, 'package/man')]);
writeFileSync(
  join(out, 'package/package.json'),
  JSON.stringify(
    {
      name: '@ruvector/edge-net-models',
      version,
      license,
      description: 'Publishes, pulls and verifies AI model files.',
      bin: { 'edge-net-models': 'edge-net-models' },
      man: readdirSync(join(out, 'package/man')).map((page) => `man/${page}`),
      os: [process.platform],
      cpu: [process.arch],
    },
    null,
    2,
  ),
);
writeFileSync(
  join(out, 'package/README.md'),
  'The command line tool of Edge-Net Models. `edge-net-models help` lists its commands.\n',
);
const packed = execFileSync(
  'npm',
  ['pack', '--json', '--pack-destination', out, join(out, 'package')],
  { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
);
console.log(join(out, JSON.parse(packed)[0].filename.replace('@', '').replace('/', '-')));
