// The edge in workerd, as `wrangler dev` runs it, but without the inspector: that reports every 4 KiB a worker receives,
// which makes a download thirty times slower. Arguments: port, folder for what is kept, the variables as JSON (other bindings as
// wrangler's `startWorker` takes them).

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { unstable_startWorker as startWorker } from 'wrangler';

const WRANGLER = fileURLToPath(new URL('../node_modules/.bin/wrangler', import.meta.url));

const [port, persist, variables] = process.argv.slice(2);
const binding = (value) => (typeof value === 'string' ? { type: 'plain_text', value } : value);
const bindings = Object.entries(JSON.parse(variables)).map(([name, value]) => [name, binding(value)]);

// The registry's tables, where they are not there yet.
const migrate = ['d1', 'migrations', 'apply', 'REGISTRY', '--local', '--env=dev', `--persist-to=${persist}`];
const migrated = spawnSync(WRANGLER, migrate, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
if (migrated.status) console.error(`the registry has no tables: ${migrated.stdout}${migrated.stderr}`);

const worker = await startWorker({
  config: 'wrangler.toml',
  env: 'dev',
  bindings: Object.fromEntries(bindings),
  dev: { inspector: false, watch: false, persist, server: { hostname: '127.0.0.1', port: Number(port) } },
});
await worker.ready;
process.on('SIGTERM', async () => {
  await worker.dispose();
  process.exit();
});
