// `edge-net-models embed`: any text gives the tokens of the reference tokenizer, and the vectors of
// onnxruntime.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { DEMO } from '../dev/stack.mjs';
import { sentences } from './lee.mjs';
import { random } from './ranges.mjs';
import { assertEmbeds, floats, references } from './reference-embedding.mjs';

const OPTIONS = { encoding: 'utf8', maxBuffer: 1 << 30, stdio: ['pipe', 'pipe', 'pipe'] };
const embed = (input, ...options) =>
  execFileSync('target/release/edge-net-models', ['embed', DEMO.dir, ...options], {
    ...OPTIONS,
    input,
  });
const rows = (out) =>
  out
    .trimEnd()
    .split('\n')
    .map((row) => JSON.parse(row));

const LINES = 10_000;
/** Parts of generated lines: a range of code points, or a list of pieces, without line feeds. */
const PIECES = [
  [0x21, 0x7e],
  [0x01, 0x09],
  [0x0e, 0x1f],
  [0x7f, 0x9f],
  [0xa0, 0x24f],
  [0x300, 0x36f], // combining marks
  [0x370, 0x5ff],
  [0x600, 0x6ff],
  [0x900, 0x97f],
  [0xe00, 0xe7f],
  [0x1100, 0x11ff],
  [0x2000, 0x206f], // spaces of all widths, and marks of direction
  [0x3000, 0x30ff],
  [0x4e00, 0x9fff],
  [0xac00, 0xd7a3],
  [0xe000, 0xe0ff], // private use
  [0xfe00, 0xffff],
  [0x1f300, 0x1faff],
  [0x20000, 0x2a6df],
  [
    '👩‍👩‍👧‍👦',
    '🏳️‍🌈',
    '🇩🇪',
    '👍🏽',
    'e\u0301',
    'ﬁ',
    'İstanbul',
    'ẞ',
    'ς',
    'Ǆ',
    '한국어',
    '日本語',
    '\u200b',
    '\ufeff',
    '\ufffd',
  ],
  [
    '[CLS]',
    '[SEP]',
    '[MASK]',
    '[UNK]',
    '[PAD]',
    '##ing',
    '[unused1]',
    "don't",
    'U.S.A.',
    '3,141.59',
    'https://example.com/?q=a&b',
    '…',
    '--',
    '(((',
  ],
  [
    'the',
    'embedding',
    'Antidisestablishmentarianism',
    'tokens',
    'are',
    'compared',
    'one',
    'by',
    'one',
    'naïve',
    'façade',
    'Ünïcödé',
  ],
];

function lines() {
  const next = random(2026);
  const below = (n) => Math.floor(next() * n);
  const piece = () => {
    const from = PIECES[below(PIECES.length)];
    return typeof from[0] === 'string'
      ? from[below(from.length)]
      : String.fromCodePoint(from[0] + below(from[1] - from[0] + 1));
  };
  const all = Array.from({ length: LINES }, () =>
    Array.from({ length: 1 + below(24) }, () => piece() + ' '.repeat(below(3) === 0)).join(''),
  );
  // Words of 100 KB, of one script or of several.
  for (const [at, word] of ['a', '漢', 'e\u0301', '👍🏽', '##'].entries())
    all[1 + at * 1000] = word.repeat(100_000 / word.length);
  all[7] = Array.from({ length: 30_000 }, piece).join('');
  all[8] = '';
  return all;
}

const REFERENCE = `
import json, sys
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
tokenizer.no_padding()
tokenizer.no_truncation()
json.dump([tokenizer.encode(line).ids for line in json.load(sys.stdin)], sys.stdout)
`;

test(`the tokens of ${LINES} lines equal those of the reference tokenizer`, () => {
  const texts = lines();
  const wanted = JSON.parse(
    execFileSync('.tools/venv/bin/python', ['-c', REFERENCE, join(DEMO.dir, 'tokenizer.json')], {
      ...OPTIONS,
      input: JSON.stringify(texts),
    }),
  );
  const found = rows(embed(texts.map((text) => `${text}\n`).join(''), '--tokens'));
  assert.equal(found.length, LINES);
  for (const [at, tokens] of found.entries())
    assert.deepEqual(tokens, wanted[at], `line ${at}: ${JSON.stringify(texts[at].slice(0, 200))}`);
  // Lines of unknown tokens only would prove nothing.
  const unknown = wanted.flat().filter((token) => token === 100).length;
  assert.ok(
    unknown < wanted.flat().length / 4,
    `${unknown} of ${wanted.flat().length} are unknown`,
  );
});

test('vectors of native onnxruntime, as near to the unquantized model', async (context) => {
  const texts = sentences.slice(0, 200);
  const ours = rows(embed(texts.map((text) => `${text}\n`).join('')));
  const theirs = await references(texts);
  assert.equal(ours.length, texts.length);
  ours.forEach((vector, i) => assertEmbeds(vector, theirs[i].embedding));
  const exact = await floats(theirs.map(({ tokens }) => tokens));
  const cosines = (vectors) =>
    vectors.map((vector, i) => vector.reduce((sum, x, at) => sum + x * exact[i][at], 0));
  const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
  const [our, their] = [cosines(ours), cosines(theirs.map(({ embedding }) => embedding))];
  const figures = (all) => `mean ${mean(all).toFixed(6)}, least ${Math.min(...all).toFixed(6)}`;
  context.diagnostic(`cosine to 32-bit floats: ${figures(our)}; onnxruntime's ${figures(their)}`);
  assert.ok(mean(our) > 0.998 && Math.min(...our) > 0.99);
  assert.ok(Math.abs(mean(our) - mean(their)) < 1e-5);
});

test('an error names what cannot be embedded, and nothing is printed', () => {
  const fails = (input, ...command) => {
    try {
      execFileSync('target/release/edge-net-models', ['embed', ...command], { ...OPTIONS, input });
    } catch ({ status, stdout, stderr }) {
      assert.deepEqual([status, stdout], [1, '']);
      return stderr;
    }
    assert.fail(`${command} must fail`);
  };
  assert.equal(
    fails('short\n' + 'word '.repeat(300) + '\n', DEMO.dir),
    'error: text 2: the input has 302 tokens; this model takes at most 256\n',
  );
  assert.equal(
    fails('', 'nobodys'),
    'error: nobodys is not in the cache; run: edge-net-models pull nobodys\n',
  );
  assert.match(fails('', 'tests'), /^error: tests\/tokenizer\.json: No such file/);
});
