// The entry point of the inference worker. It makes instances of one WASM module: one that answers
// requests, and one for each model. If a model traps, or makes room, only its own memory is lost
// (src/lib.rs).

import module from './build/inference.wasm';
import instantiate from './build/instance.js';

/** The `fetch` of a model's instance, which reaches nothing. */
const nowhere = () => Promise.reject(new Error('a model fetches nothing'));

/** @param {number} size of the model's graph, in bytes */
const createModel = (size) => new (instantiate(module, nowhere).Model)(size);

/** The instance that answers requests; a new one is made after a panic. */
let front;

/** @param {{EDGE: Fetcher, PINNED_KEYS: string}} env */
function start(env) {
  const { Front } = instantiate(module, (...asked) => env.EDGE.fetch(...asked));
  return new Front(env, createModel, () => (front = undefined));
}

export default {
  /**
   * @param {Request} request which the edge passed on
   * @param {{EDGE: Fetcher, PINNED_KEYS: string}} env
   * @param {ExecutionContext} context
   */
  fetch(request, env, context) {
    front ??= start(env);
    const answer = front.answer(request);
    // Other requests wait for the model that this one loads, even if its client left.
    context.waitUntil(answer);
    return answer;
  },
};
