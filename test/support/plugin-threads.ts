/** Plugins as a thread has them, with guests that say what a test wants; and batches of held packets for them. */
import { Scope, VerdictWord } from '../../engine/abi.gen.ts';
import { RECORD_HEADER, type SharedMemory } from '../../engine/flow/shared-memory.ts';
import type { HeldPacket } from '../../engine/held/held-packet.ts';
import { type Guest, LoadedPlugin } from '../../engine/plugin-runtime/loaded-plugin.ts';
import type { CandidateOf, PluginSetup, PluginVersion } from '../../engine/plugin-runtime/plugin-setup.ts';
import type { Question } from '../../engine/plugin-runtime/question.ts';

/** A guest that answers by a function; it counts how often it is asked. */
export class FakeGuest implements Guest {
  asked = 0;
  responseCode = 0;
  fuelUsed = 10;
  route = '';
  fieldsRead = 0;
  cookie = '';
  readonly reads = { fields: 0, headers: [], cookies: [] };
  readonly #answer: (question: Question) => number;
  readonly #hooks: readonly number[];

  constructor(answer: number | ((question: Question) => number), hooks: readonly number[] = [0, 1, 2, 3]) {
    this.#answer = typeof answer === 'number' ? () => answer : answer;
    this.#hooks = hooks;
  }

  answers(hook: number): boolean {
    return this.#hooks.includes(hook);
  }

  evaluate(question: Question): number {
    this.asked += 1;
    return this.#answer(question);
  }

  reason(): string {
    return 'because';
  }
}

let serials = 0;

export function version(parts: object = {}): PluginVersion {
  serials += 1;
  const manifest = { fields: [], headers: [], cookies: [] };
  return { serial: serials, parts: { plugin: 'p', trusted: false, manifest, ...parts } as unknown as PluginVersion['parts'] };
}

export function setup(fields: Partial<PluginSetup> = {}): PluginSetup {
  return {
    id: 5,
    name: 'p',
    nameHash: 1n,
    moduleHash: 2n,
    epoch: 1,
    evaluateMs: 5,
    failureAllow: false,
    enforced: true,
    live: version(),
    previous: undefined,
    candidate: undefined,
    ...fields,
  };
}

export interface Guests {
  readonly live: Guest | undefined;
  readonly previous?: Guest;
  readonly candidate?: { readonly guest: Guest } & Omit<CandidateOf<never>, 'version'>;
}

/** A plugin with these guests. */
export function loaded({ live, previous, candidate }: Guests, fields: Partial<PluginSetup> = {}): LoadedPlugin {
  const guests = new Map<number, Guest | undefined>();
  const versionOf = (guest: Guest | undefined): PluginVersion => {
    const made = version();
    guests.set(made.serial, guest);
    return made;
  };
  const versions = {
    live: versionOf(live),
    previous: previous && versionOf(previous),
    candidate: candidate && { version: versionOf(candidate.guest), mode: candidate.mode, weight: candidate.weight },
  };
  return new LoadedPlugin(setup({ ...versions, ...fields }), (one) => ({ version: one, guest: guests.get(one.serial) }));
}

/** A verdict word of that scope, good for so many milliseconds. */
export function word(action: number, scope: Scope = Scope.NONE, ttlMs = 0): number {
  return action | (scope << VerdictWord.SCOPE_SHIFT) | ((ttlMs / VerdictWord.TTL_UNIT_MS) << VerdictWord.TTL_SHIFT);
}

/** Writes packets into a batch, as the kernel library does. Returns how many they are. */
export function fill(memory: SharedMemory, packets: readonly HeldPacket[]): number {
  const bytes = Buffer.from(memory.batch);
  let at = 0;
  for (const { record } of packets) {
    bytes.writeUInt32LE(record.length, at);
    bytes.writeUInt32LE(0, at + 4);
    record.copy(bytes, at + RECORD_HEADER);
    at += RECORD_HEADER + ((record.length + 7) & ~7);
  }
  return packets.length;
}
