/** The sources that a configuration names. */
import type { Logger } from '../log.ts';
import { DirectorySource } from './directory.ts';
import type { Source } from './source.ts';

/** The flag --source, as it was read. */
export type SourceConfig = { readonly kind: 'dir'; readonly path: string };

/** Opens them; nothing is read yet. @throws EngineError `SOURCE_MISSING` */
export function openSources(config: SourceConfig, log: Logger): Source[] {
  switch (config.kind) {
    case 'dir':
      return [new DirectorySource(config.path, log)];
  }
}
