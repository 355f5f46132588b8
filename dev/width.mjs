// Fails when a line is longer than 100 characters: `node dev/width.mjs [FOLDER]`.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { report, sources } from './files.mjs';

const WIDTH = 100;
const FILES = /(\.(rs|js|mjs|ts|sh|toml|md|html|css)|^Makefile|^run)$/;
/** What cannot be broken: a URL, or a value such as a hash or a key. */
const UNBREAKABLE = /https?:\/\/[^\s"'`<>)]+|"data:[^"]+"|[\w+/=:.-]{60,}/g;
/** Sessions of the tool: they show commands and output as they are. */
const SESSIONS = 'cli/transcripts/';

const root = process.argv[2] ?? '.';
const findings = [];
for (const path of sources(root, FILES)) {
  if (path.startsWith(SESSIONS)) continue;
  readFileSync(join(root, path), 'utf8')
    .split('\n')
    .forEach((line, index) => {
      if (path.endsWith('.md') && line.trimStart().startsWith('|')) return; // a row of a table
      const length = [...line].length;
      const breakable = [...line.replace(UNBREAKABLE, '')].length;
      if (breakable > WIDTH) findings.push(`${path}:${index + 1}: ${length} characters`);
    });
}
report('width', findings);
