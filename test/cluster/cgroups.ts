/**
 * Cgroups of a cluster. Every process of it is in one of them, in the hierarchy of version 2, from before its program is started: so all of
 * them can be ended at once, by a place instead of by numbers that the kernel gives to others again.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { until } from './until.ts';

export interface Hierarchy {
  readonly path: string;
  readonly version: 1 | 2;
}

/** The hierarchies in the text of /proc/self/mountinfo, each once. */
export function hierarchiesIn(mountinfo: string): Hierarchy[] {
  const found = new Map<string, Hierarchy>();
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [, , device = '', root, path = ''] = before.split(' ');
    const type = after.split(' ')[0];
    // A part of a hierarchy, such as a container is shown, is not one in which cgroups of ours have the same name as elsewhere.
    if ((type === 'cgroup' || type === 'cgroup2') && root === '/' && !found.has(device))
      found.set(device, { path, version: type === 'cgroup' ? 1 : 2 });
  }
  return [...found.values()];
}

const hierarchies = (): Hierarchy[] => hierarchiesIn(readFileSync('/proc/self/mountinfo', 'utf8'));

/** Where the hierarchy of version 2 is mounted. @throws Error where there is none. */
export function unifiedMount(): string {
  const unified = hierarchies().find(({ version }) => version === 2);
  if (!unified) throw new Error('Cannot find cgroups of version 2: must be mounted, such as on /sys/fs/cgroup/unified');
  return unified.path;
}

/** Makes a cgroup for processes, in the hierarchy of version 2 only. Returns its file of processes. */
export function makeProcessCgroup(cgroup: string): string {
  const path = join(unifiedMount(), cgroup);
  mkdirSync(path, { recursive: true });
  return join(path, 'cgroup.procs');
}

/** Makes a cgroup for pods, in every hierarchy. */
export function makePodCgroups(cgroup: string): void {
  for (const { path, version } of hierarchies()) {
    mkdirSync(join(path, cgroup), { recursive: true });
    if (version === 1) inheritCpus(path, cgroup);
  }
}

/** A new cgroup of the cpuset hierarchy has no processor and no memory: nothing could be in it. */
function inheritCpus(mount: string, cgroup: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (!existsSync(join(mount, file))) return;
    const parts = cgroup.split('/').filter(Boolean);
    for (const i of parts.keys()) {
      const path = join(mount, ...parts.slice(0, i + 1));
      if (!readFileSync(join(path, file), 'utf8').trim()) writeFileSync(join(path, file), readFileSync(join(dirname(path), file), 'utf8'));
    }
  }
}

/** The processes directly in a cgroup; none where there is no such cgroup. */
export function processesIn(cgroup: string): number[] {
  return (read(join(unifiedMount(), cgroup, 'cgroup.procs')) ?? '').split('\n').filter(Boolean).map(Number);
}

/** Whether a process lives in a cgroup or below. */
export function isPopulated(cgroup: string): boolean {
  return read(join(unifiedMount(), cgroup, 'cgroup.events'))?.includes('populated 1') ?? false;
}

/** Ends every process in a cgroup and below, whatever it does meanwhile, and waits until they are gone. */
export async function killCgroup(cgroup: string, timeoutMs = 10_000): Promise<void> {
  const path = join(unifiedMount(), cgroup);
  if (!existsSync(path)) return;
  writeFileSync(join(path, 'cgroup.kill'), '1');
  await until(() => !isPopulated(cgroup), { what: `the end of the processes in cgroup ${cgroup}`, timeoutMs });
}

/** Removes a cgroup with all below, in every hierarchy. Its processes must have ended. */
export async function removeCgroups(cgroup: string): Promise<void> {
  const roots = hierarchies().map(({ path }) => join(path, cgroup));
  // A process that ended is in its cgroup of version 1 for a moment still.
  await until(() => roots.map(tryRemove).every(Boolean), { what: `the removal of cgroup ${cgroup}`, timeoutMs: 10_000 });
}

function tryRemove(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) if (entry.isDirectory()) tryRemove(join(path, entry.name));
    rmdirSync(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    // ENODEV: it is being removed.
    if (['ENOENT', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
