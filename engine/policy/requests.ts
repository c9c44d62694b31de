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
  /** See setName(). */
  readonly name: string;
  /** By address and port. */
  readonly backends: readonly Backend[];
}

/** Which backends of a Service. */
export interface SetRef extends Pick<BackendRef, 'service' | 'port'> {
  /** IP protocol number; absent: TCP. */
  readonly protocol?: number;
  /** Those of this node only. */
  readonly local?: boolean;
}

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 6: '', 17: '/udp', 132: '/sctp' };

/**
 * Names a set.
 *
 * @example
 * setName({ service: 'shop/web', port: 80 }) // 'shop/web:80'
 * setName({ service: 'kube-system/kube-dns', port: 53, protocol: 17, local: true }) // 'kube-system/kube-dns:53/udp, on this node'
 */
export function setName({ service, port, protocol = 6, local }: SetRef): string {
  return `${service}:${port}${PROTOCOL_NAMES[protocol] ?? `/${protocol}`}${local ? ', on this node' : ''}`;
}

/** Address and port that something is sent to over TCP: struct translation. */
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
