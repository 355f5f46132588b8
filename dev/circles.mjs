// Fails when files import one another in a circle, or import against the order of the layers:
// `node dev/circles.mjs [FOLDER]`. It reads Rust paths (`use crate::a::b`, `super::c`, `child::d`)
// and relative imports of JavaScript and TypeScript. A re-export is not an import: a path to a
// re-exported name leads to the file that defines it. Modules under `#[cfg(test)]` do not count.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { report, sources } from './files.mjs';

/** Folders of the core, lowest first: none imports one to its right. */
const LAYERS = ['src/dag', 'src/trust', 'src/http', 'src/transfer'];
/** Packages that nothing depends on. */
const TOPS = /^edge-net-(worker-.*|cli)$/;

/** @typedef {Map<string, Set<string>>} Graph what each file imports */

/**
 * One circle of a graph, or nothing.
 * @param {Graph} graph
 * @returns {string[] | undefined} its nodes in order; the first one stands at the end again
 */
export function circle(graph) {
  const done = new Set();
  const path = [];
  const visit = (node) => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
    if (done.has(node)) return;
    path.push(node);
    for (const next of graph.get(node) ?? []) {
      const found = visit(next);
      if (found) return found;
    }
    path.pop();
    done.add(node);
  };
  for (const node of graph.keys()) {
    const found = visit(node);
    if (found) return found;
  }
}

/**
 * All circles that share no arrow.
 * @param {Graph} graph
 */
function circles(graph) {
  const found = [];
  for (let next; (next = circle(graph));) {
    found.push(next.join(' -> '));
    for (let i = 1; i < next.length; i++) graph.get(next[i - 1]).delete(next[i]);
  }
  return found;
}

// --- JavaScript and TypeScript --------------------------------------------------------------------

const IMPORT = /\b(?:from|import)\s*\(?\s*(['"])(\.{1,2}\/[^'"]+)\1/g;

/**
 * @param {string} root
 * @returns {Graph}
 */
export function scriptGraph(root) {
  const graph = new Map();
  for (const path of sources(root, /\.(js|mjs|ts)$/)) {
    const text = readFileSync(join(root, path), 'utf8').replace(/^\s*(\/\/|\/?\*).*$/gm, '');
    const imported = [...text.matchAll(IMPORT)].map(([, , to]) =>
      normalize(join(dirname(path), to)),
    );
    graph.set(path, new Set(imported));
  }
  return graph;
}

// --- Rust -----------------------------------------------------------------------------------------

/**
 * Rust code without comments, strings and test modules.
 * @param {string} text
 */
function codeOnly(text) {
  const strings =
    /\/\/.*|\/\*[^]*?\*\/|b?r(#*)"[^]*?"\1|b?"(?:\\[^]|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'/g;
  let code = text.replace(strings, ' ');
  for (const test = /#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:pub\s*)?mod\s+\w+\s*\{/; ;) {
    const found = test.exec(code);
    if (!found) return code;
    let end = found.index + found[0].length;
    for (let depth = 1; depth && end < code.length; end++)
      depth += { '{': 1, '}': -1 }[code[end]] ?? 0;
    code = code.slice(0, found.index) + code.slice(end);
  }
}

/**
 * The paths of a `use` tree: `a::{b, c::d as e}` is [[a, b], [a, c, d]].
 * @param {string} tree
 * @returns {string[][]}
 */
function usePaths(tree) {
  const brace = tree.indexOf('{');
  if (brace < 0)
    return [
      tree
        .replace(/\s+as\s+\w+/, '')
        .split('::')
        .map((part) => part.trim()),
    ];
  const before = tree
    .slice(0, brace)
    .split('::')
    .map((part) => part.trim())
    .filter(Boolean);
  const parts = [''];
  let depth = 0;
  for (const letter of tree.slice(brace + 1, tree.lastIndexOf('}'))) {
    depth += { '{': 1, '}': -1 }[letter] ?? 0;
    if (letter === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += letter;
  }
  return parts
    .filter((part) => part.trim())
    .flatMap(usePaths)
    .map((path) => [...before, ...path]);
}

/**
 * @typedef {object} Module
 * @property {string} file
 * @property {string} code
 * @property {string[]} path of the module, without `crate`
 * @property {Map<string, string[]>} exports names that it re-exports, and their absolute paths
 */

/**
 * Reads a module and those that it declares.
 * @param {string} root
 * @param {string} file
 * @param {string[]} path
 * @param {Map<string, Module>} modules by path
 */
function readModule(root, file, path, modules) {
  const code = codeOnly(readFileSync(join(root, file), 'utf8'));
  modules.set(path.join('::'), { file, code, path, exports: new Map() });
  const isRoot = /(^|\/)(mod|lib|main)\.rs$/.test(file);
  const folder = isRoot ? dirname(file) : file.replace(/\.rs$/, '');
  const declared = /(#\[cfg\((?:all\()?test\b[^\]]*\]\s*)?\bmod\s+(\w+)\s*;/g;
  for (const [, test, name] of code.matchAll(declared)) {
    if (test) continue;
    const child = [`${folder}/${name}.rs`, `${folder}/${name}/mod.rs`].find((at) =>
      existsSync(join(root, at)),
    );
    if (child) readModule(root, child, [...path, name], modules);
  }
}

/**
 * A path as it is from the root of the crate, or nothing where it leads out of the crate.
 * @param {string[]} path
 * @param {Module} from
 * @param {Map<string, Module>} modules
 */
function absolute([first, ...rest], from, modules) {
  if (first === 'crate') return rest;
  if (first === 'self') return [...from.path, ...rest];
  if (modules.has([...from.path, first].join('::'))) return [...from.path, first, ...rest];
  if (first !== 'super') return;
  const up = rest.findIndex((part) => part !== 'super');
  const levels = 1 + (up < 0 ? rest.length : up);
  return [...from.path.slice(0, from.path.length - levels), ...rest.slice(levels - 1)];
}

/**
 * The file that defines what a path names.
 * @param {string[]} path from the root of the crate
 * @param {Map<string, Module>} modules
 * @param {number} [hops] re-exports still followed
 */
function definingFile(path, modules, hops = 8) {
  for (let length = path.length; length >= 0; length--) {
    const module = modules.get(path.slice(0, length).join('::'));
    if (!module) continue;
    const target = hops && module.exports.get(path[length]);
    return target
      ? definingFile([...target, ...path.slice(length + 1)], modules, hops - 1)
      : module.file;
  }
}

const USE = /(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);/g;
const INLINE = /(?<![\w:]|::\s*)((?:crate|self|super|[a-z_]\w*)(?:::\w+)+)/g;

/**
 * @param {string} root
 * @param {string} file of the root module
 * @returns {Graph}
 */
export function rustGraph(root, file) {
  const modules = new Map();
  readModule(root, file, [], modules);
  for (const module of modules.values()) {
    const rest = module.code.replace(USE, ' ');
    for (const [, shared, tree] of module.code.matchAll(USE)) {
      for (const path of shared ? usePaths(tree) : []) {
        const name = path.at(-1);
        const target = absolute(path, module, modules);
        // A name that this file uses itself is imported, too.
        if (target && !new RegExp(`\\b${name.replace('*', '\\*')}\\b`).test(rest))
          module.exports.set(name, target);
      }
    }
  }
  const graph = new Map([...modules.values()].map((module) => [module.file, new Set()]));
  for (const module of modules.values()) {
    const paths = [...module.code.replace(USE, ' ').matchAll(INLINE)].map(([, path]) =>
      path.split('::'),
    );
    for (const [, , tree] of module.code.matchAll(USE)) {
      paths.push(...usePaths(tree).filter((path) => !module.exports.has(path.at(-1))));
    }
    for (const path of paths) {
      const target = absolute(path, module, modules);
      const imported = target && definingFile(target, modules);
      if (imported && imported !== module.file) graph.get(module.file).add(imported);
    }
  }
  return graph;
}

/**
 * Imports that go up the layers of the core.
 * @param {Graph} graph
 */
function upward(graph) {
  const layer = (file) => LAYERS.findIndex((folder) => file.startsWith(`${folder}/`));
  return [...graph].flatMap(([file, imported]) =>
    [...imported]
      .filter((to) => layer(file) >= 0 && layer(file) < layer(to))
      .map((to) => `${file} imports ${to}, which is in a layer above it`),
  );
}

/**
 * Dependencies of a package on a worker or the command line tool.
 * @param {string} manifest
 * @param {string} text
 */
function dependenciesOnTops(manifest, text) {
  return [...text.matchAll(/^\[([\w.-]*dependencies)(?:\.([\w-]+))?\]([^[]*)/gm)]
    .filter(([, section]) => !section.startsWith('workspace'))
    .flatMap(([, , name, body]) => [
      name,
      ...[...body.matchAll(/^([\w-]+)\s*[.=]/gm)].map(([, key]) => key),
    ])
    .filter((name) => name && TOPS.test(name))
    .map((name) => `${manifest} depends on ${name}: nothing may depend on a worker or the tool`);
}

/**
 * All findings in a folder.
 * @param {string} root
 * @returns {string[]}
 */
export function check(root) {
  const findings = circles(scriptGraph(root));
  for (const manifest of sources(root, /^Cargo\.toml$/)) {
    findings.push(...dependenciesOnTops(manifest, readFileSync(join(root, manifest), 'utf8')));
    for (const name of ['lib.rs', 'main.rs']) {
      const file = join(dirname(manifest), 'src', name);
      if (!existsSync(join(root, file))) continue;
      const graph = rustGraph(root, file);
      if (dirname(manifest) === '.') findings.push(...upward(graph));
      findings.push(...circles(graph));
    }
  }
  return findings;
}

if (process.argv[1]?.endsWith('circles.mjs')) report('circles', check(process.argv[2] ?? '.'));
