/** A text of the context record, read where it lies: nothing is allocated until toString(). */
import { CONTEXT } from './state';

/** Never an object: the handle itself is offset | length << 16. Texts of requests are bytes, all others are UTF-8. */
@unmanaged
export class Text {
  /** Bytes. */
  get length(): i32 { return <i32>(<u32>changetype<usize>(this) >>> 16); }

  get isEmpty(): bool { return this.length == 0; }

  /** Compares with an ASCII text. */
  equals(text: string): bool { return this.length == text.length && this.matchesAt(0, text); }

  /** The same, taking A for a. */
  equalsIgnoringCase(text: string): bool {
    if (this.length != text.length) return false;
    for (let i = 0; i < text.length; i++) if (lower(this.byteAt(i)) != lower(<u32>text.charCodeAt(i))) return false;
    return true;
  }

  startsWith(text: string): bool { return this.length >= text.length && this.matchesAt(0, text); }

  endsWith(text: string): bool { return this.length >= text.length && this.matchesAt(this.length - text.length, text); }

  /** Byte `index`; 0 beyond the end. */
  byteAt(index: i32): u32 { return <u32>index < <u32>this.length ? <u32>load<u8>(this.start + <usize>index) : 0; }

  /**
   * Whether this domain name is the pattern: itself, or with `*.` in front every name below it, of one or more labels.
   * Case does not count, nor does a dot at the end. Source: the network-policy-api's domainNames.
   */
  matchesDomain(pattern: string): bool {
    let length = this.length;
    if (length > 0 && this.byteAt(length - 1) == 0x2e) length--;
    const wild = pattern.startsWith('*.');
    const from = wild ? 1 : 0;
    const tail = pattern.length - from;
    if (wild ? length <= tail : length != tail) return false;
    for (let i = 0; i < tail; i++) if (lower(this.byteAt(length - tail + i)) != lower(<u32>pattern.charCodeAt(from + i))) return false;
    return true;
  }

  /** Allocates; the string lives until the evaluation ends. */
  toString(): string { return String.UTF8.decodeUnsafe(this.start, this.length); }

  /** The value of `key=value` among lines; empty when there is none. */
  lineValue(key: string): Text {
    const end = this.length;
    let line = 0;
    while (line < end) {
      let next = line;
      while (next < end && load<u8>(this.start + next) != 0x0a) next++;
      const value = line + key.length + 1;
      if (value <= next && load<u8>(this.start + value - 1) == 0x3d && this.matchesAt(line, key)) return textAt(this.offset + value, next - value);
      line = next + 1;
    }
    return textAt(0, 0);
  }

  /** Where the bytes are, for host functions. */
  get start(): usize { return CONTEXT + <usize>this.offset; }

  private get offset(): i32 { return <i32>(<u32>changetype<usize>(this) & 0xffff); }

  private matchesAt(at: i32, text: string): bool {
    const bytes = this.start + <usize>at;
    const units = changetype<usize>(text);
    for (let i = 0; i < text.length; i++) if (<u16>load<u8>(bytes + i) != load<u16>(units + (<usize>i << 1))) return false;
    return true;
  }
}

/** A handle for bytes of the context record. */
export function textAt(offset: i32, length: i32): Text { return changetype<Text>(<usize>(<u32>offset | (<u32>length << 16))); }

/** A handle from a slot as the host wrote it. */
export function textOf(slot: u32): Text { return changetype<Text>(<usize>slot); }

function lower(byte: u32): u32 { return byte - 0x41 < 26 ? byte | 0x20 : byte; }
