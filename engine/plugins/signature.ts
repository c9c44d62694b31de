/**
 * Signatures of modules: Ed25519 over the SHA-256 of everything behind the custom section `signature`, which comes first.
 *
 * The section is laid out as WebAssembly's tool conventions have it (Signatures.md): version, content type and hash
 * function, one byte each; then sets of hashes with their signatures. A signature is over "wasmsig", those three bytes and
 * the hashes of its set.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { EngineError, messageOf } from '../errors.ts';
import { ByteReader, ByteWriter, MalformedWasm } from './wasm/binary.ts';
import { HEADER, parseModule, Section } from './wasm/module.ts';

export const SIGNATURE_SECTION = 'signature';
const DOMAIN = Buffer.from('wasmsig');
/** Specification version 1, a WebAssembly module, SHA-256. */
const KIND = Uint8Array.of(1, 1, 1);
const ED25519 = 1;
const HASH_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** Neither a signer nor a hostile module gets more work out of the host than this. */
const SIGNATURES_MAX = 16;

/** A key whose signatures are trusted. */
export interface TrustedKey {
  /** First 16 hex digits of the SHA-256 of the raw key: how people tell keys apart. */
  readonly id: string;
  readonly key: KeyObject;
}

/** A public key in PEM (SubjectPublicKeyInfo), as `openssl pkey -pubout` and `sluice plugin keygen` write it. @throws EngineError */
export function readTrustedKey(pem: string, from: string): TrustedKey {
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch (error) {
    throw new EngineError('CONFIG_INVALID', `Cannot read public key ${from}: ${messageOf(error)}`, error);
  }
  if (key.asymmetricKeyType !== 'ed25519')
    throw new EngineError('CONFIG_INVALID', `Cannot use key ${from}: it is ${key.asymmetricKeyType}, must be Ed25519`);
  return { id: keyId(key), key };
}

export function keyId(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')
    .slice(0, 16);
}

/** The module with a signature by a private key; one that it had is replaced. @throws MalformedWasm */
export function signModule(bytes: Uint8Array, privateKey: KeyObject): Uint8Array {
  const signed = contentOf(bytes);
  const hash = createHash('sha256').update(signed).digest();
  const signature = sign(null, Buffer.concat([DOMAIN, KIND, hash]), privateKey);
  const id = Buffer.from(keyId(createPublicKey(privateKey)), 'hex');
  const body = new ByteWriter().text(SIGNATURE_SECTION).raw(KIND).u32(1).u32(1).block(hash).u32(1);
  body.block(id).byte(ED25519).block(signature);
  return new ByteWriter(bytes.length + 256).raw(HEADER).section(Section.CUSTOM, body.take()).raw(signed).take();
}

/** The id of a trusted key that signed the module as it is; undefined when none did. Never throws on a damaged signature. */
export function findSigner(bytes: Uint8Array, trusted: readonly TrustedKey[]): string | undefined {
  const [first] = parseModule(bytes).sections;
  if (first?.name !== SIGNATURE_SECTION) return undefined;
  const hash = createHash('sha256').update(bytes.subarray(first.end)).digest();
  let signatures: Buffer[];
  try {
    signatures = readSignatures(new ByteReader(bytes, first.from, first.end), hash);
  } catch (error) {
    if (error instanceof MalformedWasm) return undefined;
    throw error;
  }
  const message = Buffer.concat([DOMAIN, KIND, hash]);
  return trusted.find(({ key }) => signatures.some((signature) => verify(null, message, key, signature)))?.id;
}

export function isSigned(bytes: Uint8Array): boolean {
  return parseModule(bytes).sections[0]?.name === SIGNATURE_SECTION;
}

/** The signatures over one hash, which is the module's. */
function readSignatures(reader: ByteReader, hash: Buffer): Buffer[] {
  for (const expected of KIND) if (reader.byte() !== expected) return [];
  const found: Buffer[] = [];
  for (let sets = bounded(reader); sets > 0; sets--) {
    const hashes = bounded(reader);
    let matches = hashes === 1;
    for (let i = 0; i < hashes; i++) matches = readBlock(reader, HASH_BYTES).equals(hash) && matches;
    for (let signatures = bounded(reader); signatures > 0; signatures--) {
      readBlock(reader, 256);
      const algorithm = reader.byte();
      const signature = readBlock(reader, 256);
      if (matches && algorithm === ED25519 && signature.length === SIGNATURE_BYTES) found.push(signature);
    }
  }
  return found;
}

function bounded(reader: ByteReader): number {
  const count = reader.u32();
  if (count > SIGNATURES_MAX) throw new MalformedWasm('too many signatures', reader.at);
  return count;
}

function readBlock(reader: ByteReader, most: number): Buffer {
  const length = reader.u32();
  if (length > most) throw new MalformedWasm('a block is too long', reader.at);
  const from = reader.at;
  reader.skip(length);
  return Buffer.from(reader.bytes.subarray(from, reader.at));
}

/** Everything behind the header and the signature. */
function contentOf(bytes: Uint8Array): Uint8Array {
  const [first] = parseModule(bytes).sections;
  return bytes.subarray(first?.name === SIGNATURE_SECTION ? first.end : HEADER.length);
}
