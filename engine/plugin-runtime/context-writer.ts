/**
 * Writes a question into a guest's context record (struct plugin_context), and of it only the fields that the manifest
 * declares: what a plugin can read is bounded whether or not it is honest.
 *
 * Everything is written with few calls and without allocation: numbers as words, texts one after another behind the head.
 */
import { PluginContextFlag, PluginField, PluginSlot, pluginContextCodec, pluginHeaderCodec } from '../abi.gen.ts';
import { declaredFields, type Manifest } from './manifest.ts';
import { ADDRESS_WORDS, findCookie, type Question } from './question.ts';

const OFFSETS = pluginContextCodec.offsets;
const HEAD_WORDS = pluginContextCodec.size / 4;
const HEADER_WORDS = pluginHeaderCodec.size / 4;
/** A slot has 16 bits for an offset and 16 for a length. */
const SLOT_MAX = 0xffff;

/** A question whose texts do not fit; the plugin is not asked. */
export class ContextTooLarge extends Error {}

export class ContextWriter {
  readonly #declared: number;
  /** Where each named header and cookie stands in `#values`. */
  readonly #headerIndex: ReadonlyMap<string, number>;
  readonly #headers: readonly Named[];
  readonly #cookies: readonly Named[];
  readonly #values: (string | undefined)[];
  #buffer: Buffer = Buffer.alloc(0);
  #words: Int32Array = new Int32Array(0);
  #at = 0;
  #end = 0;
  #textsAt = 0;
  #next = 0;
  #present = 0;

  constructor(manifest: Manifest) {
    this.#declared = declaredFields(manifest);
    const named = (name: string): Named => ({ name, hash: fnv1a(name), slot: 0 });
    this.#headers = manifest.headers.map(named);
    this.#cookies = manifest.cookies.map(named);
    this.#headerIndex = new Map(manifest.headers.map((name, i) => [name, i]));
    this.#values = new Array(manifest.headers.length).fill(undefined);
  }

  /** Names the guest's memory, and where in it the context is: `at` is a multiple of 4. */
  setMemory(memory: ArrayBuffer, at: number, capacity: number): void {
    this.#buffer = Buffer.from(memory);
    this.#words = new Int32Array(memory);
    this.#at = at;
    this.#end = at + capacity;
    // Entries of headers and cookies come right behind the head, then their names, which stay: only values are written anew.
    this.#next = at + pluginContextCodec.size + (this.#headers.length + this.#cookies.length) * pluginHeaderCodec.size;
    for (const named of [...this.#headers, ...this.#cookies]) named.slot = this.#append(named.name);
    this.#textsAt = this.#next;
  }

  /** @throws ContextTooLarge */
  write(question: Question): void {
    this.#present = 0;
    this.#next = this.#textsAt;
    this.#writeNumbers(question);
    this.#writeSlots(question);
    this.#writeHeaders(question.headers);
    this.#words[(this.#at + OFFSETS.fields) >> 2] = this.#present;
  }

  #writeNumbers(question: Question): void {
    const words = this.#words;
    const at = this.#at >> 2;
    const has = this.#declared;
    const half = ADDRESS_WORDS / 2;
    this.#writeAddress(at + (OFFSETS.source >> 2), question.words, question.wordsAt, has & PluginField.SOURCE_ADDRESS);
    this.#writeAddress(at + (OFFSETS.destination >> 2), question.words, question.wordsAt + half, has & PluginField.DESTINATION_ADDRESS);
    const time = has & PluginField.TIME ? question.timeMs : 0;
    words[at + (OFFSETS.timeMs >> 2)] = time >>> 0;
    words[at + (OFFSETS.timeMs >> 2) + 1] = time / 0x1_0000_0000;
    const withFlow = (has & PluginField.FLOW) !== 0;
    words[at + (OFFSETS.flow >> 2)] = withFlow ? flowHash(question) : 0;
    words[at + (OFFSETS.flow >> 2) + 1] = 0;
    words[at + (OFFSETS.sourceIdentity >> 2)] = has & PluginField.SOURCE_IDENTITY ? question.sourceIdentity : 0;
    words[at + (OFFSETS.destinationIdentity >> 2)] = has & PluginField.DESTINATION_IDENTITY ? question.destinationIdentity : 0;
    words[at + (OFFSETS.tag >> 2)] = has & PluginField.TAG ? question.rule : 0;
    const sourcePort = has & PluginField.SOURCE_PORT ? question.sourcePort : 0;
    const destinationPort = has & PluginField.DESTINATION_PORT ? question.destinationPort : 0;
    words[at + (OFFSETS.sourcePort >> 2)] = sourcePort | (destinationPort << 16);
    const protocol = has & PluginField.PROTOCOL ? question.protocol : 0;
    const direction = has & PluginField.DIRECTION ? question.direction : 0;
    const flags =
      (has & PluginField.ESTABLISHED && question.established ? PluginContextFlag.ESTABLISHED : 0) |
      (has & PluginField.SERVER_NAME && question.encryptedHello ? PluginContextFlag.ENCRYPTED_HELLO : 0);
    const answer = (has & PluginField.DNS_ANSWER) !== 0;
    words[at + (OFFSETS.dnsTtlS >> 2)] = answer ? question.dnsTtlS : 0;
    words[at + (OFFSETS.dnsType >> 2)] = answer ? question.dnsType : 0;
    words[at + (OFFSETS.hook >> 2)] = question.hook | (protocol << 8) | (direction << 16) | (flags << 24);
    this.#present = has & NUMBERS;
  }

  #writeAddress(to: number, from: Int32Array, at: number, declared: number): void {
    const words = this.#words;
    for (let i = 0; i < ADDRESS_WORDS / 2; i++) words[to + i] = declared ? (from[at + i] as number) : 0;
  }

  #writeSlots(question: Question): void {
    const { source, destination } = question;
    this.#text(PluginSlot.METHOD, PluginField.METHOD, question.method);
    this.#text(PluginSlot.HOST, PluginField.HOST, question.host);
    this.#text(PluginSlot.PATH, PluginField.PATH, question.path);
    this.#text(PluginSlot.QUERY, PluginField.QUERY, question.query);
    this.#text(PluginSlot.SERVER_NAME, PluginField.SERVER_NAME, question.serverName);
    this.#text(PluginSlot.DNS_NAME, PluginField.DNS_NAME, question.dnsName);
    this.#text(PluginSlot.APPLICATION_PROTOCOLS, PluginField.APPLICATION_PROTOCOLS, question.applicationProtocols);
    this.#text(PluginSlot.DNS_ADDRESSES, PluginField.DNS_ANSWER, question.dnsAddresses);
    this.#bytes(PluginSlot.SOURCE_NAMESPACE, PluginField.SOURCE_NAMESPACE, source?.namespace);
    this.#bytes(PluginSlot.SOURCE_POD, PluginField.SOURCE_POD, question.sourcePod?.name);
    this.#bytes(PluginSlot.SOURCE_LABELS, PluginField.SOURCE_LABELS, source?.labels);
    this.#bytes(PluginSlot.DESTINATION_NAMESPACE, PluginField.DESTINATION_NAMESPACE, destination?.namespace);
    this.#bytes(PluginSlot.DESTINATION_POD, PluginField.DESTINATION_POD, question.destinationPod?.name);
    this.#bytes(PluginSlot.DESTINATION_LABELS, PluginField.DESTINATION_LABELS, destination?.labels);
    this.#bytes(PluginSlot.DESTINATION_SERVICE, PluginField.DESTINATION_SERVICE, question.destinationService);
    this.#bytes(PluginSlot.SOURCE_SERVICE_ACCOUNT, PluginField.SOURCE_SERVICE_ACCOUNT, question.sourcePod?.serviceAccount);
  }

  #setSlot(slot: number, value: number): void {
    this.#words[((this.#at + OFFSETS.slots) >> 2) + slot] = value;
  }

  #text(slot: number, field: number, text: string): void {
    this.#setSlot(slot, text && this.#declared & field ? this.#append(text) : 0);
    if (text) this.#present |= this.#declared & field;
  }

  #bytes(slot: number, field: number, bytes: Uint8Array | undefined): void {
    if (!bytes || !(this.#declared & field)) {
      this.#setSlot(slot, 0);
      return;
    }
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#at + at);
    this.#setSlot(slot, at | (bytes.length << 16));
    this.#present |= field;
  }

  /** Writes a text; returns its offset and length as slots have them. */
  #append(text: string): number {
    const at = this.#reserve(text.length);
    this.#buffer.write(text, this.#at + at, 'latin1');
    return at | (text.length << 16);
  }

  #reserve(length: number): number {
    const at = this.#next - this.#at;
    if (this.#next + length > this.#end || at > SLOT_MAX || length > SLOT_MAX)
      throw new ContextTooLarge(`the context does not fit into ${this.#end - this.#at} bytes`);
    this.#next += length;
    return at;
  }

  #writeHeaders(headers: readonly string[]): void {
    const counts = (this.#at + OFFSETS.headers) >> 2;
    this.#words[counts] = 0;
    this.#words[counts + 1] = 0;
    if (!headers.length || !(this.#declared & (PluginField.HEADER | PluginField.COOKIE))) return;
    let cookies = '';
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i] as string;
      const value = headers[i + 1] as string;
      const index = this.#headerIndex.get(name);
      if (index !== undefined) this.#values[index] = this.#values[index] === undefined ? value : `${this.#values[index]}, ${value}`;
      if (name === 'cookie') cookies = cookies ? `${cookies}; ${value}` : value;
    }
    let entry = (this.#at >> 2) + HEAD_WORDS;
    for (let i = 0; i < this.#headers.length; i++) {
      const value = this.#values[i];
      if (value === undefined) continue;
      this.#values[i] = undefined;
      entry = this.#writeEntry(entry, this.#headers[i] as Named, value);
      this.#words[counts] = (this.#words[counts] as number) + 1;
      this.#present |= PluginField.HEADER;
    }
    if (!cookies) return;
    for (const cookie of this.#cookies) {
      const value = findCookie(cookies, cookie.name);
      if (value === undefined) continue;
      entry = this.#writeEntry(entry, cookie, value);
      this.#words[counts + 1] = (this.#words[counts + 1] as number) + 1;
      this.#present |= PluginField.COOKIE;
    }
  }

  #writeEntry(entry: number, { hash, slot }: Named, value: string): number {
    this.#words[entry] = hash;
    this.#words[entry + 1] = slot;
    this.#words[entry + 2] = this.#append(value);
    return entry + HEADER_WORDS;
  }
}

interface Named {
  readonly name: string;
  readonly hash: number;
  /** Where the name lies, as slots have it. */
  slot: number;
}

const NUMBERS =
  PluginField.SOURCE_ADDRESS |
  PluginField.DESTINATION_ADDRESS |
  PluginField.TIME |
  PluginField.FLOW |
  PluginField.SOURCE_IDENTITY |
  PluginField.DESTINATION_IDENTITY |
  PluginField.TAG |
  PluginField.SOURCE_PORT |
  PluginField.DESTINATION_PORT |
  PluginField.PROTOCOL |
  PluginField.DIRECTION |
  PluginField.ESTABLISHED;

/** FNV-1a of 32 bits, as guests compute it over a header's name. */
export function fnv1a(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash | 0;
}

/** Equal for all packets of one flow, and spread evenly over flows: also what shares of a canary go by. */
export function flowHash(question: Question): number {
  let hash = Math.imul(question.sourcePort | (question.destinationPort << 16), 0x85ebca6b) ^ question.protocol;
  for (let i = 0; i < ADDRESS_WORDS; i++) {
    hash = Math.imul(hash ^ (question.words[question.wordsAt + i] as number), 0xc2b2ae35);
    hash ^= hash >>> 15;
  }
  hash = Math.imul(hash ^ (hash >>> 13), 0x27d4eb2f);
  return (hash ^ (hash >>> 16)) >>> 0;
}
