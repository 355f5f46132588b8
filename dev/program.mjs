// A program that runs beside this one, and ends with it.

import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** Prefix of a command that the kernel ends when this process dies, even of SIGKILL; empty where util-linux is not there. */
const END_WITH_US =
  spawnSync('setpriv', ['--pdeathsig', 'TERM', 'true']).status === 0
    ? ['setpriv', '--pdeathsig', 'TERM', '--']
    : [];

/** How long a program may take to answer at first, and to end when told to, in milliseconds. */
const PATIENCE = { start: 300_000, stop: 1000 };

/**
 * Starts a program.
 * @param {string[]} command
 * @param {object} options
 * @param {string} options.cwd
 * @param {Record<string, string>} [options.env] besides this process's own
 * @param {string} options.log file that its output is added to
 * @param {(message: string) => void} options.died told when it ends without having been stopped
 */
export function startProgram(command, { cwd, env, log, died }) {
  const out = openSync(log, 'a');
  const [file, ...args] = [...END_WITH_US, ...command];
  // A process group of its own, so that what the program starts in turn can be stopped with it.
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', out, out],
    detached: true,
  });
  closeSync(out);

  const lastWords = async (what) =>
    `${command[0]} ${what}:\n${(await readFile(log, 'utf8')).trim().split('\n').slice(-20).join('\n')}`;
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
    } catch {} // nobody is left
  };

  return {
    /** Leads the process group. */
    pid: child.pid,

    /** Resolves when `url` gives an HTTP answer of any status; rejects when the program ends before that. */
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

    /** Ends it and everything it started. */
    async stop() {
      stopping = true;
      signalGroup('SIGTERM');
      await Promise.race([end, sleep(PATIENCE.stop)]);
      signalGroup('SIGKILL');
      await end;
    },
  };
}
