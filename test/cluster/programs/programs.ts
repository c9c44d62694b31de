/** The programs and images of a cluster: built from pinned Go modules when they are wanted first, and found afterwards. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../command.ts';
import { cached } from './cache.ts';
import { go } from './go.ts';
import { AGNHOST_IMAGE, PAUSE_IMAGE, writeImage } from './images.ts';

const modules = fileURLToPath(new URL('../modules', import.meta.url));
const KUBERNETES = join(modules, 'kubernetes');
/** Changed when the way in which things are built is another. */
const RECIPE = '1';

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

/** The archives of the images that nodes have. */
export async function nodeImages(programs: string, { report, signal }: Building): Promise<string[]> {
  const source = join(modules, 'pause.c');
  const directory = await cached({
    name: 'images',
    inputs: [RECIPE, programs, PAUSE_IMAGE, AGNHOST_IMAGE, readFileSync(source, 'utf8')],
    ...{ report, signal },
    build: async (directory) => {
      report('making images');
      const pause = join(directory, 'pause');
      await run(['cc', '-Os', '-static', '-s', source, '-o', pause]);
      await writeImage(join(directory, 'pause.tar'), { name: PAUSE_IMAGE, program: pause, arguments: [] });
      const agnhost = join(programs, 'agnhost');
      await writeImage(join(directory, 'agnhost.tar'), { name: AGNHOST_IMAGE, program: agnhost, arguments: ['pause'] });
    },
  });
  return [join(directory, 'pause.tar'), join(directory, 'agnhost.tar')];
}
