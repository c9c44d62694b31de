/**
 * The conversations of all clients: those whose hello is not complete, and those that were let through, for as long as the server may
 * not have it. Everything that a client can make us keep is bounded, and no endpoint takes another one's share.
 */
import { askCodec } from '../abi.gen.ts';
import type { Content } from './content.ts';
import { Conversation } from './conversation.ts';
import type { HeldPacket } from './held-packet.ts';

/** Of conversations that are not decided: held packets and streams. What does not fit gets the failure policy. */
const OPEN_BYTES = 16 * 1024 * 1024;
/** Of those that were let through: what was agreed on. The oldest is forgotten; its client is ended if it says its hello again. */
const ALLOWED_BYTES = 16 * 1024 * 1024;
const ENDPOINT_SHARE = 1 / 8;
/** A client that has not said all in this time is forgotten; TCP sends again for longer, and then it is read anew. */
const LIFE_MS = 30_000;

const ASK = askCodec.offsets;

export class Conversations {
  readonly #open = new Shelf(OPEN_BYTES);
  readonly #allowed = new Shelf(ALLOWED_BYTES);

  /** Takes a packet in; what comes of it is a content of its own, for the batch that the packet is in. */
  take(packet: HeldPacket, nowMs: number): Content {
    const key = keyOf(packet);
    for (const shelf of [this.#open, this.#allowed]) {
      shelf.expire(nowMs);
      if (shelf.find(key)?.isOf(packet) === false) shelf.remove(key);
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
      settle: (decision, outbox) => {
        current.settle(decision, packet, outbox);
        this.#open.remove(key);
        if (current.isAllowed) this.#allowed.makeRoom(key, current);
      },
    };
  }
}

/** Conversations in the order in which they came, with the bytes that they take by endpoint. */
class Shelf {
  readonly #bytesMax: number;
  readonly #entries = new Map<string, { readonly conversation: Conversation; readonly bytes: number }>();
  readonly #endpoints = new Map<number, { bytes: number; readonly keys: Set<string> }>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  find(key: string): Conversation | undefined {
    return this.#entries.get(key)?.conversation;
  }

  hasRoom(endpoint: number, bytes: number): boolean {
    const used = this.#endpoints.get(endpoint)?.bytes ?? 0;
    return this.#bytes + bytes <= this.#bytesMax && used + bytes <= this.#bytesMax * ENDPOINT_SHARE;
  }

  /** Notes a conversation, or that it takes more or less than before. */
  put(key: string, conversation: Conversation): void {
    const before = this.#entries.get(key)?.bytes ?? 0;
    const { size: bytes, endpoint } = conversation;
    this.#entries.set(key, { conversation, bytes });
    const own = this.#endpoints.get(endpoint) ?? { bytes: 0, keys: new Set<string>() };
    this.#endpoints.set(endpoint, own);
    own.bytes += bytes - before;
    own.keys.add(key);
    this.#bytes += bytes - before;
  }

  /** The same, in the place of the oldest: of this endpoint, when it has its share. */
  makeRoom(key: string, conversation: Conversation): void {
    this.remove(key);
    for (
      const own = this.#endpoints.get(conversation.endpoint);
      own?.keys.size && !this.hasRoom(conversation.endpoint, conversation.size);
    )
      this.remove(own.keys.values().next().value as string);
    for (const oldest of this.#entries.keys()) {
      if (this.hasRoom(conversation.endpoint, conversation.size)) break;
      this.remove(oldest);
    }
    this.put(key, conversation);
  }

  remove(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    const { endpoint } = entry.conversation;
    const own = this.#endpoints.get(endpoint);
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
    if (!own) return;
    own.bytes -= entry.bytes;
    own.keys.delete(key);
    if (!own.keys.size) this.#endpoints.delete(endpoint);
  }

  expire(nowMs: number): void {
    for (const [key, { conversation }] of this.#entries) {
      if (conversation.expiresMs > nowMs) return;
      this.remove(key);
    }
  }
}

/** A packet that there is no room for: the failure policy is about it alone. */
function overflow(packet: HeldPacket): Content {
  return {
    reading: { state: 'overflow' },
    describe: () => {},
    wait: () => {},
    settle: ({ allowed }, outbox) => {
      if (allowed) outbox.send(packet, 'decided');
    },
  };
}

function keyOf({ record }: HeldPacket): string {
  const text = (from: number, to: number): string => record.toString('latin1', from, to);
  return text(ASK.source, ASK.source + 32) + text(ASK.endpoint, ASK.endpoint + 4) + text(ASK.sourcePort, ASK.sourcePort + 4);
}
