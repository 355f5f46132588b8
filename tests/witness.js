// The edge worker with a header field that marks responses from Rust, and a clock that can be
// advanced.

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
    return super.fetch(request);
  }
}
