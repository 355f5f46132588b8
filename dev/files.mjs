// The source files of a folder, for the checks of `make lint`.

import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';

/** Folders that hold packages or results of builds. */
const SKIPPED = new Set(['node_modules', 'target', 'build', 'dist']);

/**
 * Paths relative to `root`, sorted, of all files that nobody generated.
 * @param {string} root
 * @param {RegExp} pattern of the file's name
 * @returns {string[]}
 */
export function sources(root, pattern) {
  const found = [];
  const visit = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      const hidden = entry.name.startsWith('.') && entry.name !== '.cargo' && entry.name !== '.ci';
      if (entry.isDirectory() && !hidden && !SKIPPED.has(entry.name)) visit(path);
      else if (entry.isFile() && pattern.test(entry.name)) found.push(relative(root, path));
    }
  };
  visit(root);
  return found.sort();
}

/**
 * Prints findings and sets the exit status.
 * @param {string} check
 * @param {string[]} findings
 */
export function report(check, findings) {
  for (const finding of findings) console.error(`${check}: ${finding}`);
  if (findings.length) process.exitCode = 1;
}
