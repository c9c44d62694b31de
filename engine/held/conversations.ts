/**
 * The conversations of all clients: those whose hello is not complete, and those that were let through, for as long as the server may
 * not have it. Everything that a client can make us keep is bounded, and no endpoint takes another one's share.
 */
import { BoundedStore } from './bounded-store.ts';
import { type Content, settling } from './content.ts';
import { Conversation } from './conversation.ts';
import type { HeldPacket } from './held-packet.ts';

/** Of conversations that are not decided: held packets and streams. What does not fit gets the failure policy. */
const OPEN_BYTES = 16 * 1024 * 1024;
/** Of those that were let through, with the bytes that were agreed on. The oldest is forgotten; its client is ended if it says its hello again. */
const ALLOWED_BYTES = 16 * 1024 * 1024;
/** A client that has not said all in this time is forgotten; TCP sends again for longer, and then it is read anew. */
const LIFE_MS = 30_000;

export class Conversations {
  readonly #open = new BoundedStore<Conversation>(OPEN_BYTES);
  readonly #allowed = new BoundedStore<Conversation>(ALLOWED_BYTES);

  /** Takes a packet in; returns a content of its own, for the batch that the packet is in. */
  take(packet: HeldPacket, nowMs: number): Content {
    const { key } = packet;
    for (const store of [this.#open, this.#allowed]) {
      store.expire(nowMs);
      if (store.find(key)?.isOf(packet) === false) store.remove(key);
    }
    let conversation = this.#allowed.find(key) ?? this.#open.find(key);
    if (!conversation?.isAllowed) {
      if (!this.#open.hasRoom(packet.endpoint, packet.record.length)) return overflow(packet);
      conversation ??= new Conversation(packet, nowMs + LIFE_MS);
    }
    const current = conversation;
    const reading = current.add(packet);
    if (!current.isAllowed) this.#open.put(key, current);
    return {
      reading,
      describe: (question) => current.describe(question),
      wait: (outbox) => {
        current.wait(outbox);
        this.#open.put(key, current);
      },
      settle: (outcome, outbox) => {
        current.settle(outcome, packet, outbox);
        this.#open.remove(key);
        if (current.isAllowed) this.#allowed.makeRoom(key, current);
      },
    };
  }
}

/** A packet that there is no room for: the failure policy is about it alone. */
export function overflow(packet: HeldPacket): Content {
  return settling({ state: 'overflow' }, ({ allowed }, outbox) => {
    if (allowed) outbox.send(packet, 'decided');
  });
}
