// The workers in one workerd, without wrangler's proxies before worker and inspector: the inspector
// reports every 4 KiB that a worker receives, which makes downloads thirty times slower, and hangs
// with a thousand connections.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Miniflare } from 'miniflare';
import { unstable_getMiniflareWorkerOptions as optionsOf } from 'wrangler';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const HOST = '127.0.0.1';

/**
 * The command that runs the workers until it is stopped. They must be built.
 * @param {object} settings
 * @param {number} settings.port
 * @param {number} [settings.inspectorPort] without, there is no inspector
 * @param {string} settings.persist folder of caches and databases
 * @param {Record<string, string | object>} settings.variables more variables and rate limits of the
 *   edge
 * @param {Record<string, string> | null} [settings.inference] those of the inference worker; null:
 *   it does not run
 * @param {string} [settings.main] another module with the edge's settings
 */
export const workers = (settings) => [
  process.execPath,
  fileURLToPath(import.meta.url),
  JSON.stringify(settings),
];

/** Miniflare's options for the worker of a configuration file. */
function worker(name, config, { variables, main }) {
  const { workerOptions, main: configured } = optionsOf(join(ROOT, config), 'dev');
  const isText = (name) => typeof variables[name] === 'string';
  const pick = (wanted) =>
    Object.fromEntries(Object.entries(variables).filter(([name]) => wanted(name)));
  const limits = Object.entries(workerOptions.ratelimits ?? {}).filter(
    ([name]) => !(name in variables),
  );
  return {
    ...workerOptions,
    name,
    bindings: { ...workerOptions.bindings, ...pick(isText) },
    ratelimits: { ...Object.fromEntries(limits), ...pick((name) => !isText(name)) },
    modules: true,
    modulesRoot: ROOT,
    modulesRules: [{ type: 'ESModule', include: ['**/*.js'] }, ...workerOptions.modulesRules],
    scriptPath: main ?? configured,
  };
}

/** The program. */
async function main() {
  const {
    port,
    inspectorPort,
    persist,
    variables,
    inference = {},
    main,
  } = JSON.parse(process.argv[2]);
  // Create the registry's tables, unless they exist.
  const migrate = [
    'd1',
    'migrations',
    'apply',
    'REGISTRY',
    '--local',
    '--env=dev',
    `--persist-to=${persist}`,
  ];
  const migrated = spawnSync(join(ROOT, 'node_modules/.bin/wrangler'), migrate, {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (migrated.status)
    console.error(`the registry has no tables: ${migrated.stdout}${migrated.stderr}`);
  const edge = worker('edge-net-models-dev', 'wrangler.toml', { variables, main });
  const { PINNED_KEYS } = variables;
  const others = inference
    ? [
        worker('edge-net-inference-dev', 'worker-inference/wrangler.toml', {
          variables: { PINNED_KEYS, ...inference },
        }),
      ]
    : [];
  if (!inference) delete edge.serviceBindings.INFERENCE;
  const miniflare = new Miniflare({
    workers: [edge, ...others],
    host: HOST,
    port,
    inspectorPort,
    cf: false,
    telemetry: { enabled: false },
    defaultPersistRoot: join(persist, 'v3'),
  });
  process.on('SIGTERM', async () => {
    await miniflare.dispose();
    process.exit();
  });
  await miniflare.ready;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
