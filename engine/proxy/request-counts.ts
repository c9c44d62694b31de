/** Requests until the main thread is told of them: sums of all, and records of them one by one up to a bound. */
import { Reason } from '../abi.gen.ts';
import { type AccessRecord, DURATION_BOUNDS, type FromProxy, type ProxyCounts, type Traffic } from './messages.ts';
import type { RequestVerdict } from './request-verdict.ts';
import type { TaggedFlow } from './tagged-flow.ts';

/** Requests between two reports that are told one by one. */
const RECORDS_MAX = 64;
/** Of rule, route, backend and version: those beyond go without their backend. */
const TRAFFIC_MAX = 4096;
const CLASSES = 5;
/** Ways that were used last are found without looking them up. */
const RECENT = 4;

/** A request with its answer, or what there is of it. */
export interface Answered extends Pick<AccessRecord, 'protocol' | 'method' | 'host' | 'path' | 'status' | 'reason'> {
  /** Name of the backend that was asked last; empty where none was. */
  readonly backend: string;
  readonly startedMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export class RequestCounts {
  readonly counts: ProxyCounts = {
    clients: 0,
    refusedClients: 0,
    backends: 0,
    retries: 0,
    malformed: 0,
    timeouts: 0,
    verdicts: 0,
    cached: 0,
  };
  #ways = new Map<number, Map<string, Map<string, Map<string, Traffic>>>>();
  #traffic: Traffic[] = [];
  #recent: Traffic[] = [];
  #records: AccessRecord[] = [];
  #omitted = 0;

  /** Counts a request that has its answer, and makes its record, where there is room for it. `verdict`: undefined where it was not read. */
  note(flow: TaggedFlow, verdict: RequestVerdict | undefined, answered: Answered, nowMs: number): void {
    const ms = nowMs - answered.startedMs;
    const { backend, status, bytesIn, bytesOut } = answered;
    const way = { rule: flow.rule.id, route: verdict?.route ?? '', backend, version: verdict?.version ?? '' };
    const traffic = this.#find(way);
    const index = Math.min(Math.max(Math.floor(status / 100), 1), CLASSES) - 1;
    traffic.classes[index] = (traffic.classes[index] ?? 0) + 1;
    const seconds = ms / 1000;
    let bucket = 0;
    while (bucket < DURATION_BOUNDS.length && seconds > (DURATION_BOUNDS[bucket] as number)) bucket++;
    traffic.durations[bucket] = (traffic.durations[bucket] ?? 0) + 1;
    traffic.durationSum += seconds;
    traffic.bytesIn += bytesIn;
    traffic.bytesOut += bytesOut;
    if (this.#records.length < RECORDS_MAX) this.#records.push(recordOf(flow, verdict, answered, ms));
    else this.#omitted += 1;
  }

  /** Everything since the last time. */
  take(): Pick<Extract<FromProxy, { type: 'requests' }>, 'traffic' | 'records' | 'omitted' | 'counts'> {
    const taken = { traffic: this.#traffic, records: this.#records, omitted: this.#omitted, counts: { ...this.counts } };
    this.#ways = new Map();
    this.#traffic = [];
    this.#recent = [];
    this.#records = [];
    this.#omitted = 0;
    return taken;
  }

  #find(way: Way): Traffic {
    for (const each of this.#recent)
      if (each.rule === way.rule && each.backend === way.backend && each.route === way.route && each.version === way.version) return each;
    const found = this.#lookUp(way);
    if (this.#recent.length >= RECENT) this.#recent.shift();
    this.#recent.push(found);
    return found;
  }

  #lookUp({ rule, route, backend, version }: Way): Traffic {
    const byVersion = nested(nested(nested(this.#ways, rule), route), backend);
    let found = byVersion.get(version);
    if (found) return found;
    if (this.#traffic.length >= TRAFFIC_MAX && backend) return this.#lookUp({ rule, route, backend: '', version });
    found = emptyTraffic(rule, route, backend, version);
    byVersion.set(version, found);
    this.#traffic.push(found);
    return found;
  }
}

type Way = Pick<Traffic, 'rule' | 'route' | 'backend' | 'version'>;
type Nest<K, V> = Map<K, V>;

function nested<K, V extends Map<string, unknown>>(map: Nest<K, V>, key: K): V {
  let found = map.get(key);
  if (!found) map.set(key, (found = new Map() as unknown as V));
  return found;
}

function recordOf(flow: TaggedFlow, verdict: RequestVerdict | undefined, answered: Answered, ms: number): AccessRecord {
  const { protocol, method, host, path, status, backend } = answered;
  return {
    timeMs: Date.now(),
    source: flow.source,
    destination: flow.destination,
    sourcePort: flow.sourcePort,
    destinationPort: flow.destinationPort,
    sourceIdentity: flow.sourceIdentity,
    destinationIdentity: flow.destinationIdentity,
    rule: flow.rule.id,
    plugin: verdict?.plugin ?? 0,
    protocol,
    method,
    host,
    path,
    status,
    allowed: verdict?.allowed === true,
    cause: verdict?.cause ?? Reason.DROP_UNREADABLE,
    audited: verdict?.audited === true,
    reason: answered.reason || (verdict?.reason ?? ''),
    route: verdict?.route ?? '',
    backend,
    version: verdict?.version ?? '',
    durationUs: Math.round(ms * 1000),
  };
}

/** Of a way that nothing has gone yet. */
export function emptyTraffic(rule: number, route: string, backend: string, version: string): Traffic {
  const zeros = (length: number): number[] => new Array(length).fill(0);
  return {
    rule,
    route,
    backend,
    version,
    classes: zeros(CLASSES),
    durations: zeros(DURATION_BOUNDS.length + 1),
    durationSum: 0,
    bytesIn: 0,
    bytesOut: 0,
  };
}
