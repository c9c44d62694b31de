/** A content is all that a held packet is part of, when it is decided by what it says: read, asked about, and sent on or ended as a whole. */
import type { Scope } from '../abi.gen.ts';
import type { Question } from '../plugin-runtime/question.ts';
import type { HeldPacket } from './held-packet.ts';

/** Takes packets to send on. */
export interface Outbox {
  /** `decided`: with this packet everything that it belongs to passes; `passed`: it passes by itself; `plain`: it is the engine's own. */
  send(packet: HeldPacket, as: 'decided' | 'passed' | 'plain'): void;
}

/** How much of it is known with the packets so far. */
export type Reading =
  /** Whoever decides can be asked. */
  | { readonly state: 'read' }
  /** More has to come. */
  | { readonly state: 'incomplete' }
  /** It was let through before, and this packet comes again. */
  | { readonly state: 'decided' }
  /** It is not what is asked about: nobody has to be asked to refuse it. */
  | { readonly state: 'unreadable'; readonly reason: string }
  /** There is no room for it: the failure policy decides. */
  | { readonly state: 'overflow' };

/** The decision about a held packet, or about all that it is part of. */
export interface Outcome {
  readonly allowed: boolean;
  /** How widely it may be kept. */
  readonly scope: Scope;
  /** Milliseconds; 0 where the plugin did not say. */
  readonly ttlMs: number;
  /** Of DNS, of a refusal; 0 where the plugin did not say. */
  readonly responseCode: number;
  /** By the failure policy: nobody could answer, and another time somebody may. */
  readonly failed: boolean;
}

/** A content that no plugin sees, and that nothing more comes of. */
export function settling(reading: Reading, settle: Content['settle']): Content {
  return { reading, describe: () => {}, wait: () => {}, settle };
}

export interface Content {
  readonly reading: Reading;
  /** Fills in the fields that a plugin sees of it. */
  describe(question: Question): void;
  /** Sends on the packets that may pass while it is incomplete. */
  wait(outbox: Outbox): void;
  settle(outcome: Outcome, outbox: Outbox): void;
}
