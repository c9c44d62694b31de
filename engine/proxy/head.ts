/**
 * Heads of HTTP/1 messages: the parts that the proxy goes by, and the bytes that go on.
 *
 * The bytes of a head go on as they came, without the lines that are about one connection only. So nothing is said anew that a
 * parser behind us could read in another way than ours; what two parsers might read differently is refused here (RFC 9112,
 * sections 3, 5, 6 and 11.2).
 */
import { createRequire } from 'node:module';
import { HttpError, parseHead, REQUEST, RESPONSE, spans } from './llhttp.ts';
import { hostOf, type Target, targetOf } from './request-target.ts';

const constants = createRequire(import.meta.url)('undici/lib/llhttp/constants.js') as { METHODS: Record<string, number> };
const METHODS: readonly string[] = Object.entries(constants.METHODS).reduce<string[]>((names, [name, code]) => {
  names[code] = name;
  return names;
}, []);

/** How the end of a body is told: its length, chunks, or the end of the connection. */
export const CHUNKED = -1;
export const UNTIL_CLOSE = -2;

/** About one connection, not about the message (RFC 9110, 7.6.1). */
const HOP_BY_HOP: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'upgrade', 'http2-settings']);
const RESPONSE_NAME_LENGTHS: ReadonlySet<number> = new Set(
  ['connection', 'keep-alive', 'proxy-connection', 'upgrade', 'content-length', 'transfer-encoding'].map(({ length }) => length),
);
const DIGITS = /^[0-9]{1,15}$/;
/** Sent again it does the same (RFC 9110, 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE']);

export interface RequestHead {
  readonly method: string;
  /** Without a port, as it was sent. */
  readonly host: string;
  /** Before the question mark. */
  readonly path: string;
  readonly query: string;
  /** Names in lower case, and values in turn. */
  readonly headers: readonly string[];
  /** Bytes of the body, or CHUNKED. */
  readonly body: number;
  /** The client wants the connection kept. */
  readonly keepAlive: boolean;
  /** HTTP/1.0: it knows no chunks, and no interim answers. */
  readonly old: boolean;
  /** It asks for another protocol, such as websocket. */
  readonly upgrade: boolean;
  /** Bytes that go on in its place; undefined: it goes on as it came. */
  readonly rewritten: Buffer | undefined;
}

export interface ResponseHead {
  readonly status: number;
  /** Bytes of the body, CHUNKED or UNTIL_CLOSE. */
  readonly body: number;
  /** The connection can be used again. */
  readonly keepAlive: boolean;
  /** Bytes that go on in its place; undefined: it goes on as it came. */
  readonly rewritten: Buffer | undefined;
}

export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method);
}

/** The value of a header in a list of names and values, several joined by a comma; undefined when there is none. */
export function headerOf(headers: readonly string[], name: string): string | undefined {
  let found: string | undefined;
  for (let i = 0; i < headers.length; i += 2)
    if (headers[i] === name) found = found === undefined ? headers[i + 1] : `${found}, ${headers[i + 1]}`;
  return found;
}

/** Of a head as text, a byte a character: taking it apart is cheaper than asking for each part of the bytes. */
function nameAt(text: string, i: number): string {
  return text.slice(spans.nameAt[i], spans.nameEnd[i]).toLowerCase();
}

/** Without spaces and tabs around it, and nothing else: a no-break space, which trim() would take away, others take for part of it. */
function valueAt(text: string, i: number): string {
  let at = spans.valueAt[i] as number;
  if (at < 0) return '';
  let end = spans.valueEnd[i] as number;
  while (at < end && isBlank(text.charCodeAt(at))) at++;
  while (at < end && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(at, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** Whether all that a head says about its connection is what is so for the next one, too; then it need not be taken out. */
function saysKeepAlive(hops: readonly number[], minor: number, connection: string): boolean {
  return hops.length === 1 && minor === 1 && connection.length === 10 && connection.toLowerCase() === 'keep-alive';
}

/** The connection's options, in lower case. */
function listed(value: string): string[] {
  return value.toLowerCase().split(/[ \t]*,[ \t]*/);
}

/** The head without some of its lines; undefined: without none. `lines` are indexes of headers, ascending. */
function without(bytes: Buffer, from: number, to: number, lines: readonly number[]): Buffer | undefined {
  if (!lines.length) return undefined;
  const parts: Buffer[] = [];
  let at = from;
  for (const line of lines) {
    const next = line + 1 < spans.count ? (spans.nameAt[line + 1] as number) : to - from - 2;
    parts.push(bytes.subarray(at, from + (spans.nameAt[line] as number)));
    at = from + next;
  }
  parts.push(bytes.subarray(at, to));
  return Buffer.concat(parts);
}

/** Reads the head of a request, all of it with its empty line. @throws HttpError with what is wrong with it */
export function readRequest(bytes: Buffer, from: number, to: number): RequestHead {
  const { minor, code } = parseHead(REQUEST, bytes, from, to);
  const text = bytes.toString('latin1', from, to);
  if (minor > 1) throw new HttpError('not HTTP/1.0 or 1.1');
  const method = METHODS[code] ?? '';
  const headers: string[] = [];
  const hops: number[] = [];
  let hosts = 0;
  let host = '';
  let length: string | undefined;
  let encoding: string | undefined;
  let connection = '';
  let upgrade = '';
  for (let i = 0; i < spans.count; i++) {
    const name = nameAt(text, i);
    const value = valueAt(text, i);
    if (HOP_BY_HOP.has(name)) hops.push(i);
    else headers.push(name, value);
    if (name === 'host') {
      hosts += 1;
      host = value;
    } else if (name === 'content-length') {
      if (length !== undefined) throw new HttpError('two lengths');
      length = value;
    } else if (name === 'transfer-encoding') {
      if (encoding !== undefined) throw new HttpError('two transfer encodings');
      encoding = value;
    } else if (name === 'connection') connection = connection ? `${connection},${value}` : value;
    else if (name === 'upgrade') upgrade = value;
  }
  if (length !== undefined && !DIGITS.test(length)) throw new HttpError('not a length');
  if (encoding !== undefined && (encoding.toLowerCase() !== 'chunked' || length !== undefined || minor === 0))
    throw new HttpError('a transfer encoding that is not just chunked, or beside a length');
  const bare = hostOf(host);
  if (hosts > 1 || (minor === 1 && !hosts) || bare === undefined) throw new HttpError('not one host');
  const options = connection ? listed(connection) : [];
  const switches = upgrade !== '' && minor === 1 && options.includes('upgrade') && upgrade.toLowerCase() !== 'h2c';
  if (spans.targetAt !== method.length + 1) throw new HttpError('more than a space in the first line');
  const target = readTarget(text.slice(spans.targetAt, spans.targetEnd), method, host);
  return {
    method,
    host: bare,
    ...target,
    headers,
    body: encoding === undefined ? Number(length ?? 0) : CHUNKED,
    keepAlive: minor === 1 ? !options.includes('close') : options.includes('keep-alive'),
    old: minor === 0,
    upgrade: switches,
    rewritten: without(bytes, from, to, switches || saysKeepAlive(hops, minor, connection) ? [] : hops),
  };
}

/** Path and query of a request's target; a target with a host of its own must name the same one. */
function readTarget(target: string, method: string, host: string): Target {
  if (method === 'CONNECT') throw new HttpError('CONNECT is for proxies');
  let rest = target;
  if (!target.startsWith('/')) {
    if (target === '*' && method === 'OPTIONS') return { path: '*', query: '' };
    const [, authority, behind = '/'] = /^http:\/\/([^/?#]+)([/?][^#]*)?$/i.exec(target) ?? [];
    if (authority === undefined || authority.toLowerCase() !== host.toLowerCase()) throw new HttpError('a target of another host');
    rest = behind.startsWith('/') ? behind : `/${behind}`;
  }
  const found = targetOf(rest);
  if (!found) throw new HttpError('a fragment in the target, or what is no path');
  return found;
}

/** Reads the head of an answer to a request of that method; `keeps`: the client's connection is kept. @throws HttpError with what is wrong with it */
export function readResponse(bytes: Buffer, from: number, to: number, method: string, keeps: boolean): ResponseHead {
  const { minor, code: status } = parseHead(RESPONSE, bytes, from, to);
  const text = bytes.toString('latin1', from, to);
  const hops: number[] = [];
  let length: string | undefined;
  let encoding: string | undefined;
  let connection = '';
  for (let i = 0; i < spans.count; i++) {
    if (!RESPONSE_NAME_LENGTHS.has((spans.nameEnd[i] as number) - (spans.nameAt[i] as number))) continue;
    const name = nameAt(text, i);
    if (HOP_BY_HOP.has(name)) hops.push(i);
    if (name === 'content-length') {
      const value = valueAt(text, i);
      if (length !== undefined && length !== value) throw new HttpError('two lengths');
      length = value;
    } else if (name === 'transfer-encoding') {
      if (encoding !== undefined) throw new HttpError('two transfer encodings');
      encoding = valueAt(text, i);
    } else if (name === 'connection') connection = connection ? `${connection},${valueAt(text, i)}` : valueAt(text, i);
  }
  if (length !== undefined && !DIGITS.test(length)) throw new HttpError('not a length');
  if (encoding !== undefined && (encoding.toLowerCase() !== 'chunked' || length !== undefined))
    throw new HttpError('a transfer encoding that is not just chunked, or beside a length');
  const bodiless = method === 'HEAD' || status < 200 || status === 204 || status === 304;
  const body = bodiless ? 0 : encoding !== undefined ? CHUNKED : length !== undefined ? Number(length) : UNTIL_CLOSE;
  const options = connection ? listed(connection) : [];
  const keepAlive = body !== UNTIL_CLOSE && (minor === 1 ? !options.includes('close') : options.includes('keep-alive'));
  const stays = status === 101 || (keeps && saysKeepAlive(hops, minor, connection));
  return { status, body, keepAlive, rewritten: without(bytes, from, to, stays ? [] : hops) };
}
