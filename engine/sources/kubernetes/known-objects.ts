/**
 * The objects of one kind that were told: their slots, and in which round each was seen last. A list is a round: what it did not have is
 * gone when it is complete, and not before. Nothing else of an object is kept here.
 */
import { objectName } from '../../policy/object-name.ts';
import { isRecord, type Origin } from '../raw-object.ts';
import { readObject } from '../read-object.ts';
import { readVersion } from '../read-version.ts';
import type { Entry, SlotChange } from '../source.ts';
import { ApiFailure } from './api-failure.ts';
import type { RawRecord } from './encodings.ts';

export class KnownObjects {
  readonly #origin: Origin;
  readonly #lean: (entry: Entry) => Entry;
  /** Slot → round. */
  readonly #seen = new Map<string, number>();
  #round = 0;

  /** `lean`: makes of an entry one that needs less memory. */
  constructor(origin: Origin, lean: (entry: Entry) => Entry = (entry) => entry) {
    this.#origin = origin;
    this.#lean = lean;
  }

  get size(): number {
    return this.#seen.size;
  }

  /** A list begins. */
  begin(): void {
    this.#round += 1;
  }

  /** Takes an object as it is now. @throws ApiFailure when it has no name */
  take(raw: RawRecord): SlotChange {
    const slot = slotOf(raw);
    const { object, problems } = readObject(raw, this.#origin);
    // Such as a route of a Gateway, or a slice of no Service.
    if (!object && !problems.length) return this.drop(raw);
    this.#seen.set(slot, this.#round);
    const version = readVersion(raw);
    return { slot, entry: this.#lean({ ...(object && { object }), ...(version && { version }), problems }) };
  }

  drop(raw: RawRecord): SlotChange {
    const slot = slotOf(raw);
    this.#seen.delete(slot);
    return { slot };
  }

  /** The list is complete: what it did not have is gone. */
  finish(): SlotChange[] {
    const gone = [...this.#seen].flatMap(([slot, round]) => (round === this.#round ? [] : [{ slot }]));
    for (const { slot } of gone) this.#seen.delete(slot);
    return gone;
  }
}

function slotOf({ kind, metadata }: RawRecord): string {
  const { name, namespace } = isRecord(metadata) ? metadata : {};
  if (typeof name !== 'string' || !name) throw new ApiFailure('nonsense', 'nonsense: an object without a name');
  return `${String(kind)} ${objectName({ namespace: typeof namespace === 'string' && namespace ? namespace : undefined, name })}`;
}
