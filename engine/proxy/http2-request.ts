/** A request of HTTP/2 as it is decided: the same as one of HTTP/1. */
import { constants, type IncomingHttpHeaders } from 'node:http2';
import type { Request } from './messages.ts';
import { hostOf, targetOf } from './request-target.ts';

const { HTTP2_HEADER_METHOD, HTTP2_HEADER_PATH, HTTP2_HEADER_AUTHORITY } = constants;

/** Undefined where it is no request. */
export function requestOf(headers: IncomingHttpHeaders): Request | undefined {
  const method = headers[HTTP2_HEADER_METHOD] as string | undefined;
  const authority = (headers[HTTP2_HEADER_AUTHORITY] as string | undefined) ?? headers.host;
  if (!method || authority === undefined || (headers.host !== undefined && headers.host !== authority)) return undefined;
  const host = hostOf(authority);
  const target = targetOf((headers[HTTP2_HEADER_PATH] as string | undefined) ?? '');
  if (host === undefined || !target) return undefined;
  const list: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(':') || value === undefined) continue;
    for (const each of Array.isArray(value) ? value : [value]) list.push(name, each);
  }
  return { method, host, ...target, headers: list };
}
