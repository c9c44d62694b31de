/** The networks of a cluster, through iproute2; layout.ts draws them. */
import { existsSync, readdirSync } from 'node:fs';
import { run } from './command.ts';
import { type Layout, type NodeLayout, netnsPrefix, SLOTS } from './layout.ts';

export const netnsPath = (netns: string): string => `/run/netns/${netns}`;

/** The control plane's network, with the bridge and the machine's link into it. */
export async function makeControlNetwork(cluster: Layout): Promise<void> {
  const { netns, link } = cluster;
  await run(['ip', 'netns', 'add', netns]);
  await batch(netns, ['link set lo up', 'link add nodes type bridge', `addr add ${cluster.apiAddress}/24 dev nodes`, 'link set nodes up']);
  // Of a cluster that was taken away a moment ago the kernel may have the link still.
  await run(['ip', 'link', 'delete', link]).catch(() => {});
  await run(['ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'machine', 'netns', netns]);
  await batch(netns, ['link set machine master nodes up']);
  await batch(undefined, [`addr add ${cluster.machineAddress}/24 dev ${link}`, `link set ${link} up`]);
  await forward(netns);
}

/** The networks of nodes, with routes to each other's pods. */
export async function makeNodeNetworks(cluster: Layout, nodes: readonly NodeLayout[]): Promise<void> {
  await Promise.all(nodes.map((node) => makeNodeNetwork(cluster, node)));
  await batch(
    cluster.netns,
    nodes.map(({ podNetwork, address }) => `route add ${podNetwork} via ${address}`),
  );
  await Promise.all(
    nodes.map((node) =>
      batch(
        node.netns,
        nodes.filter((other) => other !== node).map(({ podNetwork, address }) => `route add ${podNetwork} via ${address}`),
      ),
    ),
  );
}

async function makeNodeNetwork(cluster: Layout, { name, netns, address }: NodeLayout): Promise<void> {
  await run(['ip', 'netns', 'add', netns]);
  await batch(cluster.netns, [`link add ${name} type veth peer name eth0 netns ${netns}`, `link set ${name} master nodes up`]);
  await batch(netns, [
    'link set lo up',
    `addr add ${address}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${cluster.apiAddress}`,
  ]);
  await forward(netns);
}

/** Takes a cluster's networks away, with the links whose one end is in them. */
export async function removeNetworks(name: string): Promise<void> {
  for (const netns of clusterNetns(name)) {
    // The kernel takes a namespace apart some time later; the machine's link goes now.
    if (netns.endsWith('.control')) await run(['ip', '-n', netns, 'link', 'delete', 'machine']).catch(() => {});
    await run(['ip', 'netns', 'delete', netns]);
  }
}

/** The named network namespaces of a cluster. */
export function clusterNetns(name: string): string[] {
  if (!existsSync('/run/netns')) return [];
  return readdirSync('/run/netns').filter((netns) => netns.startsWith(netnsPrefix(name)));
}

/** Numbers of slots whose link is on this machine. */
export function usedLinks(): Set<number> {
  const links = new Set(readdirSync('/sys/class/net'));
  return new Set([...Array(SLOTS).keys()].filter((slot) => links.has(`kube-${slot}`)));
}

async function batch(netns: string | undefined, lines: readonly string[]): Promise<void> {
  await run(['ip', ...(netns ? ['-n', netns] : []), '-batch', '-'], { input: `${lines.join('\n')}\n` });
}

async function forward(netns: string): Promise<void> {
  await run(['nsenter', `--net=${netnsPath(netns)}`, 'sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward']);
}
