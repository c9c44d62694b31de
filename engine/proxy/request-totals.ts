/** Requests since the engine started, of all threads of the proxy, for metrics. */
import { DURATION_BOUNDS, type ProxyCounts, type Traffic } from './messages.ts';
import { emptyTraffic } from './request-counts.ts';

/** Ways that are told apart; what comes beyond is counted under its rule alone. */
const WAYS_MAX = 8192;

/** Counts of a thread begin anew when another one takes its place: what was before is kept. */
interface Source {
  before: ProxyCounts;
  latest: ProxyCounts;
}

export class RequestTotals {
  readonly ways = new Map<string, Traffic>();
  readonly #sources = new Map<string, Source>();

  /** Of all threads, since the engine started. */
  get counts(): ProxyCounts {
    const sum = noCounts();
    for (const { before, latest } of this.#sources.values())
      for (const name of NAMES) sum[name] += latest[name] + (GAUGES.has(name) ? 0 : before[name]);
    return sum;
  }

  /** Takes a report of a thread. */
  add(thread: string, traffic: readonly Traffic[], counts: ProxyCounts): void {
    const source = this.#sources.get(thread) ?? { before: noCounts(), latest: noCounts() };
    this.#sources.set(thread, source);
    if (NAMES.some((name) => !GAUGES.has(name) && counts[name] < source.latest[name]))
      for (const name of NAMES) source.before[name] += source.latest[name];
    source.latest = counts;
    for (const each of traffic) {
      const total = this.#find(each);
      addEach(total.classes, each.classes);
      addEach(total.durations, each.durations);
      total.durationSum += each.durationSum;
      total.bytesIn += each.bytesIn;
      total.bytesOut += each.bytesOut;
    }
  }

  /** As metrics have it. `rule` names one. */
  samples(rule: (id: number) => string) {
    return [...this.ways.values()].map(({ durations, durationSum, ...way }) => ({
      ...way,
      rule: rule(way.rule),
      duration: { bounds: DURATION_BOUNDS, buckets: durations, sum: durationSum },
    }));
  }

  #find(way: Traffic): Traffic {
    const exact = `${way.rule} ${way.route} ${way.backend} ${way.version}`;
    const known = this.ways.get(exact);
    if (known) return known;
    const room = this.ways.size < WAYS_MAX;
    const { rule, route, backend, version } = room ? way : { rule: way.rule, route: '', backend: '', version: '' };
    const key = room ? exact : `${rule}`;
    let found = this.ways.get(key);
    if (!found) {
      found = emptyTraffic(rule, route, backend, version);
      this.ways.set(key, found);
    }
    return found;
  }
}

const GAUGES: ReadonlySet<keyof ProxyCounts> = new Set(['clients', 'backends']);

function noCounts(): ProxyCounts {
  return { clients: 0, refusedClients: 0, backends: 0, retries: 0, malformed: 0, timeouts: 0, verdicts: 0, cached: 0 };
}

const NAMES = Object.keys(noCounts()) as (keyof ProxyCounts)[];

function addEach(total: number[], added: readonly number[]): void {
  for (let i = 0; i < added.length; i++) total[i] = (total[i] ?? 0) + (added[i] ?? 0);
}
