/** What the proxy has done since the engine started, for metrics. */
import { DURATION_BOUNDS, type ProxyCounts, type Traffic } from './messages.ts';
import { emptyTraffic } from './tally.ts';

/** Ways that are told apart; what comes beyond is counted under its rule alone. */
const WAYS_MAX = 8192;

export class RequestTotals {
  readonly ways = new Map<string, Traffic>();
  counts: ProxyCounts = { clients: 0, refusedClients: 0, backends: 0, retries: 0, malformed: 0, timeouts: 0, verdicts: 0, cached: 0 };

  /** Counts of the proxy's thread begin anew with each thread: what was before is kept. */
  #before: ProxyCounts = this.counts;
  #latest: ProxyCounts = this.counts;

  add(traffic: readonly Traffic[], counts: ProxyCounts): void {
    for (const each of traffic) {
      const total = this.#find(each);
      addEach(total.classes, each.classes);
      addEach(total.durations, each.durations);
      total.durationSum += each.durationSum;
      total.bytesIn += each.bytesIn;
      total.bytesOut += each.bytesOut;
    }
    if (RUNNING.some((name) => counts[name] < this.#latest[name])) this.#before = this.counts;
    this.#latest = counts;
    const sums = RUNNING.map((name) => [name, this.#before[name] + counts[name]]);
    this.counts = { ...(Object.fromEntries(sums) as unknown as ProxyCounts), clients: counts.clients, backends: counts.backends };
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

/** Counts that only grow. */
const RUNNING = ['refusedClients', 'retries', 'malformed', 'timeouts', 'verdicts', 'cached'] as const;

function addEach(total: number[], added: readonly number[]): void {
  for (let i = 0; i < added.length; i++) total[i] = (total[i] ?? 0) + (added[i] ?? 0);
}
