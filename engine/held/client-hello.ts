/**
 * The hello of a TLS client (RFC 8446, 4.1.2), read from the first bytes of its connection.
 *
 * The sender is hostile: what two servers could read differently is no hello here. Everything is bounded by the bytes given.
 */

/** Bytes of the handshake message that are read; post-quantum key shares take 2 KiB. */
export const HELLO_BYTES_MAX = 16 * 1024;

export interface ClientHello {
  /** In lower case, without a dot at the end; empty when the client names none. */
  readonly serverName: string;
  /** Protocols that the client offers (ALPN), in its order. */
  readonly applicationProtocols: readonly string[];
  /** The true hello may be another one, encrypted (ECH): serverName is then what everybody may see. Browsers pretend it, too. */
  readonly encrypted: boolean;
}

/** `more`: it is not complete. A text: why it is no hello. */
export type HelloReading = ClientHello | 'more' | { readonly problem: string };

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER = 5;
const MESSAGE_HEADER = 4;
/** RFC 8446, 5.1. */
const RECORD_BYTES_MAX = 2 ** 14;
const Extension = { SERVER_NAME: 0, ALPN: 16, ENCRYPTED_CLIENT_HELLO: 0xfe0d } as const;
const HOST_NAME = 0;
/** As clients send it (RFC 6066, 3): ASCII, no address, no dot at the end. Underscores are seen in the wild. */
const SERVER_NAME = /^[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)*$/;

const no = (problem: string): { problem: string } => ({ problem });

/** Reads what a connection begins with. */
export function readClientHello(bytes: Buffer): HelloReading {
  const message = joinRecords(bytes);
  if (!Buffer.isBuffer(message)) return message;
  try {
    return readMessage(new Reader(message));
  } catch (error) {
    if (error instanceof Malformed) return no(`not a TLS client hello: ${error.message}`);
    throw error;
  }
}

/**
 * The handshake message, which may be spread over records. What is there is read once, and copied when it is complete: this happens
 * again for each packet, and records may have one byte.
 */
function joinRecords(bytes: Buffer): Buffer | Extract<HelloReading, 'more' | { problem: string }> {
  let joined = 0;
  /** Type and length of the message. */
  let head = 0;
  let wanted = Number.POSITIVE_INFINITY;
  for (let at = 0; joined < wanted; ) {
    if (at < bytes.length && bytes[at] !== HANDSHAKE) return no('not TLS');
    if (at + 1 < bytes.length && bytes[at + 1] !== 3) return no('not TLS');
    if (at + RECORD_HEADER > bytes.length) return 'more';
    const length = bytes.readUInt16BE(at + 3);
    if (!length || length > RECORD_BYTES_MAX) return no('not a TLS client hello: a record of a length that TLS does not have');
    at += RECORD_HEADER;
    const end = Math.min(at + length, bytes.length);
    for (; joined < MESSAGE_HEADER && at < end; joined++) {
      head = head * 256 + (bytes[at++] as number);
      if (joined === 0 && head !== CLIENT_HELLO) return no('not a TLS client hello');
      if (joined + 1 === MESSAGE_HEADER) wanted = MESSAGE_HEADER + (head & 0xffffff);
    }
    if (joined === MESSAGE_HEADER && wanted > HELLO_BYTES_MAX) return no(`a TLS client hello of more than ${HELLO_BYTES_MAX} bytes`);
    joined += end - at;
    if (joined < wanted && end === bytes.length) return 'more';
    at = end;
  }
  return takeMessage(bytes, wanted);
}

/** The content of a message that is there, whose records were checked. */
function takeMessage(bytes: Buffer, wanted: number): Buffer {
  const message = Buffer.allocUnsafe(wanted);
  for (let at = 0, taken = 0; taken < wanted; ) {
    const end = at + RECORD_HEADER + bytes.readUInt16BE(at + 3);
    taken += bytes.copy(message, taken, at + RECORD_HEADER, end);
    at = end;
  }
  return message.subarray(MESSAGE_HEADER);
}

class Malformed extends Error {}

/** Vectors of TLS: a length, and so many bytes. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new Malformed('it ends too early');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  number(bytes: 1 | 2): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }

  vector(lengthBytes: 1 | 2): Buffer {
    return this.take(this.number(lengthBytes));
  }
}

function readMessage(reader: Reader): ClientHello {
  reader.take(2 + 32); // legacy version, random
  reader.vector(1); // session id
  reader.vector(2); // cipher suites
  reader.vector(1); // compression methods
  const hello = { serverName: '', applicationProtocols: [] as string[], encrypted: false };
  if (reader.done) return hello;
  const extensions = new Reader(reader.vector(2));
  if (!reader.done) throw new Malformed('bytes behind its extensions');
  const seen = new Set<number>();
  while (!extensions.done) {
    const type = extensions.number(2);
    const data = new Reader(extensions.vector(2));
    // "There MUST NOT be more than one extension of the same type" (RFC 8446, 4.2).
    if (seen.has(type)) throw new Malformed(`extension ${type} twice`);
    seen.add(type);
    if (type === Extension.SERVER_NAME) hello.serverName = readServerName(data);
    else if (type === Extension.ALPN) hello.applicationProtocols = readProtocols(data);
    else if (type === Extension.ENCRYPTED_CLIENT_HELLO) hello.encrypted = true;
  }
  return hello;
}

function readServerName(data: Reader): string {
  const names = new Reader(data.vector(2));
  const type = names.number(1);
  const name = names.vector(2).toString('latin1').toLowerCase();
  if (!data.done || !names.done || type !== HOST_NAME) throw new Malformed('more than one server name');
  if (name.length > 253 || !SERVER_NAME.test(name)) throw new Malformed('a server name that is no host name');
  return name;
}

function readProtocols(data: Reader): string[] {
  const list = new Reader(data.vector(2));
  if (!data.done) throw new Malformed('bytes behind its protocols');
  const protocols: string[] = [];
  while (!list.done) {
    const name = list.vector(1).toString('latin1');
    if (!name) throw new Malformed('an application protocol without a name');
    // One a line is how plugins see them: a client that writes a line break names none that anybody has.
    protocols.push(name.replace(/[\n\r]/g, ' '));
  }
  return protocols;
}
