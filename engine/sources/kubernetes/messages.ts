/**
 * The API's protobuf messages, of the declared part (api.proto): bytes to the objects that the API has in JSON, so that both are read alike.
 *
 * Go writes fields that nobody set as a zero or an empty text; JSON leaves them out, and so does this. No number that is declared may be 0
 * and mean something, but in an IntOrString, which becomes what it is. Presence of an empty message says something, as `{}` does.
 */
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';

const { root } = protobuf.parse(readFileSync(new URL('./api.proto', import.meta.url), 'utf8'), { keepCase: true });

/**
 * Messages that say which flows pass: all of their fields are declared. One that this version does not know would mean another policy, and
 * is kept as a field that no schema has.
 */
export const WHOLE_MESSAGES: ReadonlySet<string> = new Set([
  'NetworkPolicySpec',
  'NetworkPolicyIngressRule',
  'NetworkPolicyEgressRule',
  'NetworkPolicyPeer',
  'NetworkPolicyPort',
  'IPBlock',
  'LabelSelector',
  'LabelSelectorRequirement',
]);
const UNKNOWN_FIELD = 'a field that this version does not know';

/** `k8s` and a zero: what follows is an Unknown message. Source: k8s.io/apimachinery, runtime/serializer/protobuf. */
const MAGIC = Buffer.from('k8s\0', 'latin1');

export interface Envelope {
  readonly apiVersion: string;
  readonly kind: string;
  readonly bytes: Uint8Array;
}

type Message = Record<string, unknown> & { readonly $unknowns?: readonly unknown[] };

/** Takes an object out of its envelope. @throws Error when it is in none. */
export function openEnvelope(bytes: Uint8Array): Envelope {
  if (bytes.length < MAGIC.length || !MAGIC.equals(bytes.subarray(0, MAGIC.length))) throw new Error('not a protobuf object of Kubernetes');
  const { typeMeta, raw } = decode('Unknown', bytes.subarray(MAGIC.length)) as { typeMeta?: Message; raw?: Uint8Array };
  return { apiVersion: String(typeMeta?.apiVersion ?? ''), kind: String(typeMeta?.kind ?? ''), bytes: raw ?? new Uint8Array() };
}

/** A message as JSON has it. @throws Error when the bytes are no such message. */
export function readMessage(type: string, bytes: Uint8Array): Record<string, unknown> {
  return plain(root.lookupType(type), decode(type, bytes));
}

/** The event of a watch: its type, and the object in its envelope. @throws Error when the bytes are no such message. */
export function readWatchEvent(bytes: Uint8Array): { readonly type: string; readonly object: Uint8Array } {
  const { type, object } = decode('WatchEvent', bytes) as { type?: string; object?: { raw?: Uint8Array } };
  return { type: type ?? '', object: object?.raw ?? new Uint8Array() };
}

function decode(type: string, bytes: Uint8Array): Message {
  const reader = protobuf.Reader.create(bytes);
  reader.discardUnknown = false;
  return root.lookupType(type).decode(reader) as unknown as Message;
}

function plain(type: protobuf.Type, message: Message): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  for (const field of type.fieldsArray) {
    if (!Object.hasOwn(message, field.name)) continue;
    const value = plainField(field, message[field.name]);
    if (value !== undefined) object[field.name] = value;
  }
  if (message.$unknowns && WHOLE_MESSAGES.has(type.name)) object[UNKNOWN_FIELD] = true;
  return object;
}

function plainField(field: protobuf.Field, value: unknown): unknown {
  if (field.map) return value;
  const type = field.resolvedType;
  if (field.repeated) {
    const items = value as readonly unknown[];
    if (!items.length) return undefined;
    return type instanceof protobuf.Type ? items.map((item) => plainMessage(type, item as Message)) : items;
  }
  if (type instanceof protobuf.Type) return plainMessage(type, value as Message);
  return value === '' || value === 0 ? undefined : value;
}

function plainMessage(type: protobuf.Type, message: Message): unknown {
  switch (type.name) {
    case 'IntOrString':
      return Number(message.type ?? 0) === 0 ? Number(message.intVal ?? 0) : String(message.strVal ?? '');
    case 'Time':
      return timeText(Number(message.seconds ?? 0));
    default:
      return plain(type, message);
  }
}

/** A time as the API writes it; undefined where it is none at all, which Go writes as the year 1. */
function timeText(seconds: number): string | undefined {
  const date = new Date(seconds * 1000);
  return seconds <= 0 || Number.isNaN(date.getTime()) ? undefined : date.toISOString().replace('.000Z', 'Z');
}
