/** A batch of drained asks, as records in memory: struct ask behind a header, then the packet's bytes. */
import { AskFlag, askCodec, type Context } from '../abi.gen.ts';
import { HeldPacket } from '../held/held-packet.ts';
import type { AskedFlow } from '../plugin-runtime/messages.ts';
import type { IdentityTexts, PodTexts, Question } from '../plugin-runtime/question.ts';
import { BATCH_RECORDS_MAX, RECORD_HEADER } from './shared-memory.ts';

const ASK = askCodec.offsets;

export class AskBatch {
  readonly bytes: Buffer;
  readonly #words: Int32Array;
  /** Where each record's header is. */
  readonly offsets = new Uint32Array(BATCH_RECORDS_MAX);

  constructor(memory: SharedArrayBuffer) {
    this.bytes = Buffer.from(memory);
    this.#words = new Int32Array(memory);
  }

  /** Finds where the records of a batch that was just drained begin. */
  index(count: number): void {
    let at = 0;
    for (let i = 0; i < count; i++) {
      this.offsets[i] = at;
      at += RECORD_HEADER + ((this.bytes.readUInt32LE(at) + 7) & ~7);
    }
  }

  /** Where the struct ask of a record is. */
  at(index: number): number {
    return (this.offsets[index] as number) + RECORD_HEADER;
  }

  /** A record's packet, in this memory. */
  packet(index: number): HeldPacket {
    const at = this.at(index);
    return new HeldPacket(this.bytes.subarray(at, at + this.bytes.readUInt32LE(at - RECORD_HEADER)));
  }

  context(at: number): Context {
    return this.bytes.readUInt8(at + ASK.context) as Context;
  }

  rule(at: number): number {
    return this.bytes.readUInt32LE(at + ASK.rule);
  }

  plugin(at: number): number {
    return this.bytes.readUInt32LE(at + ASK.plugin);
  }

  heldNs(at: number): bigint {
    return this.bytes.readBigUInt64LE(at + ASK.timeNs);
  }

  /** Addresses, ports, protocol, direction and plugin: the packets that one decision answers. */
  flowKey(at: number): string {
    const { source, plugin, sourcePort, protocol, context } = ASK;
    const text = (from: number, to: number): string => this.bytes.toString('latin1', at + from, at + to);
    return text(source, source + 32) + text(plugin, plugin + 4) + text(sourcePort, sourcePort + 4) + text(protocol, context + 1);
  }

  /** Fills a question in with what a record says, and who is behind its addresses. */
  ask(at: number, question: Question, timeMs: number, cluster: Cluster): void {
    const batch = this.bytes;
    question.hook = this.context(at);
    question.words = this.#words;
    question.wordsAt = (at + ASK.source) >> 2;
    question.sourceIdentity = batch.readUInt32LE(at + ASK.sourceIdentity);
    question.destinationIdentity = batch.readUInt32LE(at + ASK.destinationIdentity);
    question.sourcePort = batch.readUInt16BE(at + ASK.sourcePort);
    question.destinationPort = batch.readUInt16BE(at + ASK.destinationPort);
    question.protocol = batch.readUInt8(at + ASK.protocol);
    question.direction = batch.readUInt8(at + ASK.direction);
    question.rule = this.rule(at);
    question.established = (batch.readUInt8(at + ASK.flags) & AskFlag.ESTABLISHED) !== 0;
    question.timeMs = timeMs;
    question.clearTexts();
    question.dnsName = cluster.domain(batch.toString('latin1', at + ASK.name, at + ASK.name + 8));
    question.source = cluster.identities.get(question.sourceIdentity);
    question.destination = cluster.identities.get(question.destinationIdentity);
    question.sourcePod = cluster.pods.get(batch.toString('latin1', at + ASK.source, at + ASK.source + 16));
    const destination = batch.toString('latin1', at + ASK.destination, at + ASK.destination + 16);
    question.destinationPod = cluster.pods.get(destination);
    question.destinationService = cluster.services.get(destination);
  }

  /** The fields that people are shown of a record, without those of its outcome. */
  describe(at: number): Omit<AskedFlow, 'allowed' | 'audited' | 'failed' | 'reason' | 'scope' | 'ttlMs' | 'heldUs' | 'contentName'> {
    const { flags, ...ask } = askCodec.read(this.bytes, at);
    return { ...ask, context: this.context(at), established: (flags & AskFlag.ESTABLISHED) !== 0 };
  }
}

/** Who is behind identities and addresses. */
export interface Cluster {
  readonly identities: ReadonlyMap<number, IdentityTexts>;
  /** By the address's 16 bytes as a latin1 string. */
  readonly pods: ReadonlyMap<string, PodTexts>;
  /** By the cluster address in the same form. */
  readonly services: ReadonlyMap<string, Uint8Array>;
  /** A domain name by the eight bytes of its hash as a latin1 string; empty when nobody knows it. */
  domain(hash: string): string;
}
