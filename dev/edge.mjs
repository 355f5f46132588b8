// The edge in workerd, as `wrangler dev` runs it, but without the inspector: that reports every 4 KiB a worker receives,
// which makes a download thirty times slower. Arguments: port, folder for what is kept, the variables as JSON, and the
// configuration if it is not ours.

import { unstable_startWorker as startWorker } from 'wrangler';

const [port, persist, variables, config = 'wrangler.toml'] = process.argv.slice(2);
const bindings = Object.entries(JSON.parse(variables)).map(([name, value]) => [name, { type: 'plain_text', value }]);

const worker = await startWorker({
  config,
  env: 'dev',
  bindings: Object.fromEntries(bindings),
  dev: { inspector: false, watch: false, persist, server: { hostname: '127.0.0.1', port: Number(port) } },
});
await worker.ready;
process.on('SIGTERM', async () => {
  await worker.dispose();
  process.exit();
});
