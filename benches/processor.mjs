// CPU time of processes, from /proc (proc_pid_stat(5); ticks of 10 ms), and limits of it by control
// groups.

import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';

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

/** A process and its descendants. @returns {number[]} */
function treeOf(root, all = processes()) {
  const belongs = (pid) => pid === root || (all.has(pid) && belongs(all.get(pid).parent));
  return [...all.keys()].filter(belongs);
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
  const sums = {};
  for (const pid of treeOf(root, all)) {
    const role = roleOf(pid);
    sums[role] = (sums[role] ?? 0) + all.get(pid).ms;
  }
  return sums;
}

/**
 * The same of all together: all processes of a browser.
 * @param {number} root process id
 */
export const ofTree = (root) => Object.values(byRole(root)).reduce((sum, ms) => sum + ms, 0);

/** The time over which a limit holds, in microseconds: short, so that no wait is long. */
const PERIOD = 10_000;

/**
 * Limits a process and its descendants, those that it starts later too, to a number of cores.
 * Needs root.
 * @param {number} root process id
 * @param {number} cores
 * @returns {() => Promise<void>} what removes the group, once the processes have ended
 */
export function limit(root, cores) {
  const first = existsSync('/sys/fs/cgroup/cpu'); // control groups of version 1
  const group = `/sys/fs/cgroup/${first ? 'cpu/' : ''}edge-net-bench-${root}`;
  const quota = Math.round(cores * PERIOD);
  try {
    mkdirSync(group);
    if (first) {
      writeFileSync(`${group}/cpu.cfs_period_us`, `${PERIOD}`);
      writeFileSync(`${group}/cpu.cfs_quota_us`, `${quota}`);
    } else writeFileSync(`${group}/cpu.max`, `${quota} ${PERIOD}`);
    for (const pid of treeOf(root)) writeFileSync(`${group}/cgroup.procs`, `${pid}`);
  } catch (error) {
    throw new Error(`a limit of processor time needs root and control groups: ${error.message}`);
  }
  return async () => {
    for (let tries = 0; readFileSync(`${group}/cgroup.procs`, 'utf8') && tries < 50; tries++)
      await new Promise((resolve) => setTimeout(resolve, 100));
    rmdirSync(group);
  };
}
