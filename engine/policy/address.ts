/** Addresses and networks as 16 bytes, IPv4 as ::ffff:a.b.c.d. Text is strict: what inet_pton(3) refuses is refused. */
import ipaddr from 'ipaddr.js';

export const IPV4_PREFIX = 96;
export const ADDRESS_BITS = 128;
const IPV4 = /^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/;

const IPV4_HEAD = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

export interface Network {
  /** 16 bytes, host bits zero. */
  readonly address: Uint8Array;
  /** Of 128. */
  readonly bits: number;
  /** Canonical text; equal networks, equal text. */
  readonly text: string;
  /** The address as addressKey() has it. */
  readonly key: string;
}

/**
 * The address as 16 bytes, or undefined when the text is none. Zone ids and leading zeros are refused.
 *
 * @example
 * formatAddress(parseAddress('10.0.0.1')) // '10.0.0.1'
 * [...parseAddress('fd00::1').slice(0, 2)] // [0xfd, 0]
 * parseAddress('10.0.0.01') // undefined
 */
export function parseAddress(text: string): Uint8Array | undefined {
  if (IPV4.test(text)) {
    const parts = text.split('.').map(Number);
    return parts.every((part) => part <= 255) ? Uint8Array.from([...IPV4_HEAD, ...parts]) : undefined;
  }
  if (text.includes('%') || !text.includes(':') || !ipaddr.IPv6.isValid(text)) return undefined;
  return Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray());
}

/**
 * The network, its host bits cleared, or undefined when the text is none. Its bits are counted from the front of the 16 bytes.
 *
 * @example
 * const { address, bits } = parseNetwork('10.1.2.3/8');
 * [formatAddress(address), bits] // ['10.0.0.0', 104]
 * parseNetwork('10.0.0.0/33') // undefined
 */
export function parseNetwork(text: string): Network | undefined {
  const [addressText = '', bitsText = '', ...rest] = text.split('/');
  const address = parseAddress(addressText);
  if (!address || rest.length || !/^(0|[1-9]\d{0,2})$/.test(bitsText)) return undefined;
  const offset = IPV4.test(addressText) ? IPV4_PREFIX : 0;
  const bits = Number(bitsText) + offset;
  return bits <= ADDRESS_BITS ? networkOf(address, bits) : undefined;
}

/** The network of that many bits around an address. */
export function networkOf(address: Uint8Array, bits: number): Network {
  const masked = bits === ADDRESS_BITS ? address : maskAddress(address, bits);
  const ipv4 = isIpv4(masked) && bits >= IPV4_PREFIX;
  return { address: masked, bits, text: `${formatAddress(masked)}/${ipv4 ? bits - IPV4_PREFIX : bits}`, key: addressKey(masked) };
}

/** A copy with all bits beyond the first `bits` cleared. */
export function maskAddress(address: Uint8Array, bits: number): Uint8Array {
  const masked = new Uint8Array(16);
  const whole = bits >> 3;
  masked.set(address.subarray(0, whole));
  if (bits & 7) masked[whole] = (address[whole] ?? 0) & (0xff00 >> (bits & 7));
  return masked;
}

/** The last address of a network, as addressKey() has it. */
export function lastKey({ address, bits }: Network): string {
  const last = Uint8Array.from(address);
  const whole = bits >> 3;
  if (bits & 7) last[whole] = (last[whole] ?? 0) | (0xff >> (bits & 7));
  last.fill(0xff, whole + (bits & 7 ? 1 : 0));
  return addressKey(last);
}

/** Whether the 16 bytes are an IPv4 address. */
export function isIpv4(address: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (address[i]) return false;
  return address[10] === 0xff && address[11] === 0xff;
}

/** The first address of each family; zeros where there is none. */
export function addressPair(addresses: readonly Uint8Array[]): { readonly ipv4: Uint8Array; readonly ipv6: Uint8Array } {
  const none = new Uint8Array(16);
  return { ipv4: addresses.find(isIpv4) ?? none, ipv6: addresses.find((address) => !isIpv4(address)) ?? none };
}

/** `10.0.0.1` or `fd00::1`. */
export function formatAddress(address: Uint8Array): string {
  return isIpv4(address) ? address.subarray(12).join('.') : new ipaddr.IPv6([...address]).toString();
}

/** The bytes as a string, to be compared and used as a key. */
export function addressKey(address: Uint8Array): string {
  const a = address as unknown as number[];
  // biome-ignore format: sixteen bytes; a spread is ten times as slow
  return String.fromCharCode(a[0] as number, a[1] as number, a[2] as number, a[3] as number, a[4] as number, a[5] as number, a[6] as number, a[7] as number, a[8] as number, a[9] as number, a[10] as number, a[11] as number, a[12] as number, a[13] as number, a[14] as number, a[15] as number);
}

export const EVERY_IPV4 = parseNetwork('0.0.0.0/0') as Network;
