/** The latest flows that somebody may want to see: what plugins decided, and what the kernel denied alone. */
import { Abi, Context, Direction, type FlowRecord, Reason, Scope, Verdict } from '../abi.gen.ts';
import { Feed } from '../feed.ts';
import type { AskedFlow } from './messages.ts';

/** Flows kept; older ones are forgotten. */
const FLOWS_MAX = 4096;

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: 'ICMP', 6: 'TCP', 17: 'UDP', 58: 'ICMPv6', 132: 'SCTP' };
const SCOPE_NAMES: Readonly<Record<Scope, string>> = {
  [Scope.NONE]: 'connection',
  [Scope.FLOW]: 'flow',
  [Scope.ADDRESS]: 'address',
  [Scope.IDENTITY]: 'identity',
};

const HOOK_NAMES = Object.keys(Context).map((name) => name.toLowerCase());

/** What the kernel's reasons mean to people. */
const REASON_TEXTS: Readonly<Partial<Record<Reason, string>>> = {
  [Reason.DROP_POLICY]: 'no rule allows it',
  [Reason.DROP_MALFORMED]: 'it is malformed: a length does not fit, or a header is cut',
  [Reason.DROP_FRAGMENT]: 'a later fragment of a datagram whose first one did not pass',
  [Reason.DROP_SPOOFED]: 'sent from an address that is not its own',
  [Reason.DROP_NO_ENDPOINT]: 'of an interface or process that is no endpoint yet, or no more',
  [Reason.DROP_NAME]: 'a DNS query for a name that no rule is about: refused',
  [Reason.DROP_QUIC]: 'QUIC, where the server name is to be read: it is read over TCP only',
  [Reason.DROP_EARLY_DATA]: 'data before a connection is there, where a rule is about what is said first',
  [Reason.DROP_NOT_PROXIED]: 'of a connection that began before a rule about its requests: reset, so that it begins anew',
  [Reason.DROP_NO_BACKEND]: 'there is no backend that is ready and allowed',
  [Reason.FAIL_PROXY_ABSENT]: 'failure policy: the proxy is not running',
  [Reason.FAIL_CONNTRACK_FULL]: 'the map that it needs is full',
  [Reason.FAIL_OPENING_LOST]: 'its connection made room for another before it was answered',
  [Reason.DNS_QUERY_SHARE]: 'too many DNS queries without an answer',
  [Reason.DNS_FULL]: 'a map of DNS has no room',
  [Reason.FAIL_BUSY]: 'too many packets interrupted each other',
  [Reason.FAIL_STAGE]: 'a program of the chain is missing',
  [Reason.DROP_UNREADABLE]: 'it cannot be read whole, and a rule is about what it says',
  [Reason.DNS_ENCRYPTED]: 'DNS over TLS or QUIC: its names cannot be seen',
  [Reason.DROP_VERDICT]: 'cached verdict of the plugin',
  [Reason.FAIL_ENGINE_ABSENT]: 'failure policy: the engine is not running',
  [Reason.FAIL_ENGINE_STALE]: 'failure policy: the engine does not answer',
  [Reason.FAIL_RING_FULL]: 'failure policy: too many packets are held',
  [Reason.FAIL_PLUGIN_OFF]: 'failure policy: the plugin is off',
  [Reason.FAIL_HOLD]: 'failure policy: the packet cannot be held',
  [Reason.FAIL_CANNOT_HOLD]: 'failure policy: what a process sends cannot be held',
};

export interface Party {
  readonly address: string;
  readonly port: number;
  /** `namespace/pod`; empty for what is no pod of this cluster. */
  readonly pod: string;
  readonly identity: number;
  /** `key=value`; of what a plugin decided. */
  readonly labels: string[];
}

export interface FlowView {
  /** ISO 8601. */
  readonly time: string;
  readonly source: Party;
  readonly destination: Party;
  /** By which the sender knows the destination; of a DNS message, the one that is asked for. */
  readonly name: string;
  readonly protocol: string;
  readonly direction: 'ingress' | 'egress';
  readonly verdict: 'allow' | 'deny';
  readonly reason: string;
  /** `PluginPolicy shop/web egress[0]`; empty for the default of an isolated endpoint. */
  readonly rule: string;
  readonly plugin: string;
  /** The plugin let it pass, and wants it shown. */
  readonly audited: boolean;
  /** What the plugin was asked: connect, dns, tls or http; empty when none was. */
  readonly hook: string;
  /** That a TLS client named; empty where there is none. */
  readonly serverName: string;
  readonly established: boolean;
  /** One request of the connection; null where requests are not what was decided. */
  readonly http: HttpView | null;
  /** Which later connections the verdict answers. */
  readonly scope: string;
  readonly ttlMs: number;
  /** Microseconds from hold to verdict; 0 when nothing was held. */
  readonly heldUs: number;
}

/** A request and its answer. */
export interface HttpView {
  readonly protocol: string;
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly status: number;
  /** What the plugin calls where it went. */
  readonly route: string;
  /** `namespace/name:port 10.0.0.1:80` */
  readonly backend: string;
  /** Of the plugin: `canary 1.0.0`. */
  readonly version: string;
  readonly durationUs: number;
}

type AskedParty = 'source' | 'destination' | 'sourcePort' | 'destinationPort' | 'sourceIdentity' | 'destinationIdentity';

/** A request as it is told. */
export interface RequestRecord extends HttpView, Pick<AskedFlow, AskedParty | 'rule' | 'plugin'> {
  /** Unix time in milliseconds. */
  readonly timeMs: number;
  readonly allowed: boolean;
  readonly audited: boolean;
  readonly reason: string;
}

/** Names for what flows carry as numbers. */
export interface Names {
  address(bytes: Uint8Array): string;
  pod(bytes: Uint8Array): string;
  /** A domain name by its hash. */
  domain(hash: bigint): string;
  rule(id: number): string;
  plugin(id: number): string;
  /** `key=value` each. */
  labels(identity: number): string[];
}

/** What is said of a decision without a reason. */
function reasonless({ allowed, plugin }: AskedFlow): string {
  if (plugin === Abi.SERVER_NAMES) return 'the server name is in the list';
  return allowed ? 'the plugin allows it' : 'the plugin denies it';
}

export class FlowLog {
  readonly feed = new Feed<FlowView>(FLOWS_MAX);
  readonly #names: Names;
  /** Flows that happened and could not be kept or told: rings that were full, reports that were cut. */
  lost = 0;

  constructor(names: Names) {
    this.#names = names;
  }

  addAsked(flow: AskedFlow): void {
    this.feed.add(this.describe(flow));
  }

  /** A flow that a plugin was asked about, as people see it. */
  describe(flow: AskedFlow): FlowView {
    return {
      ...this.#base(flow.timeNs, flow),
      source: this.#party(flow.source, flow.sourcePort, flow.sourceIdentity, true),
      destination: this.#party(flow.destination, flow.destinationPort, flow.destinationIdentity, true),
      audited: flow.audited,
      hook: HOOK_NAMES[flow.context] ?? '',
      serverName: flow.context === Context.TLS ? flow.contentName : '',
      ...(flow.context === Context.DNS && { name: flow.contentName }),
      established: flow.established,
      verdict: flow.allowed ? 'allow' : 'deny',
      reason: flow.reason || reasonless(flow),
      scope: SCOPE_NAMES[flow.scope as Scope],
      ttlMs: flow.scope === Scope.NONE ? 0 : flow.ttlMs,
      http: null,
      heldUs: flow.heldUs,
    };
  }

  addRequest(record: RequestRecord): void {
    const { protocol, method, host, path, status, route, backend, version, durationUs } = record;
    this.feed.add({
      time: new Date(record.timeMs).toISOString(),
      name: '',
      protocol: 'TCP',
      direction: 'egress',
      rule: this.#names.rule(record.rule),
      plugin: this.#names.plugin(record.plugin),
      source: this.#party(record.source, record.sourcePort, record.sourceIdentity, true),
      destination: this.#party(record.destination, record.destinationPort, record.destinationIdentity, true),
      audited: record.audited,
      hook: 'http',
      serverName: '',
      established: true,
      verdict: record.allowed ? 'allow' : 'deny',
      reason: record.reason || (record.plugin ? 'the plugin allows it' : 'the rule allows it'),
      http: { protocol, method, host, path, status, route, backend, version, durationUs },
      scope: '',
      ttlMs: 0,
      heldUs: 0,
    });
  }

  addRecord(record: FlowRecord): void {
    this.feed.add({
      ...this.#base(record.timeNs, record),
      source: this.#party(record.source, record.sourcePort, record.sourceIdentity, false),
      destination: this.#party(record.destination, record.destinationPort, record.destinationIdentity, false),
      audited: false,
      hook: '',
      serverName: '',
      established: false,
      verdict: record.verdict === Verdict.ALLOW ? 'allow' : 'deny',
      reason: REASON_TEXTS[record.reason as Reason] ?? `reason ${record.reason}`,
      scope: '',
      ttlMs: 0,
      http: null,
      heldUs: 0,
    });
  }

  #base(
    timeNs: bigint,
    flow: Omit<FlowRecord, 'verdict' | 'reason'> | AskedFlow,
  ): Pick<FlowView, 'time' | 'name' | 'protocol' | 'direction' | 'rule' | 'plugin'> {
    return {
      time: new Date(Date.now() - Number(process.hrtime.bigint() - timeNs) / 1e6).toISOString(),
      name: this.#names.domain(flow.name),
      protocol: PROTOCOL_NAMES[flow.protocol] ?? String(flow.protocol),
      direction: flow.direction === Direction.INGRESS ? 'ingress' : 'egress',
      rule: this.#names.rule(flow.rule),
      plugin: this.#names.plugin(flow.plugin),
    };
  }

  #party(bytes: Uint8Array, port: number, identity: number, labelled: boolean): Party {
    return {
      address: this.#names.address(bytes),
      port,
      pod: this.#names.pod(bytes),
      identity,
      labels: labelled ? this.#names.labels(identity) : [],
    };
  }
}
