/** etcd and the API server, and the controllers and the scheduler where there are nodes. They are in the control plane's network. */
import { join } from 'node:path';
import type { ApiClient } from './api-client.ts';
import { Daemon } from './daemon.ts';
import { API_PORT, type Layout, POD_NETWORK, SERVICE_NETWORK } from './layout.ts';
import { netnsPath } from './network.ts';
import type { Pki } from './pki.ts';
import { until } from './until.ts';

const ETCD = 'http://127.0.0.1:2379';
const ETCD_BYTES_MAX = 8 * 2 ** 30;

export interface ControlPlaneOptions {
  readonly cluster: Layout;
  readonly pki: Pki;
  /** Directory of the programs. */
  readonly programs: string;
  /** Whether somebody makes service accounts, endpoints and pods of Deployments, and gives pods to nodes. */
  readonly controllers: boolean;
  readonly apiServerFlags: readonly string[];
}

export class ControlPlane {
  readonly etcd: Daemon;
  readonly apiServer: Daemon;
  readonly controllerManager: Daemon;
  readonly scheduler: Daemon;
  readonly #options: ControlPlaneOptions;

  constructor(options: ControlPlaneOptions) {
    this.#options = options;
    this.etcd = this.#daemon('etcd', etcdFlags(options));
    this.apiServer = this.#daemon('kube-apiserver', apiServerFlags(options));
    this.controllerManager = this.#daemon('kube-controller-manager', controllerManagerFlags(options));
    this.scheduler = this.#daemon('kube-scheduler', [
      `--kubeconfig=${options.pki.kubeconfig('scheduler')}`,
      '--leader-elect=false',
      `--cert-dir=${join(options.cluster.directory, 'certs')}`,
    ]);
  }

  get daemons(): readonly Daemon[] {
    return [this.etcd, this.apiServer, this.controllerManager, this.scheduler];
  }

  /** Makes the keys that its programs and administrators use. Returns the administrator's kubeconfig. */
  async issueKeys(): Promise<string> {
    const { pki } = this.#options;
    await pki.makeAuthority();
    const [admin] = await Promise.all([
      pki.issueKubeconfig('admin', '/O=system:masters/CN=admin'),
      pki.issue('apiserver', '/CN=kube-apiserver'),
      pki.issueKubeconfig('controller-manager', '/CN=system:kube-controller-manager'),
      pki.issueKubeconfig('scheduler', '/CN=system:kube-scheduler'),
      pki.issueKubeconfig('proxy', '/CN=system:kube-proxy'),
    ]);
    return admin;
  }

  startStore(): void {
    this.etcd.start();
    this.apiServer.start();
  }

  /** Until the API server answers that it is ready and has made the namespaces that are always there. */
  async ready(api: ApiClient, signal?: AbortSignal): Promise<void> {
    const hint = (): string => (this.etcd.ended() ? this.etcd : this.apiServer).hint();
    const inVain = (): string | undefined => this.etcd.ended() ?? this.apiServer.ended();
    const isReady = async (): Promise<boolean> =>
      (await api.isReady()) && (await api.ask('GET', '/api/v1/namespaces/default')).status === 200;
    await until(isReady, { what: 'the API server', timeoutMs: 60_000, signal, inVain, hint });
  }

  startControllers(): void {
    this.controllerManager.start();
    this.scheduler.start();
  }

  #daemon(name: string, flags: readonly string[]): Daemon {
    const { cluster, programs } = this.#options;
    return new Daemon({
      name,
      cgroup: `${cluster.cgroup}/control/${name}`,
      log: join(cluster.directory, 'log', `${name}.log`),
      command: ['nsenter', `--net=${netnsPath(cluster.netns)}`, '--', join(programs, name), ...flags],
    });
  }
}

function etcdFlags({ cluster }: ControlPlaneOptions): string[] {
  return [
    `--data-dir=${join(cluster.directory, 'etcd')}`,
    // The data of a cluster for tests need not outlive the machine.
    '--unsafe-no-fsync',
    `--quota-backend-bytes=${ETCD_BYTES_MAX}`,
    '--log-level=warn',
  ];
}

function apiServerFlags({ cluster, pki, controllers, apiServerFlags }: ControlPlaneOptions): string[] {
  const own = pki.files('apiserver');
  const admin = pki.files('admin');
  return [
    `--etcd-servers=${ETCD}`,
    `--secure-port=${API_PORT}`,
    `--advertise-address=${cluster.apiAddress}`,
    `--cert-dir=${join(cluster.directory, 'certs')}`,
    `--tls-cert-file=${own.certificate}`,
    `--tls-private-key-file=${own.key}`,
    `--client-ca-file=${pki.authority.certificate}`,
    '--authorization-mode=Node,RBAC',
    `--kubelet-client-certificate=${admin.certificate}`,
    `--kubelet-client-key=${admin.key}`,
    // Nodes' names resolve nowhere.
    '--kubelet-preferred-address-types=InternalIP',
    '--allow-privileged',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${pki.serviceAccountKey}`,
    `--service-account-signing-key-file=${pki.serviceAccountKey}`,
    `--service-cluster-ip-range=${SERVICE_NETWORK}`,
    // Nobody would make the service account that each pod is asked for.
    ...(controllers ? [] : ['--disable-admission-plugins=ServiceAccount']),
    ...apiServerFlags,
  ];
}

function controllerManagerFlags({ cluster, pki }: ControlPlaneOptions): string[] {
  return [
    `--kubeconfig=${pki.kubeconfig('controller-manager')}`,
    `--service-account-private-key-file=${pki.serviceAccountKey}`,
    `--root-ca-file=${pki.authority.certificate}`,
    `--cluster-cidr=${POD_NETWORK}`,
    '--use-service-account-credentials',
    // Its own is in /usr.
    `--flex-volume-plugin-dir=${join(cluster.directory, 'volume-plugins')}`,
    '--leader-elect=false',
    `--cert-dir=${join(cluster.directory, 'certs')}`,
  ];
}
