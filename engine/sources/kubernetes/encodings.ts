/** The two ways in which the API server writes lists and events, each to objects as they are in JSON. */
import { messageOf } from '../../errors.ts';
import { isRecord } from '../raw-object.ts';
import { ApiFailure, failureOf, type StatusObject } from './api-failure.ts';
import { type Frames, LengthFrames, LineFrames } from './frames.ts';
import { openEnvelope, readMessage, readWatchEvent } from './messages.ts';
import type { Resource } from './resources.ts';

export type RawRecord = Record<string, unknown>;

/** A page of a list. */
export interface Page {
  readonly items: readonly RawRecord[];
  readonly resourceVersion: number;
  /** Where it goes on; empty: nowhere. */
  readonly continue: string;
}

/** Something that happened to an object; a bookmark has its version only. */
export interface ApiEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  readonly resourceVersion: number;
  readonly object: RawRecord;
}

export interface Encoding {
  readonly accept: string;
  readonly acceptWatch: string;
  frames(): Frames;
  /** @throws ApiFailure `nonsense` */
  page(resource: Resource, bytes: Buffer): Page;
  /** @throws ApiFailure of what an ERROR event says, or `nonsense` */
  event(resource: Resource, frame: Buffer): ApiEvent;
  status(bytes: Buffer): StatusObject;
}

const PROTOBUF_TYPE = 'application/vnd.kubernetes.protobuf';
const EVENTS = new Set(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK']);

const protobuf: Encoding = {
  accept: PROTOBUF_TYPE,
  acceptWatch: `${PROTOBUF_TYPE};stream=watch`,
  frames: () => new LengthFrames(),
  page: (resource, bytes) => understand(() => pageOf(resource, openMessage(bytes, `${resource.kind}List`, resource.apiVersion))),
  event: (resource, frame) => {
    const { type, object } = understand(() => {
      const { type, object: envelope } = readWatchEvent(frame);
      const object = type === 'ERROR' ? openMessage(envelope, 'Status', 'v1') : openMessage(envelope, resource.kind, resource.apiVersion);
      return { type, object };
    });
    return eventOf(type, object);
  },
  status: (bytes) => openMessage(bytes, 'Status', 'v1') as StatusObject,
};

const json: Encoding = {
  accept: 'application/json',
  acceptWatch: 'application/json;stream=watch',
  frames: () => new LineFrames(),
  page: (resource, bytes) => understand(() => pageOf(resource, parseJson(bytes))),
  event: (resource, frame) => {
    const { type, object } = parseJson(frame);
    if (type !== 'ERROR' && isRecord(object) && object.kind !== resource.kind)
      throw new ApiFailure('nonsense', `nonsense: an event about a ${String(object.kind)}`);
    return eventOf(type, object);
  },
  status: parseJson,
};

export function encodingOf({ encoding }: Resource): Encoding {
  return encoding === 'protobuf' ? protobuf : json;
}

/** The Status in an answer; whatever else it is says nothing. */
export function readStatus(contentType: string, bytes: Buffer): StatusObject {
  try {
    const status = contentType.startsWith(PROTOBUF_TYPE) ? protobuf.status(bytes) : json.status(bytes);
    return isRecord(status) && (contentType.startsWith(PROTOBUF_TYPE) || (status as RawRecord).kind === 'Status') ? status : {};
  } catch {
    return {};
  }
}

/** Content as JSON. @throws ApiFailure `nonsense` */
export function parseJson(bytes: Buffer): RawRecord {
  const value = understand(() => JSON.parse(bytes.toString('utf8')) as unknown);
  if (!isRecord(value) || Array.isArray(value)) throw new ApiFailure('nonsense', 'nonsense: JSON that is no object');
  return value;
}

function openMessage(bytes: Uint8Array, kind: string, apiVersion: string): RawRecord {
  const envelope = openEnvelope(bytes);
  if (envelope.kind !== kind || envelope.apiVersion !== apiVersion)
    throw new Error(`a ${envelope.kind || 'nothing'} of ${envelope.apiVersion || 'nobody'} where a ${kind} of ${apiVersion} is expected`);
  return { apiVersion, kind, ...readMessage(kind, envelope.bytes) };
}

function pageOf({ kind, apiVersion }: Resource, list: RawRecord): Page {
  if (list.kind !== `${kind}List` || list.apiVersion !== apiVersion)
    throw new Error(`a ${String(list.kind)} of ${String(list.apiVersion)} where a ${kind}List of ${apiVersion} is expected`);
  const metadata = isRecord(list.metadata) ? list.metadata : {};
  const items = list.items ?? [];
  if (!Array.isArray(items) || !items.every(isRecord)) throw new Error(`a ${kind}List whose items are no list of objects`);
  const next = metadata.continue ?? '';
  if (typeof next !== 'string') throw new Error('a list that goes on nobody knows where');
  // In a list the kind is said once.
  return { items: items.map((item) => ({ ...item, kind, apiVersion })), resourceVersion: versionOf(metadata), continue: next };
}

function eventOf(type: unknown, object: unknown): ApiEvent {
  if (!isRecord(object)) throw new ApiFailure('nonsense', 'nonsense: an event about nothing');
  if (type === 'ERROR') throw failureOf(0, object as StatusObject);
  if (typeof type !== 'string' || !EVENTS.has(type)) throw new ApiFailure('nonsense', `nonsense: an event of type ${String(type)}`);
  return understand(() => ({
    type: type as ApiEvent['type'],
    resourceVersion: versionOf(isRecord(object.metadata) ? object.metadata : {}),
    object,
  }));
}

/** etcd's revision: the server's versions are numbers that grow. */
function versionOf({ resourceVersion }: RawRecord): number {
  const version = typeof resourceVersion === 'string' && /^\d{1,16}$/.test(resourceVersion) ? Number(resourceVersion) : Number.NaN;
  if (!Number.isSafeInteger(version)) throw new Error(`resourceVersion ${JSON.stringify(resourceVersion)}, which is no number`);
  return version;
}

function understand<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof ApiFailure ? error : new ApiFailure('nonsense', `nonsense: ${messageOf(error)}`);
  }
}
