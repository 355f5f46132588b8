// The worker that embeds text. All it does itself is to make instances of one WASM module: one that answers, and one for each model,
// so that a model that traps, or makes room, takes nothing with it but its own memory (src/lib.rs).

import module from './build/inference.wasm';
import instantiate from './build/instance.js';

/** Ways out that an instance of a model has: none. */
const nowhere = () => Promise.reject(new Error('a model fetches nothing'));

/** @param {number} size of the model's graph, in bytes */
const createModel = (size) => new (instantiate(module, nowhere).Model)(size);

/** The instance that answers; another one is made when it has panicked. */
let front;

/** @param {{EDGE: Fetcher, PINNED_KEYS: string}} env */
function start(env) {
  const { Front } = instantiate(module, (...asked) => env.EDGE.fetch(...asked));
  return new Front(env, createModel, () => (front = undefined));
}

export default {
  /**
   * @param {Request} request that the edge passes on
   * @param {{EDGE: Fetcher, PINNED_KEYS: string}} env
   * @param {ExecutionContext} context
   */
  fetch(request, env, context) {
    front ??= start(env);
    const answer = front.answer(request);
    // Others wait for the model that this request loads, also when its client has gone.
    context.waitUntil(answer);
    return answer;
  },
};
