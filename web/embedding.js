// Sentence embeddings in the page: unmodified onnxruntime-web and the model's tokenizer read their
// files below /models/.

import * as ort from './dist/ort/ort.wasm.min.mjs';
import { Tokenizer } from './dist/tokenizers.mjs';

ort.env.wasm.wasmPaths = new URL('./dist/ort/', import.meta.url).href;
// More threads need a cross-origin isolated page, which the demo does not require.
ort.env.wasm.numThreads = 1;

/**
 * Opens a sentence-transformers model of the BERT family.
 * @param {object} options
 * @param {string} options.base  URL of the model's folder, such as '/models/minilm-l6-v2-q8/'
 * @param {typeof fetch} [options.fetch]  a verified fetch; not needed with a service worker
 * @returns {Promise<{embed(text: string): Promise<Float32Array>}>} embeddings of length 1
 */
export async function createEmbedder({ base, fetch = globalThis.fetch }) {
  const file = async (name) => {
    const response = await fetch(base + name);
    if (!response.ok) throw new Error(`${base}${name}: status ${response.status}`);
    return response;
  };
  const tokenizer = new Tokenizer(await (await file('tokenizer.json')).json(), {});
  // With a service worker the runtime opens the URL; without, it gets the bytes.
  const model =
    fetch === globalThis.fetch
      ? base + 'model.onnx'
      : new Uint8Array(await (await file('model.onnx')).arrayBuffer());
  const session = await ort.InferenceSession.create(model);

  return {
    async embed(text) {
      const ids = BigInt64Array.from(tokenizer.encode(text).ids, BigInt);
      const tensor = (values) => new ort.Tensor('int64', values, [1, ids.length]);
      const { last_hidden_state: hidden } = await session.run({
        input_ids: tensor(ids),
        attention_mask: tensor(new BigInt64Array(ids.length).fill(1n)),
        token_type_ids: tensor(new BigInt64Array(ids.length)),
      });
      return normalised(mean(hidden.data, ids.length));
    },
  };
}

/** The mean over the tokens. @param {Float32Array} hidden tokens × width @param {number} tokens */
function mean(hidden, tokens) {
  const width = hidden.length / tokens;
  return Float32Array.from({ length: width }, (_, column) => {
    let sum = 0;
    for (let token = 0; token < tokens; token++) sum += hidden[token * width + column];
    return sum / tokens;
  });
}

/** @param {Float32Array} vector */
function normalised(vector) {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

/** The cosine of two embeddings of length 1. @param {Float32Array} a @param {Float32Array} b */
export function similarity(a, b) {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}
