// Fails when a JavaScript function has more than 80 lines of code, or when Rust code switches off
// the same lint of clippy: `node dev/functions.mjs [FOLDER]`. Blank lines and comments do not count. A test
// inside another test counts as a function of its own.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'acorn';
import { report, sources } from './files.mjs';

const LIMIT = 80; // too-many-lines-threshold in clippy.toml

/**
 * Functions of a script that are too long.
 * @param {string} path
 * @param {string} text
 * @returns {string[]}
 */
function longFunctions(path, text) {
  const comments = [];
  const options = { ecmaVersion: 'latest', sourceType: 'module', locations: true };
  const tree = parse(text, { ...options, allowHashBang: true, onComment: comments });
  const filled = withoutComments(text, comments).split('\n').map((line) => line.trim() !== '');
  const found = [];
  const length = ({ loc }) => filled.slice(loc.start.line - 1, loc.end.line).filter(Boolean).length;
  // Returns the lines of tests in the node, which its functions do not count.
  const visit = (node) => {
    const children = Object.values(node).flat().filter((child) => child?.type && child.loc);
    const tests = children.map(visit).reduce((sum, lines) => sum + lines, 0);
    const lines = length(node) - tests;
    if (/Function(Declaration|Expression)$/.test(node.type) && lines > LIMIT) {
      found.push(`${path}:${node.loc.start.line}: function of ${lines} lines`);
    }
    return isTest(node) ? length(node) : tests;
  };
  visit(tree);
  return found;
}

/** Whether a node declares a test: `test(name, function)`, or `context.test(name, function)`. */
function isTest(node) {
  if (node.type !== 'CallExpression') return false;
  const { name } = node.callee.property ?? node.callee;
  return name === 'test' && /Function/.test(node.arguments.at(-1)?.type);
}

/**
 * The text with the same lines, and without its comments.
 * @param {string} text
 * @param {{start: number, end: number}[]} comments in order
 */
function withoutComments(text, comments) {
  let result = '';
  let from = 0;
  for (const { start, end } of comments) {
    result += text.slice(from, start) + text.slice(start, end).replace(/[^\n]/g, '');
    from = end;
  }
  return result + text.slice(from);
}

const root = process.argv[2] ?? '.';
const findings = [];
for (const path of sources(root, /\.(js|mjs|rs)$/)) {
  const text = readFileSync(join(root, path), 'utf8');
  if (!path.endsWith('.rs')) findings.push(...longFunctions(path, text));
  else if (text.includes('too_many_lines')) findings.push(`${path}: allows long functions`);
}
report('functions', findings);
