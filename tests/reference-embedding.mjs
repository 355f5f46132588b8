// What an embedding should be: native onnxruntime's, of the same model.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { DEMO } from '../dev/stack.mjs';

/** The embedding of a sentence by native onnxruntime and the reference tokenizer, from the same files. @returns {Promise<number[]>} */
export async function referenceEmbedding(sentence) {
  const { stdout } = await promisify(execFile)('.tools/venv/bin/python', ['tests/reference_embedding.py', DEMO.dir, sentence]);
  return JSON.parse(stdout);
}

/** Asserts that no component is off by 1e-4. */
export function assertEmbeds(embedding, reference) {
  assert.equal(embedding.length, reference.length);
  const worst = Math.max(...embedding.map((value, i) => Math.abs(value - reference[i])));
  assert.ok(worst < 1e-4, `the worst component is off by ${worst}`);
}
