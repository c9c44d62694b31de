/**
 * Takes a cluster away, or whatever a crash left of one: by its name, its directory, and nothing that must still be alive. Every step may
 * find that there is nothing to do, so it can be done again.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { killCgroup, removeCgroups } from './cgroups.ts';
import { checkName, clusterCgroup, clusterDirectory } from './layout.ts';
import { removeNetworks } from './network.ts';
import { forget } from './state.ts';

/** Takes away the processes of a cluster, its mounts with them, its networks, cgroups and files. */
export async function takeAway(name: string): Promise<void> {
  // An unsafe name must not become a path.
  checkName(name);
  await killCgroup(clusterCgroup(name));
  await removeNetworks(name);
  await removeCgroups(clusterCgroup(name));
  forget(name);
}

/** Copies a cluster's logs to where they stay, in the place of older ones. Returns that directory. */
export function keepLogs(name: string, kept: string): string {
  rmSync(kept, { recursive: true, force: true });
  const directory = clusterDirectory(name);
  const owners = existsSync(directory) ? ['.', ...readdirSync(directory).filter((entry) => /^n\d+$/.test(entry))] : [];
  mkdirSync(kept, { recursive: true });
  for (const owner of owners) {
    const logs = join(directory, owner, 'log');
    if (existsSync(logs)) cpSync(logs, join(kept, owner), { recursive: true });
  }
  return kept;
}
