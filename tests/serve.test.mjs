// `make serve`: it starts until the page responds, and leaves no process behind however it is
// killed.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

/** The processes by the id of their parent. */
function children() {
  const byParent = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      // "pid (name) state ppid …"; the name may contain any character.
      const [state, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ');
      if (state !== 'Z')
        byParent.set(Number(parent), [...(byParent.get(Number(parent)) ?? []), Number(pid)]);
    } catch {} // it has exited
  }
  return byParent;
}

function descendants(pid, byParent = children()) {
  return (byParent.get(pid) ?? []).flatMap((child) => [child, ...descendants(child, byParent)]);
}

function isAlive(pid) {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .startsWith('Z');
  } catch {
    return false;
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL']) {
  test(`make serve, ended by ${signal}`, { timeout: 180_000 }, async (context) => {
    const make = spawn('make', ['serve', 'PORT=0', 'EDGE_PORT=0', 'GCS_PORT=0', 'IPFS_PORT=0'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    context.after(() => make.kill('SIGKILL'));
    let said = '';
    const page = await new Promise((resolve, reject) => {
      make.stdout.on('data', (chunk) => {
        said += chunk;
        const [, url] = /^ {2}(http:\S+)$/m.exec(said) ?? [];
        if (url) resolve(url);
      });
      make.on('exit', () => reject(new Error(`make serve ended by itself:\n${said}`)));
    });
    assert.equal((await fetch(page)).status, 200);
    const { edge } = await (await fetch(new URL('dev.json', page))).json();
    assert.equal((await fetch(`${edge}/models/minilm-l6-v2-q8/config.json`)).status, 200);
    const listed = await fetch(`${edge}/v1/models`);
    assert.match(listed.headers.get('server-timing'), /registry;desc=d1/);
    assert.deepEqual(
      (await listed.json()).map(({ id }) => id),
      ['minilm-l6-v2-q8'],
    );
    assert.equal((await fetch(`${edge}/v1/models/minilm-l6-v2-q8/versions`)).status, 200);

    const started = descendants(make.pid);
    assert.ok(started.length >= 4, 'stack, bucket, wrangler and workerd are there');
    // A terminal sends Ctrl-C to the whole group; the other signals go to make only.
    process.kill(signal === 'SIGINT' ? -make.pid : make.pid, signal);
    for (const deadline = Date.now() + 15_000; started.some(isAlive); await sleep(100)) {
      const left = started
        .filter(isAlive)
        .map(
          (pid) => `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')}`,
        );
      assert.ok(Date.now() < deadline, `still running 15 s later:\n${left.join('\n')}`);
    }
  });
}
