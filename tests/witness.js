// The edge worker with three additions: a field that marks responses of Rust, a clock that can be
// set forward (x-ahead), and a flag as a panic of Rust leaves it (x-panic).

import Rust from '../worker-edge/build/index.js';
import Entry from '../worker-edge/entry.js';

let ahead = 0;
const now = Date.now;
Date.now = () => now() + ahead;

const inner = Rust.prototype.fetch;
Rust.prototype.fetch = async function (request) {
  const answer = await inner.call(this, request);
  answer.headers.set('x-rust', '1');
  return answer;
};

export default class extends Entry {
  async fetch(request) {
    ahead += Number(request.headers.get('x-ahead') ?? 0);
    if (request.headers.has('x-panic')) globalThis.__worker_init_state.criticalError = true;
    return super.fetch(request);
  }
}
