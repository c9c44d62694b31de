/** What the proxy has done until the main thread is told: sums of everything, and requests one by one up to a bound. */
import { type AccessRecord, DURATION_BOUNDS, type FromProxy, type ProxyCounts, type Traffic } from './messages.ts';

/** Requests between two reports that are told one by one. */
const RECORDS_MAX = 64;
/** Of rule, route, backend and version: what comes beyond goes without its backend. */
const TRAFFIC_MAX = 4096;
const CLASSES = 5;
/** Ways that were used last are found without looking them up. */
const RECENT = 4;

export class Tally {
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

  /** Counts a request that has its answer. `describe` makes its record, where there is room for it. */
  add(way: Way, status: number, ms: number, bytesIn: number, bytesOut: number, describe: () => AccessRecord): void {
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
    if (this.#records.length < RECORDS_MAX) this.#records.push(describe());
    else this.#omitted += 1;
  }

  /** What happened since the last time. */
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
