/** Says what this machine lacks for the kernel tests. Where every test must run (CI is set), that is a failure; elsewhere they are skipped. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type {} from 'vitest';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  export interface ProvidedContext {
    missing: string;
  }
}

function missingCapability(): string {
  if (process.getuid?.() !== 0) return 'root';
  for (const program of ['ip', 'nsenter', 'curl', 'gcc']) if (!has(program)) return `the program ${program}`;
  if (execFileSync('stat', ['-f', '-c', '%T', '/sys/fs/bpf'], { encoding: 'utf8' }).trim() !== 'bpf_fs')
    return 'a BPF file system on /sys/fs/bpf';
  if (!existsSync('/proc/sys/net/ipv6')) return 'IPv6';
  return '';
}

function has(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export default function setup(project: TestProject): void {
  const missing = missingCapability();
  if (missing && process.env.CI) throw new Error(`this machine lacks ${missing}, and CI runs every test`);
  if (missing) console.warn(`kernel tests are skipped: this machine lacks ${missing}`);
  project.provide('missing', missing);
}
