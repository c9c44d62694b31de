/** The programs of a cluster and the suites that run against it: built from pinned Go modules when they are wanted first, and found afterwards. */
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached } from './cache.ts';
import { go, moduleDirectory } from './go.ts';

export const modules = fileURLToPath(new URL('../modules', import.meta.url));
const KUBERNETES = join(modules, 'kubernetes');
const CONFORMANCE = join(modules, 'conformance');
/** The kind that the conformance suite is about, with its experimental fields. */
export const POLICY_CRD = 'policy.networking.k8s.io_clusternetworkpolicies.yaml';
/** Changed when the way in which things are built is another. */
export const RECIPE = '1';

export interface Building {
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** The version of a module that a go.mod requires. @throws Error where it does not. */
export function requiredVersion(goMod: string, module: string): string {
  const line = goMod.split('\n').find((text) => text.trim().startsWith(`${module} v`));
  if (!line) throw new Error(`Cannot find ${module} in go.mod: it requires no such module`);
  return line.trim().split(' ')[1] as string;
}

const moduleInputs = (module: string): string[] => ['go.mod', 'go.sum'].map((file) => readFileSync(join(module, file), 'utf8'));

export const KUBERNETES_VERSION = requiredVersion(readFileSync(join(KUBERNETES, 'go.mod'), 'utf8'), 'k8s.io/kubernetes');

/** Without these the programs call themselves v0.0.0-master, and clients complain about the difference. */
function versionFlags(version: string): string {
  const [major = '', minor = ''] = version.slice(1).split('.');
  const base = 'k8s.io/component-base/version';
  const values = { gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' };
  const flags = Object.entries(values).map(([name, value]) => `-X ${base}.${name}=${value}`);
  return ['-s -w', ...flags, `-X k8s.io/client-go/pkg/version.gitVersion=${version}`].join(' ');
}

const CLUSTER_PACKAGES = [
  ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy', 'kubectl'].map((name) => `cmd/${name}`),
  'test/images/agnhost',
].map((name) => `k8s.io/kubernetes/${name}`);

/** Directory with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl and agnhost. */
export function clusterPrograms({ report, signal }: Building): Promise<string> {
  const what = `Kubernetes ${KUBERNETES_VERSION}`;
  const flags = versionFlags(KUBERNETES_VERSION);
  return cached({
    name: 'kubernetes',
    inputs: [RECIPE, flags, ...CLUSTER_PACKAGES, ...moduleInputs(KUBERNETES)],
    ...{ report, signal },
    build: async (directory) => {
      report(`building ${what}: once, about ten minutes on two processors`);
      const build = (output: string, ldflags: string, ...packages: string[]): Promise<void> =>
        go({
          ...{ directory: KUBERNETES, what, report, signal },
          arguments: ['build', '-v', '-trimpath', '-ldflags', ldflags, '-o', output, ...packages],
        });
      await build(`${directory}/`, flags, ...CLUSTER_PACKAGES);
      await build(join(directory, 'etcd'), '-s -w', 'go.etcd.io/etcd/server/v3');
    },
  });
}

/** Directory with e2e.test, upstream's end-to-end suite, and ginkgo, which runs it. */
export function suitePrograms({ report, signal }: Building): Promise<string> {
  const what = `upstream's suite ${KUBERNETES_VERSION}`;
  const flags = versionFlags(KUBERNETES_VERSION);
  return cached({
    name: 'suite',
    inputs: [RECIPE, flags, ...moduleInputs(KUBERNETES)],
    ...{ report, signal },
    build: async (directory) => {
      report(`building ${what}: once, a few minutes`);
      const common = { directory: KUBERNETES, what, report, signal };
      const output = ['-v', '-trimpath', '-ldflags', flags, '-o'];
      await go({ ...common, arguments: ['test', '-c', ...output, join(directory, 'e2e.test'), 'k8s.io/kubernetes/test/e2e'] });
      await go({ ...common, arguments: ['build', ...output, join(directory, 'ginkgo'), 'github.com/onsi/ginkgo/v2/ginkgo'] });
    },
  });
}

/** Directory with conformance.test, network-policy-api's suite, and the CRD of POLICY_CRD. */
export function conformancePrograms({ report, signal }: Building): Promise<string> {
  const test = readFileSync(join(CONFORMANCE, 'conformance_test.go'), 'utf8');
  const what = 'the conformance suite of network-policy-api';
  return cached({
    name: 'conformance',
    inputs: [RECIPE, test, ...moduleInputs(CONFORMANCE)],
    ...{ report, signal },
    build: async (directory) => {
      report(`building ${what}: once, a minute`);
      const output = join(directory, 'conformance.test');
      const build = ['test', '-c', '-v', '-trimpath', '-ldflags', '-s -w', '-o', output, '.'];
      await go({ directory: CONFORMANCE, what, report, signal, arguments: build });
      // Its CRDs are in the module, and must be of the same version.
      const crds = join(await moduleDirectory(CONFORMANCE, 'sigs.k8s.io/network-policy-api'), 'config/crd/experimental');
      cpSync(join(crds, POLICY_CRD), join(directory, POLICY_CRD));
    },
  });
}
