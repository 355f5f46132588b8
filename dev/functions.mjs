// Fails when a JavaScript function has more than 80 lines of code, or when Rust code switches off
// the same lint of clippy: `node dev/functions.mjs [FOLDER]`. Blank lines and comments do not
// count. A test inside another test counts as a function of its own; a suite is no function.

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
  const tree = parse(text, { ...options, allowReturnOutsideFunction: true, onComment: comments });
  const filled = withoutComments(text, comments)
    .split('\n')
    .map((line) => line.trim() !== '');
  const found = [];
  const length = ({ loc }) => filled.slice(loc.start.line - 1, loc.end.line).filter(Boolean).length;
  const suites = new Set();
  // Returns the lines of tests in the node, which its functions do not count.
  const visit = (node) => {
    suites.add(callback(node, 'describe'));
    const children = Object.values(node)
      .flat()
      .filter((child) => child?.type && child.loc);
    const tests = children.map(visit).reduce((sum, lines) => sum + lines, 0);
    const lines = length(node) - tests;
    if (/Function(Declaration|Expression)$/.test(node.type) && lines > LIMIT && !suites.has(node)) {
      found.push(`${path}:${node.loc.start.line}: function of ${lines} lines`);
    }
    return callback(node, 'test') ? length(node) : tests;
  };
  visit(tree);
  return found;
}

/** The function of a call such as `describe(name, function)`, or nothing. */
function callback(node, called) {
  if (node.type !== 'CallExpression') return undefined;
  const { name } = node.callee.property ?? node.callee;
  const last = node.arguments.at(-1);
  return name === called && /Function/.test(last?.type) ? last : undefined;
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
