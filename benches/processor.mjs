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

/** The CPU time of a process group, in milliseconds. @param {number} group */
export const ofGroup = (group) =>
  [...processes().values()].reduce((sum, it) => sum + (it.group === group ? it.ms : 0), 0);

/**
 * The CPU time of a process and its descendants, in milliseconds: all processes of a browser.
 * @param {number} root process id
 */
export function ofTree(root) {
  const all = processes();
  const belongs = (pid) => pid === root || (all.has(pid) && belongs(all.get(pid).parent));
  return [...all].reduce((sum, [pid, { ms }]) => sum + (belongs(pid) ? ms : 0), 0);
}
