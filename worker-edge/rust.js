// The worker's entry into Rust. When WASM has panicked, the next call starts it anew: its memory
// cannot be relied on. worker-edge/build.sh bundles this file to build/index.js.

import { WorkerEntrypoint } from 'cloudflare:workers';
import * as rust from './build/glue/index.js';

Error.stackTraceLimit = 100;

/** Set by the panic hook of the worker crate too. */
const state = rust.__worker_init_state();

/** Starts WASM anew if it has panicked. */
function recover() {
  if (!state.criticalError) return;
  console.log('Reinitializing Wasm application');
  rust.__wbg_reset_state();
  state.criticalError = false;
  state.instanceId++;
}

/** @param {unknown} error that a call into WASM threw */
function note(error) {
  if (!(error instanceof WebAssembly.RuntimeError)) return;
  console.error('Critical', error);
  state.criticalError = true;
}

// Traps in a task of Rust's executor reach no caller.
addEventListener('error', (event) => note(event.error));

export default class extends WorkerEntrypoint {
  /**
   * @param {Request} request
   * @returns {Promise<Response>}
   */
  async fetch(request) {
    recover();
    try {
      return await rust.fetch.call(this, request, this.env, this.ctx);
    } catch (error) {
      note(error);
      throw error;
    }
  }

  /** What Rust remembers of URLs that it answered: see entry.js. */
  hits() {
    recover();
    try {
      return rust.hits();
    } catch (error) {
      note(error);
      throw error;
    }
  }
}
