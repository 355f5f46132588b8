// Starts the WASM module, once in a context, and opens models for each set of options.
import initialise, { Models } from '../build/edge_net_worker_sw.js';
import wasmBase64 from '../build/edge_net_worker_sw_bg.wasm';

/**
 * @typedef {import('../../web/edge-net.js').Options} Options
 * @typedef {object} Engine
 * @property {() => Promise<unknown>} start
 * @property {(request: Request, signal?: AbortSignal) => Promise<Response>} fetch
 * @property {(what: string, id?: string) => Promise<any>} ask
 */

/** Events go to all pages of the origin, not only to the one that requested the model. */
export const channel = new BroadcastChannel('edge-net');

/** @type {Promise<unknown> | undefined} */
let module;

/** Why the module does not start, and what helps. */
function reason(error) {
  const said = String(error?.message ?? error);
  if (!/content.security.policy|\bcsp\b|unsafe-eval/i.test(said))
    return `WebAssembly does not start: ${said}`;
  const whose = 'document' in self ? 'this page' : self.location.pathname;
  return (
    `the Content-Security-Policy of ${whose} forbids WebAssembly; ` +
    `add 'wasm-unsafe-eval' to its script-src (${said})`
  );
}

async function instantiate() {
  if (typeof WebAssembly === 'undefined')
    throw new Error('this browser has no WebAssembly; a lockdown mode may have switched it off');
  // `fromBase64`, where the browser has it, is ten times faster.
  const wasm =
    Uint8Array.fromBase64?.(wasmBase64) ??
    Uint8Array.from(atob(wasmBase64), (character) => character.charCodeAt(0));
  await initialise({ module_or_path: wasm }).catch((error) => {
    throw new Error(reason(error), { cause: error });
  });
}

/** Starts the module. The next call retries a start that failed. */
function startModule() {
  module ??= instantiate();
  module.catch(() => (module = undefined));
  return module;
}

const tell = (type, detail) => channel.postMessage({ type, detail });

/** What a page cannot stop by itself ends with `signal`: the stream that it reads. */
const until = (signal) =>
  signal && ((stream) => stream.pipeThrough(new TransformStream(), { signal }));

/**
 * Opens the models that `options` configure.
 * @param {Options} options
 * @returns {Engine}
 */
export function open(options) {
  /** @type {Promise<Models> | undefined} */
  let started;
  const start = () => {
    started ??= startModule().then(() => Models.open(options, tell));
    started.catch(() => (started = undefined));
    return started;
  };
  return {
    start,
    fetch: async (request, signal) => (await start()).answer(request, until(signal)),
    async ask(what, id) {
      // A question about downloads does not start the module.
      if (what === 'downloads' && !started) return [];
      const models = await start();
      if (what === 'manifest') return JSON.parse(await models.manifest(id));
      if (what === 'pin' || what === 'unpin') return models.pin(id, what === 'pin');
      if (['list', 'remove', 'clear', 'verify', 'usage', 'downloads'].includes(what))
        return models[what](id);
      throw new TypeError(`edge-net has no message ${JSON.stringify(what)}`);
    },
  };
}
