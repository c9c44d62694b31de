/** A text of the context record, read where it lies: nothing is allocated until toString(). */
import { CONTEXT } from './state';

/** Never an object: the handle itself is offset | length << 16. */
@unmanaged
export class Text {
  /** Bytes, UTF-8. */
  get length(): i32 { return <i32>(<u32>changetype<usize>(this) >>> 16); }

  get isEmpty(): bool { return this.length == 0; }

  /** Compares with an ASCII text. */
  equals(text: string): bool { return this.length == text.length && this.matchesAt(0, text); }

  startsWith(text: string): bool { return this.length >= text.length && this.matchesAt(0, text); }

  endsWith(text: string): bool { return this.length >= text.length && this.matchesAt(this.length - text.length, text); }

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

  private get offset(): i32 { return <i32>(<u32>changetype<usize>(this) & 0xffff); }

  private get start(): usize { return CONTEXT + <usize>this.offset; }

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
