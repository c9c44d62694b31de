/** Addresses and networks as 16 bytes, IPv4 as ::ffff:a.b.c.d. Text is strict: what inet_pton(3) refuses is refused. */
import ipaddr from 'ipaddr.js';

const IPV4_PREFIX = 96;
const ADDRESS_BITS = 128;
const IPV4 = /^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/;

export interface Network {
  /** 16 bytes, host bits zero. */
  readonly address: Uint8Array;
  /** Of 128. */
  readonly bits: number;
  /** Canonical text; equal networks, equal text. */
  readonly text: string;
}

/** The address as 16 bytes, or undefined when the text is none. Zone ids and leading zeros are refused. */
export function parseAddress(text: string): Uint8Array | undefined {
  if (IPV4.test(text) ? !ipaddr.IPv4.isValid(text) : text.includes('%') || !text.includes(':') || !ipaddr.IPv6.isValid(text))
    return undefined;
  const parsed = ipaddr.parse(text);
  const ipv6 = parsed.kind() === 'ipv4' ? (parsed as ipaddr.IPv4).toIPv4MappedAddress() : (parsed as ipaddr.IPv6);
  return Uint8Array.from(ipv6.toByteArray());
}

/** The network, its host bits cleared, or undefined when the text is none. */
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
  const masked = maskAddress(address, bits);
  const ipv4 = isIpv4(masked) && bits >= IPV4_PREFIX;
  return { address: masked, bits, text: `${formatAddress(masked)}/${ipv4 ? bits - IPV4_PREFIX : bits}` };
}

/** A copy with all bits beyond the first `bits` cleared. */
export function maskAddress(address: Uint8Array, bits: number): Uint8Array {
  const masked = new Uint8Array(16);
  const whole = bits >> 3;
  masked.set(address.subarray(0, whole));
  if (bits & 7) masked[whole] = (address[whole] ?? 0) & (0xff00 >> (bits & 7));
  return masked;
}

/** Whether the 16 bytes are an IPv4 address. */
export function isIpv4(address: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (address[i]) return false;
  return address[10] === 0xff && address[11] === 0xff;
}

/** `10.0.0.1` or `fd00::1`. */
export function formatAddress(address: Uint8Array): string {
  return isIpv4(address) ? address.subarray(12).join('.') : new ipaddr.IPv6([...address]).toString();
}

/** The bytes as a string, to be compared and used as a key. */
export function addressKey(address: Uint8Array): string {
  return String.fromCharCode(...address);
}

/** The networks that policy names, and which of them an address is in. */
export class NetworkIndex {
  readonly networks: ReadonlyMap<string, Network>;
  readonly #byBits = new Map<number, Map<string, Network>>();

  constructor(networks: Iterable<Network>) {
    const all = new Map<string, Network>();
    for (const network of networks) {
      all.set(network.text, network);
      let sameBits = this.#byBits.get(network.bits);
      if (!sameBits) this.#byBits.set(network.bits, (sameBits = new Map()));
      sameBits.set(addressKey(network.address), network);
    }
    this.networks = all;
  }

  /** Texts of the networks that hold all of `address`/`bits`, sorted. An IPv6 network holds no IPv4 address. */
  containing(address: Uint8Array, bits = ADDRESS_BITS): string[] {
    const found: string[] = [];
    const least = bits >= IPV4_PREFIX && isIpv4(address) ? IPV4_PREFIX : 0;
    for (const [length, networks] of this.#byBits) {
      if (length > bits || length < least) continue;
      const network = networks.get(addressKey(maskAddress(address, length)));
      if (network) found.push(network.text);
    }
    return found.sort();
  }

  /** Whether a listed IPv6 network covers the range that IPv4 addresses are mapped into. */
  get coversMapped(): boolean {
    const mapped = parseNetwork('0.0.0.0/0') as Network;
    for (const [length, networks] of this.#byBits)
      if (length < IPV4_PREFIX && networks.has(addressKey(maskAddress(mapped.address, length)))) return true;
    return false;
  }
}
