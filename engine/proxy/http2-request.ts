/** A request of HTTP/2 as it is decided: the same as one of HTTP/1. */
import { constants, type IncomingHttpHeaders } from 'node:http2';
import type { Request } from './messages.ts';

const { HTTP2_HEADER_METHOD, HTTP2_HEADER_PATH, HTTP2_HEADER_AUTHORITY } = constants;

/** Undefined where it is no request. */
export function requestOf(headers: IncomingHttpHeaders): Request | undefined {
  const method = headers[HTTP2_HEADER_METHOD] as string | undefined;
  const target = headers[HTTP2_HEADER_PATH] as string | undefined;
  const authority = (headers[HTTP2_HEADER_AUTHORITY] as string | undefined) ?? headers.host ?? '';
  if (!method || !target?.startsWith('/') || (headers.host && headers.host !== authority)) return undefined;
  const mark = target.indexOf('?');
  const list: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(':') || value === undefined) continue;
    for (const each of Array.isArray(value) ? value : [value]) list.push(name, each);
  }
  return {
    method,
    host: authority.replace(/:[0-9]*$/, ''),
    path: mark < 0 ? target : target.slice(0, mark),
    query: mark < 0 ? '' : target.slice(mark + 1),
    headers: list,
  };
}
