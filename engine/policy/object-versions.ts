/**
 * The versions of policy objects, and their checksums in parts: two engines that have the same versions have the same checksums, and one
 * that is behind differs in the parts of what it is behind with. Which part an object is in, its name says.
 */
import { createHash } from 'node:crypto';
import { objectName } from './object-name.ts';

/** An object in an API, as it was written by somebody once. */
export interface ObjectVersion {
  readonly apiVersion: string;
  readonly kind: string;
  /** Absent for what belongs to none. */
  readonly namespace?: string;
  readonly name: string;
  /** Another object of the name has another one. */
  readonly uid: string;
  /** Counts what its author wrote into it: a status changes nothing here. Absent: nobody counts, and checksums say nothing of it. */
  readonly generation?: number;
}

export const PARTS = 64;

/** `PluginPolicy shop/web`: unique among all objects. */
export function versionKey({
  kind,
  namespace,
  name,
}: {
  readonly kind: string;
  readonly namespace?: string | undefined;
  readonly name: string;
}): string {
  return `${kind} ${objectName({ namespace, name })}`;
}

/** The part that an object is in, below PARTS. */
export function partOf(key: string): number {
  return digest(key) % PARTS;
}

export class ObjectVersions {
  readonly #byKey = new Map<string, ObjectVersion>();
  readonly #parts = new Uint32Array(PARTS);
  #revision = 0;

  /** Counts changes. */
  get revision(): number {
    return this.#revision;
  }

  /** 32 bits of each part. */
  get checksums(): Uint32Array {
    return this.#parts.slice();
  }

  get(key: string): ObjectVersion | undefined {
    return this.#byKey.get(key);
  }

  *[Symbol.iterator](): Iterator<[key: string, version: ObjectVersion]> {
    yield* this.#byKey;
  }

  /** Takes over which version there is now; undefined: it is gone. */
  set(key: string, version: ObjectVersion | undefined): void {
    const before = this.#byKey.get(key);
    if (before?.uid === version?.uid && before?.generation === version?.generation) return;
    const part = partOf(key);
    // Whatever the order, the sum is the same; what is added twice is taken away.
    for (const each of [before, version])
      if (each?.generation !== undefined) this.#parts[part] = (this.#parts[part] as number) ^ digest(textOf(key, each));
    if (version) this.#byKey.set(key, version);
    else this.#byKey.delete(key);
    this.#revision += 1;
  }
}

/**
 * The checksums as text: 8 digits for each part.
 *
 * @example
 * parseChecksums(formatChecksums(new Uint32Array(64)))?.length // 64
 * parseChecksums('xyz') // undefined
 */
export function formatChecksums(checksums: Uint32Array): string {
  return [...checksums].map((sum) => sum.toString(16).padStart(8, '0')).join('');
}

/** undefined: the text is no checksums. */
export function parseChecksums(text: string): Uint32Array | undefined {
  if (text.length !== PARTS * 8 || !/^[0-9a-f]+$/.test(text)) return undefined;
  return Uint32Array.from({ length: PARTS }, (_, i) => Number.parseInt(text.slice(i * 8, i * 8 + 8), 16));
}

function textOf(key: string, { uid, generation }: ObjectVersion): string {
  return `${key} ${uid} ${generation}`;
}

function digest(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE(0);
}
