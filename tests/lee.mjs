// English texts with human judgements of similarity: the corpus of Lee, Pincombe and Welsh (2005),
// from a package.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const lines = (name) => {
  const [python] = readdirSync('.tools/venv/lib');
  return readFileSync(
    join('.tools/venv/lib', python, 'site-packages/gensim/test/test_data', name),
    'utf8',
  )
    .split('\n')
    .filter(Boolean);
};

/** Fifty short news documents. */
export const documents = lines('lee.cor');

/** The judged similarity of each pair: [one, other, similarity from 0 to 1]. */
export const judgements = lines('similarities0-1.txt').flatMap((row, one) =>
  row
    .split('\t')
    .map(Number)
    .flatMap((likeness, other) => (other > one ? [[one, other, likeness]] : [])),
);

/** The sentences of three hundred other news documents. */
export const sentences = lines('lee_background.cor').flatMap((text) =>
  text.split(/(?<=[.?!]) +(?=[A-Z"])/),
);
