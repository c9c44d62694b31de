/**
 * A real Kubernetes on this machine, for tests: `const cluster = await startCluster({ name: 'source' })`, and `await cluster.stop()`.
 *
 * Without nodes it is an API server and its store, in a few seconds; with nodes it has all that a cluster has. README.md says more.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../engine/errors.ts';
import { ApiClient } from './api-client.ts';
import { type CommandOptions, run } from './command.ts';
import { ControlPlane } from './control-plane.ts';
import { Daemon } from './daemon.ts';
import { API_PORT, checkName, clusterLayout, type Layout, NODES_MAX, nodeLayout, type ProxyMode } from './layout.ts';
import { makeControlNetwork, makeNodeNetworks } from './network.ts';
import { ClusterNode } from './node.ts';
import { nodeObject } from './node-files.ts';
import { thisProcess } from './owner.ts';
import { Pki } from './pki.ts';
import { nodeImages } from './programs/node-images.ts';
import { clusterPrograms } from './programs/programs.ts';
import { type ClusterState, claim, findState, isWanted, letStay } from './state.ts';
import { keepLogs, takeAway } from './take-away.ts';

export interface ClusterOptions {
  /** At most 20 lower-case letters, digits and dashes: of two with one name the second is refused while the first is wanted. */
  readonly name: string;
  /** Default: 0, an API server and its store only. */
  readonly nodes?: number;
  /** Default: mixed. */
  readonly proxy?: ProxyMode;
  /** Whether the controller manager and the scheduler run. Default: if there are nodes. Without them no pod needs a service account. */
  readonly controllers?: boolean;
  readonly apiServerFlags?: readonly string[];
  /** Is told what is done. Default: nobody. */
  readonly report?: (line: string) => void;
  /** Ends the bringing up; what was made is taken away. */
  readonly signal?: AbortSignal;
}

/** A cluster that is up, or is being brought up; in this process or by another one. */
export class Cluster {
  readonly name: string;
  /** Path of an administrator's. */
  readonly kubeconfig: string;
  /** Reachable from the machine, from nodes and from pods. */
  readonly server: string;
  readonly pki: Pki;
  readonly controlPlane: ControlPlane;
  readonly nodes: readonly ClusterNode[];
  readonly #state: ClusterState;
  readonly #layout: Layout;
  #api: ApiClient | undefined;

  constructor(state: ClusterState) {
    const cluster = clusterLayout(state.name, state.slot);
    const pki = new Pki(cluster);
    const { programs, images } = state;
    this.#state = state;
    this.#layout = cluster;
    this.name = state.name;
    this.pki = pki;
    this.kubeconfig = pki.kubeconfig('admin');
    this.server = `https://${cluster.apiAddress}:${API_PORT}`;
    this.controlPlane = new ControlPlane({ ...state, cluster, pki });
    this.nodes = Array.from({ length: state.nodes }, (_, i) => nodeLayout(cluster, i + 1, state.proxy)).map(
      (node) => new ClusterNode({ cluster, node, pki, programs, images }),
    );
  }

  /** As an administrator. */
  get api(): ApiClient {
    return (this.#api ??= new ApiClient(this.#layout.apiAddress, this.pki.authority.certificate, this.pki.files('admin')));
  }

  /** As whoever has the token. */
  apiAs(token: string): ApiClient {
    return new ApiClient(this.#layout.apiAddress, this.pki.authority.certificate, { token });
  }

  get kubectlPath(): string {
    return join(this.#state.programs, 'kubectl');
  }

  /** By its number, from 1. @throws RangeError */
  node(number: number): ClusterNode {
    const node = this.nodes[number - 1];
    if (!node) throw new RangeError(`Cannot find node ${number} of cluster ${this.name}: it has ${this.nodes.length}`);
    return node;
  }

  /** Runs kubectl as an administrator. Returns its standard output. @throws CommandError */
  kubectl(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    const env = { KUBECONFIG: this.kubeconfig, KUBECACHEDIR: join(this.#layout.directory, 'kubectl'), ...options.env };
    return run([this.kubectlPath, ...args], { ...options, env });
  }

  /** Brings everything up, in the order that the parts need. */
  async start({ report, signal }: { report: (line: string) => void; signal?: AbortSignal | undefined }): Promise<void> {
    const layouts = this.nodes.map(({ layout }) => layout);
    await Promise.all([makeControlNetwork(this.#layout), this.controlPlane.issueKeys()]);
    this.controlPlane.startStore();
    await makeNodeNetworks(this.#layout, layouts);
    report('starting the API server');
    await Promise.all([this.controlPlane.ready(this.api, signal), ...this.nodes.map((node) => node.startRuntime(signal))]);
    if (this.#state.controllers) this.controlPlane.startControllers();
    if (!this.nodes.length) return;
    report(`starting ${this.nodes.length} ${this.nodes.length === 1 ? 'node' : 'nodes'}`);
    await this.api.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', PROXY_BINDING);
    await Promise.all(layouts.map((node) => this.api.create('/api/v1/nodes', nodeObject(node))));
    await Promise.all(this.nodes.map((node) => node.startKubelet()));
    await Promise.all(this.nodes.map((node) => node.ready(this.api, signal)));
  }

  /** A program that stays, on the machine itself; it is not started yet, and ends with the cluster. */
  daemon(name: string, command: readonly string[], { log, env = {} }: { log?: string; env?: Record<string, string> } = {}): Daemon {
    return new Daemon({
      ...{ name, command, env },
      cgroup: `${this.#layout.cgroup}/machine/${name}`,
      log: log ?? join(this.#layout.directory, 'log', `${name}.log`),
    });
  }

  /** It stays when this process ends; `npm run cluster down` takes it away. */
  letStay(): void {
    letStay(this.#state);
  }

  /** Takes everything away that belongs to the cluster. */
  async stop(): Promise<void> {
    await takeAway(this.name);
  }
}

const PROXY_BINDING = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: 'kube-proxy' },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:node-proxier' },
  subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'system:kube-proxy' }],
};

/**
 * Brings a cluster up; whatever a dead process left of one with the same name is taken away before. It ends with stop(), and is left over
 * when this process ends without that.
 *
 * @throws Error what did not come up, and where its log is; everything but the logs is taken away then.
 */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const { name, nodes = 0, report = () => {}, signal } = options;
  checkName(name);
  if (!(Number.isInteger(nodes) && nodes >= 0 && nodes <= NODES_MAX))
    throw new Error(`Cannot bring up cluster ${name} with ${nodes} nodes: must be a whole number up to ${NODES_MAX}`);
  if (process.getuid?.() !== 0) throw new Error(`Cannot bring up cluster ${name}: it makes network namespaces and cgroups; run it as root`);
  const building = { report, signal };
  const programs = await clusterPrograms(building);
  const images = nodes ? await nodeImages(programs, building) : [];
  const state = await takeName({
    ...{ name, nodes, programs, images, owner: thisProcess() },
    proxy: options.proxy ?? 'mixed',
    controllers: options.controllers ?? nodes > 0,
    apiServerFlags: options.apiServerFlags ?? [],
  });
  try {
    const cluster = new Cluster(state);
    await cluster.start({ report, signal });
    return cluster;
  } catch (error) {
    const logs = keepLogs(name, join(tmpdir(), `sluice-cluster-${name}-logs`));
    await takeAway(name);
    if (signal?.aborted) throw error;
    throw new Error(`${messageOf(error)}\nAll logs are kept in ${logs}`, { cause: error });
  }
}

/** A cluster that is up. @throws Error */
export function getCluster(name: string): Cluster {
  const state = findState(checkName(name));
  if (!state || !isWanted(state)) throw new Error(`Cannot find cluster ${name}: it is not up; npm run cluster status`);
  return new Cluster(state);
}

/** Takes a name, from a dead cluster if need be. */
async function takeName(wanted: Omit<ClusterState, 'slot'>): Promise<ClusterState> {
  for (let tries = 0; tries < 3; tries++) {
    const before = findState(wanted.name);
    if (before && isWanted(before)) break;
    // Also where nothing is known of one: a crash may have left processes of which the directory is gone.
    await takeAway(wanted.name);
    const state = claim(wanted);
    if (state) return state;
  }
  throw new Error(`Cannot bring up cluster ${wanted.name}: it is up already; npm run cluster down -- --name ${wanted.name}`);
}
