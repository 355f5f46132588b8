// The documents: the README stays short, every link between files leads somewhere, and every
// document says whom it is for and is linked from the README. No network.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Folders that hold other people's files, or what was built. */
const SKIPPED = new Set(['node_modules', 'target', 'build', 'dist']);
/** Lines of the README at most. */
const README_LINES = 100;

/** The Markdown files below a folder. */
function documents(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.startsWith('.') || SKIPPED.has(entry.name)) return [];
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return documents(path);
    return entry.name.endsWith('.md') ? [path] : [];
  });
}

/** The lines of a document that are prose: no code blocks, no code spans. */
function prose(text) {
  const withoutBlocks = text.replace(/^(```|~~~)[^]*?^\1\s*$/gm, '').replace(/^ {4}.*$/gm, '');
  return withoutBlocks.replace(/(`+)[^]*?\1/g, (code) => code.replace(/[[\]()]/g, ' '));
}

/** The targets of the links of a document. */
function links(text) {
  return [...prose(text).matchAll(/\]\(([^()\s]+)\)/g)].map(([, target]) => target);
}

/** The anchors of a document, as GitHub makes them from its headings. */
function anchors(text) {
  const seen = new Map();
  const withoutBlocks = text.replace(/^(```|~~~)[^]*?^\1\s*$/gm, '');
  return new Set(
    [...withoutBlocks.matchAll(/^#{1,6} +(.+?) *#*$/gm)].map(([, heading]) => {
      const words = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
      const slug = words.replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, '').replaceAll(' ', '-');
      const count = seen.get(slug) ?? 0;
      seen.set(slug, count + 1);
      return count === 0 ? slug : `${slug}-${count}`;
    }),
  );
}

/** What is wrong with a link of the document at `path`; undefined if nothing is. */
function problem(path, target) {
  if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return undefined; // another site
  const [file, anchor] = target.split('#');
  const to = file === '' ? path : resolve(dirname(path), decodeURIComponent(file));
  if (relative(ROOT, to).startsWith('..')) return 'it leads out of the repository';
  if (!existsSync(to)) return 'there is no such file';
  if (anchor === undefined) return undefined;
  if (statSync(to).isDirectory() || !to.endsWith('.md')) return 'only documents have anchors';
  return anchors(readFileSync(to, 'utf8')).has(anchor) ? undefined : 'there is no such heading';
}

const all = documents(ROOT);

describe('documents', () => {
  test(`the README has at most ${README_LINES} lines`, () => {
    const lines = readFileSync(join(ROOT, 'README.md'), 'utf8').trimEnd().split('\n');
    assert.ok(lines.length <= README_LINES, `it has ${lines.length}`);
  });

  for (const path of all) {
    test(`the links of ${relative(ROOT, path)}`, () => {
      const broken = links(readFileSync(path, 'utf8'))
        .map((target) => [target, problem(path, target)])
        .filter(([, wrong]) => wrong !== undefined);
      assert.deepEqual(broken, []);
    });
  }

  const guides = all.filter((path) => dirname(path) === join(ROOT, 'docs'));
  test('each document in docs/ names its audience and is linked from the README', () => {
    const linked = new Set(links(readFileSync(join(ROOT, 'README.md'), 'utf8')));
    for (const path of guides) {
      const name = relative(ROOT, path);
      assert.match(readFileSync(path, 'utf8'), /^# .+\n\n\*For: /, name);
      assert.ok(linked.has(name), `${name} is not linked from the README`);
    }
  });

  test('a link to a file or a heading that is missing is found', () => {
    const readme = join(ROOT, 'README.md');
    assert.equal(problem(readme, 'missing.md'), 'there is no such file');
    assert.equal(problem(readme, '#missing'), 'there is no such heading');
    assert.equal(problem(readme, '../outside.md'), 'it leads out of the repository');
    assert.equal(problem(readme, 'https://example.com/'), undefined);
    assert.deepEqual(links('[a](b.md) `[c](d.md)`\n\n    [e](f.md)\n'), ['b.md']);
    const text = '## `a` & b_c\n## Same\n## Same\n';
    assert.deepEqual([...anchors(text)], ['a--b_c', 'same', 'same-1']);
  });
});
