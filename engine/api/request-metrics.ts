/** Metrics of the proxy: requests by rule, route, backend and version of the plugin. */
import type { ProxyCounts } from '../proxy/messages.ts';
import type { RequestTotals } from '../proxy/request-totals.ts';
import type { Exposition, Labels, Sample } from './exposition.ts';

/** The proxy's work since the engine started. */
export interface RequestsSample {
  readonly ways: readonly WaySample[];
  readonly counts: Readonly<ProxyCounts>;
}

/** Requests that went one way; its version is the plugin's that decided. */
type WaySample = ReturnType<RequestTotals['samples']>[number];

const COUNTS: Readonly<Record<keyof ProxyCounts, readonly [kind: 'counter' | 'gauge', name: string, help: string]>> = {
  clients: ['gauge', 'sluice_http_clients', 'Connections of clients to the proxy'],
  backends: ['gauge', 'sluice_http_backend_connections', 'Connections of the proxy to backends'],
  refusedClients: [
    'counter',
    'sluice_http_refused_connections_total',
    'Connections of clients that were refused: too many, not tagged any more, or of nobody whom policy sends here',
  ],
  retries: ['counter', 'sluice_http_retries_total', 'Requests that were sent a second time'],
  malformed: ['counter', 'sluice_http_malformed_total', 'Messages that are no HTTP, or that two readers could read differently'],
  timeouts: ['counter', 'sluice_http_timeouts_total', 'Clients that took too long'],
  verdicts: ['counter', 'sluice_http_kernel_verdicts_total', 'Verdicts that the kernel was given: connections that need no proxy'],
  cached: ['counter', 'sluice_http_cached_verdicts_total', 'Requests for which the proxy had the plugin’s verdict'],
};

const LABELS = ['rule', 'route', 'backend', 'plugin'];
const labelsOf = ({ rule, route, backend, version }: WaySample): Labels => ({ rule, route, backend, plugin: version });

export function exposeRequests(exposition: Exposition, read: () => RequestsSample): void {
  for (const [count, [kind, name, help]] of Object.entries(COUNTS))
    exposition[kind]([name, help], () => [[{}, read().counts[count as keyof ProxyCounts]]]);
  exposition.counter(['sluice_http_requests_total', 'Requests by what they were answered with', [...LABELS, 'status']], () =>
    read().ways.flatMap((way) =>
      way.classes.flatMap((times, i): Sample[] => (times ? [[{ ...labelsOf(way), status: `${i + 1}xx` }, times]] : [])),
    ),
  );
  exposition.counter(['sluice_http_request_bytes_total', 'Bytes that clients sent', LABELS], () =>
    read().ways.map((way): Sample => [labelsOf(way), way.bytesIn]),
  );
  exposition.counter(['sluice_http_response_bytes_total', 'Bytes that backends answered with', LABELS], () =>
    read().ways.map((way): Sample => [labelsOf(way), way.bytesOut]),
  );
  exposition.histogram(['sluice_http_request_duration_seconds', 'From the head of a request to the end of its answer'], () =>
    read().ways.map((way) => ({ labels: labelsOf(way), ...way.duration })),
  );
}
