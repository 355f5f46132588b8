// The workers with access to their isolates: memory, and time beside another worker's.

import { on, once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { startProgram } from './program.mjs';
import { freePort } from './stack.mjs';
import { workers } from './workers.mjs';

const HOST = '127.0.0.1';
const ROOT = fileURLToPath(new URL('..', import.meta.url));

/**
 * Starts the edge, which must be built, or another worker with the same settings; and the inference
 * worker, if configured.
 * @param {object} options
 * @param {Record<string, string>} options.variables in addition to those of the configuration
 * @param {Record<string, string> | null} [options.inference] variables of the inference worker;
 *   without, it does not run
 * @param {string} options.data folder for its log and its cache
 * @param {string} [options.main] the module of the other worker
 */
export async function startIsolate({ variables, inference = null, data, main }) {
  const [port, inspectorPort] = [await freePort(), await freePort()];
  const env = { WRANGLER_SEND_METRICS: 'false', WRANGLER_LOG_PATH: join(data, 'wrangler') };
  const command = workers({
    port,
    inspectorPort,
    persist: join(data, 'cache'),
    variables,
    inference,
    main,
  });
  const program = startProgram(command, {
    cwd: ROOT,
    env,
    log: join(data, 'isolate.log'),
    died: console.error,
  });
  const url = `http://${HOST}:${port}`;
  await program.answers(url, new AbortController().signal).catch(async (error) => {
    await program.stop();
    throw error;
  });
  return {
    url,
    pid: program.pid,
    stop: program.stop,
    inspect: (worker) => inspect(inspectorPort, worker),
  };
}

/** Connects to the inspector of an isolate, by default the edge's. */
async function inspect(port, worker = 'edge-net-models-dev') {
  const targets = await (await fetch(`http://${HOST}:${port}/json`)).json();
  const { id } = targets.find(({ id }) => id === `core:user:${worker}`);
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
  const { result: prototype } = await ask('Runtime.evaluate', {
    expression: 'WebAssembly.Memory.prototype',
    contextId: params.context.id,
  });
  /** This collects all garbage. The objects it returns stay until they are released. */
  const memories = async () =>
    (await ask('Runtime.queryObjects', { prototypeObjectId: prototype.objectId })).objects.objectId;
  let first;
  const sum =
    'function () { return this.reduce((sum, memory) => sum + memory.buffer.byteLength, 0); }';
  const bytesOf = async (objectId) =>
    (
      await ask('Runtime.callFunctionOn', {
        objectId,
        functionDeclaration: sum,
        returnByValue: true,
      })
    ).result.value;

  return {
    /**
     * Bytes in use in the isolate, including garbage: the JavaScript heap, host objects, array
     * buffers, and the WASM memory of the instances that existed at the first call.
     */
    async memory() {
      first ??= await memories();
      const heap = await ask('Runtime.getHeapUsage');
      return (
        heap.usedSize + heap.embedderHeapUsedSize + heap.backingStorageSize + (await bytesOf(first))
      );
    },
    /**
     * The same after all garbage is collected, with the WASM memory of all instances, and that
     * alone.
     */
    async kept() {
      const found = await memories();
      const wasm = await bytesOf(found);
      await ask('Runtime.releaseObject', { objectId: found });
      const heap = await ask('Runtime.getHeapUsage');
      return {
        all: heap.usedSize + heap.embedderHeapUsedSize + heap.backingStorageSize + wasm,
        wasm,
      };
    },
    close: () => socket.close(),
  };
}
