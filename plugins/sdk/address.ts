/** An address of the context record: 16 bytes, IPv4 as ::ffff:a.b.c.d. */

/** Never an object: the handle is where the bytes are. */
@unmanaged
export class Address {
  get start(): usize { return changetype<usize>(this); }

  /** Byte `index`, 0 to 15. */
  byte(index: i32): u8 { return load<u8>(this.start + <usize>(index & 15)); }

  get isIPv4(): bool { return load<u64>(this.start) == 0 && load<u32>(this.start, 8) == 0xffff0000; }

  /** A hash of the address, as a key for tables of one's own. */
  get key(): u64 { return (load<u64>(this.start) * 0x9e3779b97f4a7c15) ^ load<u64>(this.start, 8); }

  /** `10.1.2.3`, or eight groups of an IPv6 address. Allocates; the string lives until the evaluation ends. */
  toString(): string {
    if (this.isIPv4) return `${this.byte(12)}.${this.byte(13)}.${this.byte(14)}.${this.byte(15)}`;
    let text = '';
    for (let i = 0; i < 16; i += 2) text += (i ? ':' : '') + ((<u32>this.byte(i) << 8) | <u32>this.byte(i + 1)).toString(16);
    return text;
  }
}
