/**
 * Network namespaces, veths and routes, through iproute2.
 *
 * A pod is a namespace with one interface, eth0, and addresses of its own; the other end of its veth is on this side,
 * where each pod has a route. The gateway is the same everywhere: 169.254.1.1 and fe80::1, on every host side.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { EngineError } from '../errors.ts';

const GATEWAY_IPV4 = '169.254.1.1';
const GATEWAY_IPV6 = 'fe80::1';

export interface PodNetwork {
  readonly netns: string;
  /** Host side of the veth. */
  readonly interface: string;
  readonly addresses: readonly string[];
}

/** Where a named namespace can be entered. */
export function netnsPath(netns: string): string {
  return `/run/netns/${netns}`;
}

/** Makes a pod's namespace and connects it. @throws EngineError `LAB` */
export function createPodNetwork(pod: PodNetwork): void {
  const { netns } = pod;
  run('ip', ['netns', 'add', netns]);
  run('ip', ['link', 'add', pod.interface, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns]);
  batch(
    [],
    [
      `addr add ${GATEWAY_IPV4}/32 dev ${pod.interface} scope link`,
      `link set ${pod.interface} up`,
      `addr add ${GATEWAY_IPV6}/64 dev ${pod.interface} nodad`,
      ...pod.addresses.map((address) => `route add ${address} dev ${pod.interface}`),
    ],
  );
  const inside = pod.addresses.flatMap((address) =>
    address.includes(':') ? [`addr add ${address}/128 dev eth0 nodad`] : [`addr add ${address}/32 dev eth0`],
  );
  batch(
    ['-n', netns],
    [
      'link set lo up',
      'link set eth0 up',
      ...inside,
      `route add ${GATEWAY_IPV4} dev eth0 scope link`,
      ...(pod.addresses.some((address) => !address.includes(':')) ? [`route add default via ${GATEWAY_IPV4} dev eth0`] : []),
      ...(pod.addresses.some((address) => address.includes(':')) ? [`route add ::/0 via ${GATEWAY_IPV6} dev eth0`] : []),
    ],
  );
}

/** The named namespaces that begin with a prefix. */
export function listNetns(prefix: string): string[] {
  try {
    return readdirSync('/run/netns').filter((name) => name.startsWith(prefix));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Ends every process in a namespace and removes it, and with it the pod's veth. */
export function removeNetns(netns: string): void {
  for (const pid of run('ip', ['netns', 'pids', netns]).split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
  // The kernel takes a namespace apart some time later; its interface goes now.
  if (run('ip', ['-n', netns, '-j', 'link']).includes('"eth0"')) run('ip', ['-n', netns, 'link', 'delete', 'eth0']);
  run('ip', ['netns', 'delete', netns]);
}

const FORWARDING = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'];

/** Lets this side route between pods; returns what stood there before. */
export function enableForwarding(): Record<string, string> {
  return Object.fromEntries(
    FORWARDING.map((path) => {
      const before = readFileSync(path, 'utf8').trim();
      if (before !== '1') writeFileSync(path, '1');
      return [path, before];
    }),
  );
}

export function restoreForwarding(before: Readonly<Record<string, string>>): void {
  for (const path of FORWARDING) if (before[path] !== undefined && before[path] !== '1') writeFileSync(path, before[path]);
}

function batch(options: string[], lines: string[]): void {
  run('ip', [...options, '-batch', '-'], `${lines.join('\n')}\n`);
}

function run(command: string, args: string[], input?: string): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', input: input ?? '', stdio: ['pipe', 'pipe', 'pipe'] });
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: string };
    const advice = code === 'ENOENT' ? 'not installed; apt-get install iproute2' : (stderr ?? '').trim();
    throw new EngineError('LAB', `Cannot run ${command} ${args.join(' ')}: ${advice}`, error);
  }
}
