/**
 * Plugins' verdicts that are kept here, by the values of everything that the plugin declares to read: most requests have one of a few.
 * The oldest go first.
 */
import { PluginField } from '../abi.gen.ts';
import type { Guest, LoadedPlugin } from '../plugin-runtime/loaded-plugin.ts';
import { ADDRESS_WORDS, findCookie, type Question } from '../plugin-runtime/question.ts';
import type { RequestRule } from '../policy/objects.ts';
import { headerOf } from './head.ts';
import type { RequestVerdict } from './request-verdict.ts';

const KEPT_MAX = 16_384;
/** Longer keys are not worth their room. */
const KEY_MAX = 2048;

type Reads = Guest['reads'];
type Value = string | number | boolean | undefined;
/** The name of one of the things that a question says. */
type Part = { [Name in keyof Question]: Question[Name] extends () => void ? never : Name }[keyof Question];

/** How a part of the question, which a plugin sees as `fields` (enum plugin_field bits), is in the key of a verdict. */
type InKey =
  /** By its value, where a plugin declares one of the fields. */
  | { readonly fields: number; readonly value: (question: Question, reads: Reads) => Value }
  /** By its value, whatever a plugin declares. */
  | { readonly fields: number; readonly always: (question: Question, reads: Reads) => Value }
  /** Equal where this other part is, which is in the key wherever a plugin sees this one. */
  | { readonly fields: number; readonly settledBy: Part }
  /** Not: no two requests can be said to share it. Nothing is kept for a plugin that declares one of the fields. */
  | { readonly fields: number; readonly unshared: true };

/** A part that is forgotten here is a type error; of a plugin that declares a field which no part names, nothing is kept. */
const IN_KEY: Readonly<Record<Part, InKey>> = {
  hook: { fields: 0, always: ({ hook }) => hook },
  rule: { fields: PluginField.TAG, always: ({ rule }) => rule },
  sourceIdentity: { fields: PluginField.SOURCE_IDENTITY, always: ({ sourceIdentity }) => sourceIdentity },
  destinationIdentity: { fields: PluginField.DESTINATION_IDENTITY, always: ({ destinationIdentity }) => destinationIdentity },
  destinationPort: { fields: PluginField.DESTINATION_PORT, always: ({ destinationPort }) => destinationPort },
  // An identity is a namespace and labels.
  source: { fields: PluginField.SOURCE_NAMESPACE | PluginField.SOURCE_LABELS, settledBy: 'sourceIdentity' },
  destination: { fields: PluginField.DESTINATION_NAMESPACE | PluginField.DESTINATION_LABELS, settledBy: 'destinationIdentity' },
  words: {
    fields: PluginField.SOURCE_ADDRESS | PluginField.DESTINATION_ADDRESS,
    value: (question, { fields }) =>
      `${fields & PluginField.SOURCE_ADDRESS ? addressOf(question, 0) : ''} ${fields & PluginField.DESTINATION_ADDRESS ? addressOf(question, ADDRESS_WORDS / 2) : ''}`,
  },
  wordsAt: { fields: 0, settledBy: 'words' },
  // By their texts: an address may be another pod's or Service's by now.
  sourcePod: {
    fields: PluginField.SOURCE_POD | PluginField.SOURCE_SERVICE_ACCOUNT,
    value: ({ sourcePod }, { fields }) =>
      written(fields & PluginField.SOURCE_POD ? textOf(sourcePod?.name) : undefined) +
      written(fields & PluginField.SOURCE_SERVICE_ACCOUNT ? textOf(sourcePod?.serviceAccount) : undefined),
  },
  destinationPod: { fields: PluginField.DESTINATION_POD, value: ({ destinationPod }) => textOf(destinationPod?.name) },
  destinationService: { fields: PluginField.DESTINATION_SERVICE, value: ({ destinationService }) => textOf(destinationService) },
  protocol: { fields: PluginField.PROTOCOL, value: ({ protocol }) => protocol },
  direction: { fields: PluginField.DIRECTION, value: ({ direction }) => direction },
  sourcePort: { fields: PluginField.SOURCE_PORT | PluginField.FLOW, unshared: true },
  established: { fields: PluginField.ESTABLISHED, unshared: true },
  timeMs: { fields: PluginField.TIME, unshared: true },
  method: { fields: PluginField.METHOD, value: ({ method }) => method },
  host: { fields: PluginField.HOST, value: ({ host }) => host },
  path: { fields: PluginField.PATH, value: ({ path }) => path },
  query: { fields: PluginField.QUERY, value: ({ query }) => query },
  headers: { fields: PluginField.HEADER | PluginField.COOKIE, always: namedHeaders },
  serverName: { fields: PluginField.SERVER_NAME, value: ({ serverName }) => serverName },
  encryptedHello: { fields: PluginField.SERVER_NAME, value: ({ encryptedHello }) => encryptedHello },
  applicationProtocols: { fields: PluginField.APPLICATION_PROTOCOLS, value: ({ applicationProtocols }) => applicationProtocols },
  dnsName: { fields: PluginField.DNS_NAME, value: ({ dnsName }) => dnsName },
  dnsType: { fields: PluginField.DNS_ANSWER, value: ({ dnsType }) => dnsType },
  dnsTtlS: { fields: PluginField.DNS_ANSWER, value: ({ dnsTtlS }) => dnsTtlS },
  dnsAddresses: { fields: PluginField.DNS_ANSWER, value: ({ dnsAddresses }) => dnsAddresses },
};

const PARTS = Object.values(IN_KEY);
const ALWAYS = PARTS.flatMap((part) => ('always' in part ? [part.always] : []));
const DECLARED = PARTS.flatMap((part) => ('value' in part ? [part] : []));
/** Fields that are not in the key: as said above, or because no part of the question is seen by them. */
const UNSHARED = ~PARTS.reduce((fields, part) => ('unshared' in part ? fields : fields | part.fields), 0);

/** A verdict, until when it holds, and what it depends on: enum plugin_field bits. */
export interface Keepable {
  readonly verdict: RequestVerdict;
  readonly expiresMs: number;
  readonly fieldsRead: number;
}

interface Kept {
  /** Which asked: another's verdict may name another backend, or another rule in its flow record. */
  readonly rule: RequestRule;
  readonly verdict: RequestVerdict;
  readonly epoch: number;
  readonly expiresMs: number;
}

export class VerdictMemory {
  readonly #kept = new Map<string, Kept>();
  /** Plugins of which verdicts were kept: others need not be looked up. */
  readonly #keepers = new Set<number>();

  /** The verdict on an equal question by the same rule to the plugin's present epoch, as long as it holds. */
  find(plugin: LoadedPlugin, rule: RequestRule, question: Question, nowMs: number): RequestVerdict | undefined {
    if (!this.#keepers.has(plugin.setup.id) || plugin.splitsFlows) return undefined;
    const kept = this.#kept.get(keyOf(plugin, question));
    return kept && kept.rule === rule && kept.epoch === plugin.setup.epoch && kept.expiresMs > nowMs ? kept.verdict : undefined;
  }

  /** Keeps a verdict of the live version, unless it is about this one request. */
  keep(plugin: LoadedPlugin, rule: RequestRule, question: Question, { verdict, fieldsRead, expiresMs }: Keepable): void {
    if (plugin.splitsFlows || fieldsRead & UNSHARED || verdict.cookie) return;
    const key = keyOf(plugin, question);
    if (!key) return;
    this.#keepers.add(plugin.setup.id);
    if (this.#kept.size >= KEPT_MAX) this.#forgetOldest();
    this.#kept.set(key, { rule, verdict, epoch: plugin.setup.epoch, expiresMs });
  }

  forget(): void {
    this.#kept.clear();
    this.#keepers.clear();
  }

  #forgetOldest(): void {
    for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest);
      return;
    }
  }
}

/** The values of everything that the plugin declares; empty where they are of this one request. */
function keyOf(plugin: LoadedPlugin, question: Question): string {
  const { guest } = plugin.live;
  if (!guest) return '';
  const { reads } = guest;
  if (reads.fields & UNSHARED) return '';
  let key = written(plugin.setup.id);
  for (const value of ALWAYS) key += written(value(question, reads));
  for (const { fields, value } of DECLARED) if (reads.fields & fields) key += written(value(question, reads));
  return key.length > KEY_MAX ? '' : key;
}

/** A text with its length, so that nothing in it is taken for the next value; what is absent is not taken for what is empty. */
function written(value: Value): string {
  if (value === undefined) return '-';
  return typeof value === 'string' ? `${value.length}:${value}` : `${value} `;
}

function addressOf({ words, wordsAt }: Question, at: number): string {
  return words.subarray(wordsAt + at, wordsAt + at + ADDRESS_WORDS / 2).join();
}

function textOf(bytes: Uint8Array | undefined): string | undefined {
  return bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/** The headers and cookies that the plugin names. */
function namedHeaders({ headers }: Question, reads: Reads): string {
  let values = '';
  for (const header of reads.headers) values += written(headerOf(headers, header));
  if (!reads.cookies.length) return values;
  const sent = headers.filter((_, i) => i % 2 && headers[i - 1] === 'cookie').join('; ');
  for (const cookie of reads.cookies) values += written(findCookie(sent, cookie));
  return values;
}
