// The edge and the inference worker as one worker, for the comparison with two.

import Edge from '../../worker-edge/entry.js';
import inference from '../../worker-inference/entry.js';

export default class extends Edge {
  constructor(context, env) {
    const edge = { fetch: (...asked) => this.fetch(new Request(...asked)) };
    super(context, {
      ...env,
      INFERENCE: { fetch: (request) => inference.fetch(request, { ...env, EDGE: edge }, context) },
    });
  }
}
