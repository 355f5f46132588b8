// A child program that ends with this one.

import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Prefix of a command that the kernel kills when this process dies, even by SIGKILL; empty without
 * util-linux.
 */
const END_WITH_US =
  spawnSync('setpriv', ['--pdeathsig', 'TERM', 'true']).status === 0
    ? ['setpriv', '--pdeathsig', 'TERM', '--']
    : [];

/** The limits for a program to respond at first, and to exit when stopped, in milliseconds. */
const PATIENCE = { start: 300_000, stop: 1000 };

/**
 * Starts a program.
 * @param {string[]} command
 * @param {object} options
 * @param {string} options.cwd
 * @param {Record<string, string>} [options.env] in addition to this process's own
 * @param {string} options.log file to append its output to
 * @param {(message: string) => void} options.died called when it exits without being stopped
 */
export function startProgram(command, { cwd, env, log, died }) {
  const out = openSync(log, 'a');
  const [file, ...args] = [...END_WITH_US, ...command];
  // A new process group, so that its children can be stopped with it.
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', out, out],
    detached: true,
  });
  closeSync(out);

  const lastWords = async (what) => {
    const lines = (await readFile(log, 'utf8')).trim().split('\n');
    return `${command[0]} ${what}:\n${lines.slice(-20).join('\n')}`;
  };
  let ended = false;
  let stopping = false;
  const end = new Promise((resolve) => child.on('exit', resolve).on('error', resolve)).then(
    async () => {
      ended = true;
      if (!stopping) died(await lastWords('ended by itself'));
    },
  );
  const signalGroup = (signal) => {
    try {
      process.kill(-child.pid, signal);
    } catch {} // no process is left
  };

  return {
    /** The leader of the process group. */
    pid: child.pid,

    /** Resolves when `url` responds with any status; rejects when the program exits before. */
    async answers(url, signal) {
      for (const deadline = Date.now() + PATIENCE.start; Date.now() < deadline; await sleep(50)) {
        signal.throwIfAborted();
        if (ended) throw new Error(await lastWords('did not start'));
        try {
          const answer = await fetch(url, { signal: AbortSignal.timeout(5000) });
          return await answer.body?.cancel();
        } catch {} // not yet
      }
      throw new Error(await lastWords(`did not answer in ${PATIENCE.start / 1000} s`));
    },

    /** Stops it and all its children. */
    async stop() {
      stopping = true;
      signalGroup('SIGTERM');
      await Promise.race([end, sleep(PATIENCE.stop)]);
      signalGroup('SIGKILL');
      await end;
    },
  };
}
