/**
 * Domain names as policy writes them, and as the kernel finds them: `example.com` is that name, `*.example.com` every name with
 * one label or more in front of it. Texts are canonical: lower case, without the final dot.
 */
import { Abi, namePatternCodec } from '../abi.gen.ts';

/** As bpf/dns.h has them. */
const HASH_SEED = 0x6a09e667f3bcc908n;
const HASH_PRIME = 0x100000001b3n;
const WILDCARD = '*.';

/** The text that equal names and patterns share. */
export function canonicalName(text: string): string {
  return text.toLowerCase().replace(/\.$/, '');
}

/**
 * The patterns that match whatever this name or pattern matches, the closest first: itself, and then ever shorter wildcards.
 *
 * @example
 * coveringPatterns('api.example.com') // ['api.example.com', '*.example.com', '*.com']
 */
export function coveringPatterns(text: string): string[] {
  const labels = text.split('.');
  const covering = [text];
  for (let i = labels[0] === '*' ? 2 : 1; i < labels.length; i++) covering.push(`${WILDCARD}${labels.slice(i).join('.')}`);
  return covering;
}

/**
 * Whether the pattern matches every name that the other one does; a name is a pattern.
 *
 * @example
 * covers('*.example.com', 'a.b.example.com') // true
 * covers('*.example.com', 'example.com') // false
 */
export function covers(pattern: string, text: string): boolean {
  return pattern === text || (pattern.startsWith(WILDCARD) && text.endsWith(pattern.slice(1)));
}

/** In wire format, root included. */
export function nameToWire(name: string): Buffer {
  return Buffer.concat([
    ...name.split('.').map((label) => Buffer.from(String.fromCharCode(label.length) + label, 'latin1')),
    Buffer.alloc(1),
  ]);
}

/** The name in wire format, as people write it. Bytes that no host name has are escaped as in zone files (RFC 1035, 5.1). */
export function wireToName(wire: Uint8Array): string {
  const labels: string[] = [];
  for (let at = 0, length = wire[0] ?? 0; length > 0 && at + length < wire.length; at += length + 1, length = wire[at] ?? 0)
    labels.push(
      Array.from(wire.subarray(at + 1, at + 1 + length), (byte) =>
        /[-\w*]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `\\${String(byte).padStart(3, '0')}`,
      ).join(''),
    );
  return labels.join('.');
}

/** The kernel's hash of a name: label by label from the right, so that the hash of each of its suffixes comes by. */
export function nameHash(name: string): bigint {
  let hash = HASH_SEED;
  const add = (byte: number): void => {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * HASH_PRIME);
  };
  for (const label of name.split('.').reverse()) {
    add(label.length);
    for (let i = 0; i < label.length; i++) add(label.charCodeAt(i));
  }
  return hash;
}

/** Key of maps by the hash of a name. */
export function nameKey(hash: bigint): string {
  const key = Buffer.alloc(8);
  key.writeBigUInt64LE(hash);
  return key.toString('latin1');
}

/** Key and value of the name_patterns map for a name that patterns end in. Id 0: there is no such pattern. */
export function patternEntry(suffix: string, ids: { readonly exact: number; readonly wildcard: number }): [string, Buffer] {
  const wire = nameToWire(suffix);
  const value = Buffer.alloc(namePatternCodec.size);
  const name = Buffer.alloc(Abi.NAME_BYTES);
  wire.copy(name);
  namePatternCodec.write(value, 0, { ...ids, length: wire.length, name });
  return [nameKey(nameHash(suffix)), value];
}
