/** The contents that packets of a batch are part of, where those decide them: made once for each packet, kept for as long as its batch. */
import { Abi, Context } from '../abi.gen.ts';
import type { Content } from '../held/content.ts';
import { Conversations } from '../held/conversations.ts';
import { Pieces } from '../held/dns-pieces.ts';
import { HeldAnswer } from '../held/held-answer.ts';
import type { HeldPacket } from '../held/held-packet.ts';
import type { AskBatch } from './ask-batch.ts';

export class Contents {
  #conversations = new Conversations();
  #pieces = new Pieces();
  readonly #ofBatch = new Map<number, Content>();

  /** Of a packet of the batch; undefined where the packet alone is asked about. */
  of(batch: AskBatch, index: number): Content | undefined {
    const at = batch.at(index);
    const context = batch.context(at);
    if (context !== Context.TLS && context !== Context.DNS) return undefined;
    let content = this.#ofBatch.get(index);
    if (!content) {
      content = this.#take(batch.packet(index), context, batch.plugin(at));
      this.#ofBatch.set(index, content);
    }
    return content;
  }

  #take(packet: HeldPacket, context: Context, plugin: number): Content {
    if (context === Context.TLS) return this.#conversations.take(packet, performance.now());
    return plugin === Abi.PIECES ? this.#pieces.take(packet, performance.now()) : new HeldAnswer(packet);
  }

  /** Ends a batch that could not be carried out: what is held may be in memory that is another batch's by now. */
  forget(): void {
    this.#conversations = new Conversations();
    this.#pieces = new Pieces();
    this.clear();
  }

  /** Ends a batch. */
  clear(): void {
    this.#ofBatch.clear();
  }
}
