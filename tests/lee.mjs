// Texts in English, and what people said of how alike some of them are: the corpus of Lee, Pincombe and Welsh (2005), as a package has it.

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

/** How alike people found each two of them: [one, other, likeness from 0 to 1]. */
export const judgements = lines('similarities0-1.txt').flatMap((row, one) =>
  row
    .split('\t')
    .map(Number)
    .flatMap((likeness, other) => (other > one ? [[one, other, likeness]] : [])),
);

/** Sentences of three hundred other news documents. */
export const sentences = lines('lee_background.cor').flatMap((text) =>
  text.split(/(?<=[.?!]) +(?=[A-Z"])/),
);
