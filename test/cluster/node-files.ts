/** The files by which a node's programs are set up. Paths are those of its directory; nothing of the machine's own is used. */
import { join } from 'node:path';
import { DNS_SERVICE_ADDRESS, type NodeLayout } from './layout.ts';
import type { Credentials } from './pki.ts';
import { PAUSE_IMAGE } from './programs/node-images.ts';

export const containerdSocket = ({ directory }: NodeLayout): string => join(directory, 'containerd.sock');

/** containerd's TOML. */
export function containerdConfig(node: NodeLayout): string {
  const { directory } = node;
  return `version = 2
root = "${directory}/containerd"
state = "${directory}/containerd-state"

[grpc]
address = "${containerdSocket(node)}"

[plugins."io.containerd.internal.v1.opt"]
path = "${directory}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${PAUSE_IMAGE}"
# runc may not lower it where root lacks CAP_SYS_RESOURCE, and then ends without a word about it.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "${directory}/cni"
`;
}

/** A veth for each pod, routed; as people write it who want the simplest that there is. */
export function cniConfig({ directory, podNetwork }: NodeLayout): string {
  const plugins = [
    {
      type: 'ptp',
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: podNetwork }]],
        routes: [{ dst: '0.0.0.0/0' }],
        dataDir: join(directory, 'addresses'),
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ];
  return JSON.stringify({ cniVersion: '0.4.0', name: 'pods', plugins }, null, 2);
}

/** kubelet's configuration; JSON is YAML. */
export function kubeletConfig(node: NodeLayout, authority: string, own: Credentials): string {
  const config = {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: authority } },
    authorization: { mode: 'Webhook' },
    cgroupDriver: 'cgroupfs',
    cgroupRoot: node.cgroup,
    failCgroupV1: false,
    failSwapOn: false,
    containerRuntimeEndpoint: `unix://${containerdSocket(node)}`,
    tlsCertFile: own.certificate,
    tlsPrivateKeyFile: own.key,
    podLogsDir: join(node.directory, 'pods'),
    volumePluginDir: join(node.directory, 'volume-plugins'),
    clusterDNS: [DNS_SERVICE_ADDRESS],
    clusterDomain: 'cluster.local',
    localStorageCapacityIsolation: false,
    // A machine whose disk is nearly full is none of the tests' concern.
    evictionHard: {},
    imageGCHighThresholdPercent: 100,
    imageMaximumGCAge: '0s',
  };
  return JSON.stringify(config, null, 2);
}

/** The Node as it is before its kubelet comes: only so is its podCIDR the network that its pods are given addresses from. */
export function nodeObject({ name, podNetwork }: NodeLayout): object {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: { podCIDR: podNetwork, podCIDRs: [podNetwork] } };
}
