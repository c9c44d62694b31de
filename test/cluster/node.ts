/**
 * A node: its network and its mounts, containerd, kubelet and kube-proxy in them, and whatever a test runs there besides.
 *
 * Its own are /run/netns, /run/containerd, /sys/fs/bpf and what is written to /var; all else is the machine's, /sys with its cgroups included.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ApiClient } from './api-client.ts';
import { makePodCgroups, makeProcessCgroup, processesIn } from './cgroups.ts';
import { type CommandOptions, run } from './command.ts';
import { Daemon, inCgroup } from './daemon.ts';
import { type Layout, type NodeLayout, POD_NETWORK } from './layout.ts';
import { netnsPath } from './network.ts';
import { cniConfig, containerdConfig, containerdSocket, kubeletConfig } from './node-files.ts';
import type { Pki } from './pki.ts';
import { until } from './until.ts';

const HOLD = new URL('hold-node.sh', import.meta.url).pathname;

export interface NodeOptions {
  readonly cluster: Layout;
  readonly node: NodeLayout;
  readonly pki: Pki;
  /** Directory of the programs. */
  readonly programs: string;
  /** Archives that containerd is given: nothing is pulled. */
  readonly images: readonly string[];
}

/** Of a Node, as far as it is read. */
interface NodeStatus {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

export class ClusterNode {
  readonly name: string;
  readonly address: string;
  readonly podNetwork: string;
  /** Below the mount of the cgroups of version 2: kubelet makes `kubepods` in it. */
  readonly cgroupRoot: string;
  /** Name of its network namespace on the machine. */
  readonly netns: string;
  readonly containerd: Daemon;
  readonly kubelet: Daemon;
  readonly kubeProxy: Daemon;
  readonly #options: NodeOptions;

  constructor(options: NodeOptions) {
    const { node, programs, pki } = options;
    this.#options = options;
    this.name = node.name;
    this.address = node.address;
    this.podNetwork = node.podNetwork;
    this.cgroupRoot = node.cgroup;
    this.netns = node.netns;
    this.containerd = this.daemon('containerd', ['containerd', '-c', join(node.directory, 'containerd.toml')]);
    this.kubelet = this.daemon('kubelet', [
      join(programs, 'kubelet'),
      `--config=${join(node.directory, 'kubelet.yaml')}`,
      `--kubeconfig=${pki.kubeconfig(node.name)}`,
      `--hostname-override=${node.name}`,
      `--node-ip=${node.address}`,
      `--root-dir=${join(node.directory, 'kubelet')}`,
    ]);
    this.kubeProxy = this.daemon('kube-proxy', [
      join(programs, 'kube-proxy'),
      `--kubeconfig=${pki.kubeconfig('proxy')}`,
      `--hostname-override=${node.name}`,
      `--proxy-mode=${node.proxy}`,
      `--cluster-cidr=${POD_NETWORK}`,
      '--conntrack-max-per-core=0',
    ]);
  }

  /**
   * Runs a command in the node's network and mounts, to its end, in the present directory. Returns its standard output.
   *
   * @throws CommandError
   */
  exec(command: readonly string[], options: CommandOptions = {}): Promise<string> {
    const procs = makeProcessCgroup(`${this.cgroupRoot}/system/exec`);
    return run(inCgroup(procs, this.#enter(command, options.cwd ?? process.cwd())), options);
  }

  /** A program that stays in the node's network and mounts, such as an engine. It is not started yet; `stop` of the cluster ends it. */
  daemon(name: string, command: readonly string[], { cwd = '/', env = {} }: { cwd?: string; env?: Record<string, string> } = {}): Daemon {
    return new Daemon({
      name: `${name} of ${this.name}`,
      cgroup: `${this.cgroupRoot}/system/${name}`,
      log: join(this.#options.node.directory, 'log', `${name}.log`),
      // The mounts are there when it is started.
      command: () => this.#enter(command, cwd),
      env,
    });
  }

  /** containerd runs and has the images. The network must be there. */
  async startRuntime(signal?: AbortSignal): Promise<void> {
    const { node, images } = this.#options;
    mkdirSync(join(node.directory, 'cni'), { recursive: true });
    writeFileSync(join(node.directory, 'containerd.toml'), containerdConfig(node));
    writeFileSync(join(node.directory, 'cni', '10-ptp.conflist'), cniConfig(node));
    makePodCgroups(node.cgroup);
    await this.#hold(signal);
    this.containerd.start();
    const ctr = ['ctr', '-a', containerdSocket(node)];
    await until(async () => existsSync(containerdSocket(node)) && (await run([...ctr, 'version'])) !== '', {
      ...{ what: this.containerd.name, timeoutMs: 30_000, signal },
      ...{ inVain: () => this.containerd.ended(), hint: () => this.containerd.hint() },
    });
    for (const image of images) await this.exec([...ctr, '-n', 'k8s.io', 'images', 'import', image], { signal });
  }

  /** kubelet and kube-proxy run. The API server must be there. */
  async startKubelet(): Promise<void> {
    const { node, pki } = this.#options;
    await pki.issueKubeconfig(node.name, `/O=system:nodes/CN=system:node:${node.name}`, [node.address]);
    writeFileSync(join(node.directory, 'kubelet.yaml'), kubeletConfig(node, pki.authority.certificate, pki.files(node.name)));
    this.kubelet.start();
    this.kubeProxy.start();
  }

  /** Until the node is Ready, and Services are translated on it. */
  async ready(api: ApiClient, signal?: AbortSignal): Promise<void> {
    const isReady = async (): Promise<boolean> => {
      const { status } = await api.get<NodeStatus>(`/api/v1/nodes/${this.name}`);
      return status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
    };
    await until(isReady, {
      ...{ what: `node ${this.name}`, timeoutMs: 60_000, signal },
      ...{ inVain: () => this.kubelet.ended() ?? this.kubeProxy.ended() },
      hint: () => (this.kubeProxy.ended() ? this.kubeProxy : this.kubelet).hint(),
    });
  }

  get layout(): NodeLayout {
    return this.#options.node;
  }

  /** The daemon whose process keeps the node's mounts. */
  async #hold(signal?: AbortSignal): Promise<void> {
    const { node } = this.#options;
    const hold = new Daemon({
      name: `the mounts of ${node.name}`,
      cgroup: this.#holdCgroup,
      log: join(node.directory, 'log', 'hold.log'),
      command: ['nsenter', `--net=${netnsPath(node.netns)}`, 'unshare', '--mount', '--propagation', 'private', 'sh', HOLD, node.directory],
    }).start();
    await until(() => existsSync(join(node.directory, 'held')), {
      ...{ what: hold.name, timeoutMs: 10_000, signal },
      ...{ inVain: () => hold.ended(), hint: () => hold.hint() },
    });
  }

  get #holdCgroup(): string {
    return `${this.#options.node.cgroup}/system/hold`;
  }

  #enter(command: readonly string[], cwd: string): string[] {
    const [holder] = processesIn(this.#holdCgroup);
    if (!holder) throw new Error(`Cannot enter node ${this.name}: it is not up`);
    const namespaces = [`--net=${netnsPath(this.netns)}`, `--mount=/proc/${holder}/ns/mnt`];
    return ['nsenter', ...namespaces, '--', 'sh', '-c', 'cd "$0" && exec "$@"', cwd, ...command];
  }
}
