// Reference embeddings: those of native onnxruntime for the same model.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { DEMO } from '../dev/stack.mjs';

/**
 * Tokens by the reference tokenizer and embeddings by native onnxruntime, from the same files.
 * @param {(string | number[])[]} texts or their tokens
 * @returns {Promise<{tokens: number[], embedding: number[]}[]>}
 */
export const references = (texts) => python(['tests/reference_embeddings.py', DEMO.dir], texts);

/**
 * Embeddings by the 32-bit model that the demo model was quantized from.
 * @param {number[][]} tokens
 * @returns {Promise<number[][]>}
 */
export const floats = (tokens) => python(['tests/reference_floats.py'], tokens);

/** Runs a program with JSON as its input; its output is JSON too. */
function python(command, given) {
  return new Promise((resolve, reject) => {
    const child = execFile(
      '.tools/venv/bin/python',
      command,
      { maxBuffer: 1 << 28 },
      (error, stdout) => (error ? reject(error) : resolve(JSON.parse(stdout))),
    );
    child.stdin.end(JSON.stringify(given));
  });
}

/** The embedding of a sentence. @returns {Promise<number[]>} */
export const referenceEmbedding = async (sentence) => (await references([sentence]))[0].embedding;

/** Asserts that all components differ by less than 1e-4. */
export function assertEmbeds(embedding, reference) {
  assert.equal(embedding.length, reference.length);
  const worst = Math.max(...embedding.map((value, i) => Math.abs(value - reference[i])));
  assert.ok(worst < 1e-4, `the worst component is off by ${worst}`);
}
