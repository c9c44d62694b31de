/** Requests and where they may go: the names of backend sets, and whether a request is as a rule wants it. */
import { translationCodec } from '../abi.gen.ts';
import type { BackendRef, RequestMatch } from './objects.ts';

export interface Backend {
  /** 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
}

export interface BackendSet {
  readonly id: number;
  /** `namespace/name:port` */
  readonly name: string;
  /** By address and port. */
  readonly backends: readonly Backend[];
}

/** Names a set. */
export function setName(ref: Pick<BackendRef, 'service' | 'port'>): string {
  return `${ref.service}:${ref.port}`;
}

/** Address and port that something is sent to: struct translation. */
export function frontendKey(address: Uint8Array, port: number): string {
  return translationBytes({ address, port }).toString('latin1');
}

export function translationBytes({ address, port }: Backend): Buffer {
  const bytes = Buffer.alloc(translationCodec.size);
  bytes.set(address, translationCodec.offsets.address);
  bytes.writeUInt16BE(port, translationCodec.offsets.port);
  return bytes;
}

/** Whether a request is as one of the matches wants it; none at all want nothing. */
export function matchesRequest(candidates: readonly RequestMatch[], request: RequestFacts): boolean {
  return !candidates.length || candidates.some((match) => matchesOne(match, request));
}

export interface RequestFacts {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  /** The value of a header, several joined by a comma; undefined when there is none. */
  header(name: string): string | undefined;
}

function matchesOne({ path, method, headers, query }: RequestMatch, request: RequestFacts): boolean {
  if (method && method !== request.method) return false;
  if (path && !matchesPath(path, request.path)) return false;
  if (!headers.every(({ name, value }) => request.header(name) === value)) return false;
  if (!query.length) return true;
  const parameters = new URLSearchParams(request.query);
  return query.every(({ name, value }) => parameters.get(name) === value);
}

function matchesPath({ type, value }: NonNullable<RequestMatch['path']>, path: string): boolean {
  if (type === 'Exact') return path === value;
  const prefix = value.endsWith('/') ? value.slice(0, -1) : value;
  return path === prefix || path.startsWith(`${prefix}/`);
}
