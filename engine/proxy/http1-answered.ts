/** Requests of HTTP/1 that have their answer, or what there is of it, as they are counted. */
import type { RequestHead } from './head.ts';
import type { Http1Exchange } from './http1-exchange.ts';
import type { Answered } from './request-counts.ts';

/** Of a request that was sent on. */
export function answeredBy(exchange: Http1Exchange, status: number, reason: string): Answered {
  const { head, startedMs, bytesIn, bytesOut } = exchange;
  return {
    protocol: head.old ? 'HTTP/1.0' : 'HTTP/1.1',
    method: head.method,
    host: head.host,
    path: head.path,
    status,
    reason,
    backend: exchange.backend?.name ?? '',
    startedMs,
    bytesIn,
    bytesOut,
  };
}

/** Of one that was answered by the proxy itself; `head`: undefined where it was no request. */
export function answeredHere(head: RequestHead | undefined, status: number, reason: string, nowMs: number): Answered {
  return {
    protocol: head?.old ? 'HTTP/1.0' : 'HTTP/1.1',
    method: head?.method ?? '',
    host: head?.host ?? '',
    path: head?.path ?? '',
    status,
    reason,
    backend: '',
    startedMs: nowMs,
    bytesIn: 0,
    bytesOut: 0,
  };
}
