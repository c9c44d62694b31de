/**
 * Names and addresses of a cluster: everything that it puts on the machine follows from its name, and what must be short or a number from
 * its slot. Nothing is made here.
 *
 *     machine ── kube-SLOT ──┐ 10.77.SLOT.254
 *                            │
 *     kube.NAME.control:   bridge 10.77.SLOT.1     etcd, kube-apiserver, kube-controller-manager, kube-scheduler
 *                            │
 *     kube.NAME.nN:        eth0 10.77.SLOT.(10+N)  containerd, kubelet, kube-proxy; pods in 10.244.N.0/24
 *
 * Each of these networks is a namespace, so ports, pods' and Services' addresses are the same in every cluster.
 */
import { join } from 'node:path';

export const CLUSTERS_DIRECTORY = '/run/sluice/cluster';
export const SLOTS_DIRECTORY = '/run/sluice/cluster-slots';
/** The third byte of the nodes' network: how many clusters stand side by side. */
export const SLOTS = 200;
/** The last byte of a node's address has room for these. */
export const NODES_MAX = 200;
export const SERVICE_NETWORK = '10.96.0.0/16';
export const POD_NETWORK = '10.244.0.0/16';
/** The first address of the Services' network is the API server's own. */
export const API_SERVICE_ADDRESS = '10.96.0.1';
export const DNS_SERVICE_ADDRESS = '10.96.0.10';
export const API_PORT = 6443;

/** How kube-proxy translates Services: one way on all nodes, or iptables on the odd and nftables on the even ones. */
export const PROXY_MODES = ['iptables', 'nftables', 'mixed'] as const;
export type ProxyMode = (typeof PROXY_MODES)[number];

/** @throws Error for any other text. */
export function readProxyMode(text: string): ProxyMode {
  const mode = PROXY_MODES.find((known) => known === text);
  if (!mode) throw new Error(`Cannot use --proxy ${text}: must be ${PROXY_MODES.join(', ')}`);
  return mode;
}

export interface Layout {
  readonly name: string;
  readonly slot: number;
  /** Everything that the cluster writes. */
  readonly directory: string;
  /** Network namespace of the control plane. */
  readonly netns: string;
  /** Below each hierarchy's mount; all processes of the cluster are in it. */
  readonly cgroup: string;
  /** The machine's end of its link into the cluster. */
  readonly link: string;
  /** Of the API server, for everybody. */
  readonly apiAddress: string;
  /** The machine's own in the cluster. */
  readonly machineAddress: string;
}

export interface NodeLayout {
  /** `n1`, `n2`, …: the Node's name. */
  readonly name: string;
  readonly number: number;
  readonly directory: string;
  readonly netns: string;
  /** kubelet's cgroupRoot: `kubepods` is made in it. */
  readonly cgroup: string;
  readonly address: string;
  readonly podNetwork: string;
  readonly proxy: 'iptables' | 'nftables';
}

/** @throws Error for a name that would not do in all these places. */
export function checkName(name: string): string {
  if (!/^[a-z0-9](?:[-a-z0-9]{0,18}[a-z0-9])?$/.test(name))
    throw new Error(`Cannot name a cluster ${JSON.stringify(name)}: must be at most 20 lower-case letters, digits and dashes between them`);
  return name;
}

export const clusterDirectory = (name: string): string => join(CLUSTERS_DIRECTORY, name);
export const clusterCgroup = (name: string): string => `/kube-${name}`;
/** All network namespaces of a cluster begin with this, and no other's. */
export const netnsPrefix = (name: string): string => `kube.${name}.`;
export const linkName = (slot: number): string => `kube-${slot}`;

export function clusterLayout(name: string, slot: number): Layout {
  return {
    name,
    slot,
    directory: clusterDirectory(name),
    netns: `${netnsPrefix(name)}control`,
    cgroup: clusterCgroup(name),
    link: linkName(slot),
    apiAddress: `10.77.${slot}.1`,
    machineAddress: `10.77.${slot}.254`,
  };
}

export function nodeLayout(cluster: Layout, number: number, proxy: ProxyMode): NodeLayout {
  const name = `n${number}`;
  return {
    name,
    number,
    directory: join(cluster.directory, name),
    netns: `${netnsPrefix(cluster.name)}${name}`,
    cgroup: `${cluster.cgroup}/${name}`,
    address: `10.77.${cluster.slot}.${10 + number}`,
    podNetwork: `10.244.${number}.0/24`,
    proxy: proxy !== 'mixed' ? proxy : number % 2 ? 'iptables' : 'nftables',
  };
}
