/**
 * Modules that were pushed over HTTP, kept in the state directory so that a restart finds them.
 *
 * A pushed module stands until the file that the source declares changes: then that file is the newer word.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';

interface Note {
  /** SHA-256 of the module, hex. */
  readonly sha256: string;
  /** SHA-256 of the declared file when this was pushed; empty when there was none. */
  readonly fileSha256: string;
}

export class ModuleStore {
  readonly #directory: string;
  readonly #log: Logger;

  constructor(stateDirectory: string, log: Logger) {
    this.#directory = join(stateDirectory, 'plugins');
    this.#log = log;
  }

  /** The module that was pushed for a plugin, unless its declared file has changed since, or it is damaged. */
  find(name: string, fileSha256: string): Uint8Array | undefined {
    let bytes: Buffer;
    let note: Note;
    try {
      note = JSON.parse(readFileSync(join(this.#directory, `${name}.json`), 'utf8')) as Note;
      bytes = readFileSync(join(this.#directory, `${name}.wasm`));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#log.warn({ plugin: name, reason: messageOf(error) }, 'pushed module not readable');
      return undefined;
    }
    if (note.fileSha256 !== fileSha256) return undefined;
    if (sha256(bytes) === note.sha256) return bytes;
    this.#log.error({ plugin: name }, 'pushed module is damaged; the declared one is used');
    return undefined;
  }

  /** Keeps a module. Each file is replaced whole; a crash between the two shows as damage, and is treated so. */
  save(name: string, bytes: Uint8Array, fileSha256: string): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    this.#replace(`${name}.wasm`, bytes);
    this.#replace(`${name}.json`, JSON.stringify({ sha256: sha256(bytes), fileSha256 } satisfies Note));
  }

  #replace(name: string, content: string | Uint8Array): void {
    const path = join(this.#directory, name);
    writeFileSync(`${path}.new`, content, { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
