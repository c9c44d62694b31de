/**
 * The beginning of what one side of a TCP connection says, put together from packets in any order.
 *
 * A hostile sender may send the same place twice with other bytes, so that the other side reads something else than we did: the
 * first bytes count, and whatever is sent on has them.
 */
import type { HeldPacket } from './held-packet.ts';

/** Part of a stream that has come. */
interface Range {
  readonly from: number;
  readonly to: number;
}

const EMPTY = Buffer.alloc(0);
/** A sender leaves few gaps; a hostile one would have us sort thousands for each packet. */
const RANGES_MAX = 64;

export class Reassembly {
  /** Sequence number of its first byte. */
  readonly start: number;
  readonly #bytesMax: number;
  #bytes: Buffer = EMPTY;
  #ranges: Range[] = [];

  constructor(start: number, bytesMax: number) {
    this.start = start;
    this.#bytesMax = bytesMax;
  }

  /** Bytes of memory that it takes. */
  get size(): number {
    return this.#bytes.length;
  }

  /** How far it is without a gap. */
  get complete(): number {
    const [first] = this.#ranges;
    return first?.from === 0 ? first.to : 0;
  }

  /** So far; in memory that changes. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.complete);
  }

  /** Where in it a packet's data begin; negative before its start. */
  offset(packet: HeldPacket): number {
    return (packet.sequence - this.start) | 0;
  }

  /** Whether a packet's data can be part of it. */
  holds(packet: HeldPacket): boolean {
    const from = this.offset(packet);
    return from >= 0 && from + packet.data.length <= this.#bytesMax && this.#ranges.length < RANGES_MAX;
  }

  /** Takes the data of a packet in, where none have come yet. Returns whether all of them had. */
  add(packet: HeldPacket): boolean {
    const { data } = packet;
    const from = this.offset(packet);
    const to = from + data.length;
    if (this.#ranges.some((range) => range.from <= from && range.to >= to)) return true;
    if (to > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(this.#bytes.length ? Math.min(this.#bytesMax, Math.max(to, 2 * this.#bytes.length)) : to);
      this.#bytes.copy(larger);
      this.#bytes = larger;
    }
    let at = from;
    for (const range of this.#ranges) {
      if (range.to <= at) continue;
      if (range.from > at) data.copy(this.#bytes, at, at - from, Math.min(range.from, to) - from);
      at = Math.max(at, Math.min(range.to, to));
      if (at >= to) break;
    }
    if (at < to) data.copy(this.#bytes, at, at - from);
    this.#ranges = joined([...this.#ranges, { from, to }]);
    return false;
  }

  /** All that follows so many of its bytes, as a reassembly of its own. */
  after(length: number): Reassembly {
    const rest = new Reassembly((this.start + length) >>> 0, this.#bytesMax);
    rest.#bytes = Buffer.from(this.#bytes.subarray(length));
    rest.#ranges = this.#ranges
      .map(({ from, to }) => ({ from: Math.max(0, from - length), to: to - length }))
      .filter(({ from, to }) => to > from);
    return rest;
  }

  /** Gives a packet the bytes that came first in its places. */
  agree(packet: HeldPacket): HeldPacket {
    const { data } = packet;
    const at = this.offset(packet);
    for (const { from, to } of this.#ranges) {
      const first = Math.max(from, at);
      const last = Math.min(to, at + data.length);
      if (first < last) this.#bytes.copy(data, first - at, first, last);
    }
    return packet;
  }
}

/** Ranges in order, those that touch made one. */
function joined(ranges: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const range of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = result.at(-1);
    if (last && range.from <= last.to) result[result.length - 1] = { from: last.from, to: Math.max(last.to, range.to) };
    else result.push(range);
  }
  return result;
}
