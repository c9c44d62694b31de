/** The sources that a configuration names. */
import type { Logger } from '../log.ts';
import { DirectorySource } from './directory.ts';
import { KubernetesSource } from './kubernetes/kubernetes.ts';
import type { Source } from './source.ts';

/** The flag --source, as it was read. */
export type SourceConfig =
  | { readonly kind: 'dir'; readonly path: string }
  /** Without a kubeconfig: that of KUBECONFIG, else a pod's service account, else that of the home directory. */
  | { readonly kind: 'kubernetes'; readonly kubeconfig?: string; readonly nodeName: string };

/** Opens them; nothing is read yet. @throws EngineError `SOURCE_MISSING`, `CONFIG_INVALID` */
export function openSources(config: SourceConfig, log: Logger): Source[] {
  switch (config.kind) {
    case 'dir':
      return [new DirectorySource(config.path, log)];
    case 'kubernetes':
      return [new KubernetesSource(config, log)];
  }
}
