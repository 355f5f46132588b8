// CPU time of processes, from /proc (proc_pid_stat(5); ticks of 10 ms).

import { readFileSync, readdirSync } from 'node:fs';

/** Parent, process group and CPU time in milliseconds of every process, by process id. */
function processes() {
  const found = new Map();
  for (const name of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${name}/stat`, 'utf8').split(') ').at(-1).split(' ');
      const [parent, group, user, system] = [1, 2, 11, 12].map((at) => Number(fields[at]));
      found.set(Number(name), { parent, group, ms: (user + system) * 10 });
    } catch {} // it has exited
  }
  return found;
}

/** What a process of Chromium does: `renderer`, `network.mojom.NetworkService`, `browser`. */
function roleOf(pid) {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return /--(?:utility-sub-)?type=(?!utility)([\w.-]+)/.exec(command)?.[1] ?? 'browser';
  } catch {
    return 'exited';
  }
}

/** The CPU time of a process group, in milliseconds. @param {number} group */
export const ofGroup = (group) =>
  [...processes().values()].reduce((sum, it) => sum + (it.group === group ? it.ms : 0), 0);

/**
 * The CPU time of a process of Chromium and its descendants, in milliseconds, by what they do.
 * @param {number} root process id
 * @returns {Record<string, number>}
 */
export function byRole(root) {
  const all = processes();
  const belongs = (pid) => pid === root || (all.has(pid) && belongs(all.get(pid).parent));
  const sums = {};
  for (const [pid, { ms }] of all) {
    if (!belongs(pid)) continue;
    const role = roleOf(pid);
    sums[role] = (sums[role] ?? 0) + ms;
  }
  return sums;
}

/**
 * The same of all together: all processes of a browser.
 * @param {number} root process id
 */
export const ofTree = (root) => Object.values(byRole(root)).reduce((sum, ms) => sum + ms, 0);
