// A worker in bare workerd: without the proxies that wrangler puts before it and before its inspector, which hangs under a
// thousand connections. So its isolate can be asked what memory it holds, and be timed beside another worker's.

import { on, once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Miniflare } from 'miniflare';
import { unstable_getMiniflareWorkerOptions as optionsOf } from 'wrangler';
import { WebSocket } from 'ws';
import { startProgram } from './program.mjs';
import { freePort } from './stack.mjs';

const HOST = '127.0.0.1';
const ROOT = fileURLToPath(new URL('..', import.meta.url));

/**
 * Starts the worker of our wrangler.toml, which must have been built, or another one with the same settings.
 * @param {object} options
 * @param {Record<string, string>} options.variables besides those of the configuration
 * @param {string} options.data folder for its log and for what the cache keeps
 * @param {string} [options.main] the other one's module
 */
export async function startIsolate({ variables, data, main }) {
  const [port, inspectorPort] = [await freePort(), await freePort()];
  const settings = JSON.stringify({ variables, main, port, inspectorPort, persist: join(data, 'cache') });
  const env = { WRANGLER_SEND_METRICS: 'false', WRANGLER_LOG_PATH: join(data, 'wrangler') };
  const command = [process.execPath, fileURLToPath(import.meta.url), settings];
  const program = startProgram(command, { cwd: ROOT, env, log: join(data, 'isolate.log'), died: console.error });
  const url = `http://${HOST}:${port}`;
  await program.answers(url, new AbortController().signal).catch(async (error) => {
    await program.stop();
    throw error;
  });
  return { url, pid: program.pid, stop: program.stop, inspect: () => inspect(inspectorPort) };
}

/** Connects to the isolate's inspector. */
async function inspect(port) {
  const targets = await (await fetch(`http://${HOST}:${port}/json`)).json();
  // The others are Miniflare's own.
  const { id } = targets.find(({ id }) => id.startsWith('core:user:'));
  const socket = new WebSocket(`ws://${HOST}:${port}/${id}`, { perMessageDeflate: false });
  const messages = on(socket, 'message', { close: ['close'] });
  await once(socket, 'open');
  const until = async (wanted) => {
    for (;;) {
      const { value, done } = await messages.next();
      if (done) throw new Error('the inspector has closed');
      const message = JSON.parse(value[0]);
      if (message.error) throw new Error(`the inspector says: ${message.error.message}`);
      if (wanted(message)) return message;
    }
  };
  let asked = 0;
  const ask = async (method, params) => {
    socket.send(JSON.stringify({ id: ++asked, method, params }));
    return (await until(({ id }) => id === asked)).result;
  };
  socket.send(JSON.stringify({ id: 0, method: 'Runtime.enable' }));
  const { params } = await until(({ method }) => method === 'Runtime.executionContextCreated');
  const { result: prototype } = await ask('Runtime.evaluate', { expression: 'WebAssembly.Memory.prototype', contextId: params.context.id });
  const { objects: memories } = await ask('Runtime.queryObjects', { prototypeObjectId: prototype.objectId });

  return {
    /** Bytes in use in the isolate, with what is not collected yet: JavaScript's heap, the host's objects in it, array buffers, WASM memory. */
    async memory() {
      const heap = await ask('Runtime.getHeapUsage');
      const sum = 'function () { return this.reduce((sum, memory) => sum + memory.buffer.byteLength, 0); }';
      const wasm = await ask('Runtime.callFunctionOn', { objectId: memories.objectId, functionDeclaration: sum, returnByValue: true });
      return heap.usedSize + heap.embedderHeapUsedSize + heap.backingStorageSize + wasm.result.value;
    },
    close: () => socket.close(),
  };
}

/** The program: one Miniflare, until told to end. */
async function main() {
  const { variables, main, port, inspectorPort, persist } = JSON.parse(process.argv[2]);
  const { workerOptions, main: configured } = optionsOf(join(ROOT, 'wrangler.toml'), 'dev');
  const miniflare = new Miniflare({
    ...workerOptions,
    bindings: { ...workerOptions.bindings, ...variables },
    modules: true,
    modulesRoot: ROOT,
    modulesRules: [{ type: 'ESModule', include: ['**/*.js'] }, ...workerOptions.modulesRules],
    scriptPath: main ?? configured,
    host: HOST,
    port,
    inspectorPort,
    cf: false,
    telemetry: { enabled: false },
    defaultPersistRoot: persist,
  });
  process.on('SIGTERM', async () => {
    await miniflare.dispose();
    process.exit();
  });
  await miniflare.ready;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
