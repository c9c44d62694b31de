/** Why a packet or a request passed or not, for people: a code for programs and filters, and a sentence. */
import { Reason } from '../abi.gen.ts';

const CODES: ReadonlyMap<number, string> = new Map(Object.entries(Reason).map(([name, number]) => [number as number, name.toLowerCase()]));

/** Every code that a flow can have, in the order of the enum. */
export const REASON_CODES: readonly string[] = Object.keys(Reason)
  .filter((name) => name !== 'MAX')
  .map((name) => name.toLowerCase());

/**
 * The name in enum reason, as metrics have it, too. A number that this engine does not know is shown as it is.
 *
 * @example
 * reasonCode(32) // 'drop_policy'
 */
export function reasonCode(reason: number): string {
  return CODES.get(reason) ?? String(reason);
}

/** Reasons for which something does not reach its destination as meant: a new one without a sentence is a type error. */
type Refusal = Extract<keyof typeof Reason, `DROP_${string}` | `FAIL_${string}`>;

const TEXTS: Readonly<Record<Refusal, string> & Partial<Record<keyof typeof Reason, string>>> = {
  PASS_POLICY: 'the rule allows it',
  PASS_VERDICT: 'the plugin allows it',
  PASS_FAILURE_POLICY: 'failure policy of the plugin: it passes',
  DROP_POLICY: 'no rule allows it',
  DROP_VERDICT: 'cached verdict of the plugin',
  DROP_FAILURE_POLICY: 'failure policy of the plugin',
  DROP_MALFORMED: 'malformed: a length does not fit, or a header is cut',
  DROP_FRAGMENT: 'a later fragment of a datagram whose first one did not pass',
  DROP_SPOOFED: 'spoofed: sent from an address that is not its own',
  DROP_NO_ENDPOINT: 'of an interface or process that is no endpoint yet, or no more',
  DROP_NAME: 'a DNS query for a name that no rule is about: refused',
  DROP_QUIC: 'QUIC, where the server name is to be read: it is read over TCP only',
  DROP_EARLY_DATA: 'data before a connection is there, where a rule is about what is said first',
  DROP_UNREADABLE: 'it cannot be read whole, and a rule is about what it says',
  DROP_NOT_PROXIED: 'of a connection that began before a rule about its requests: reset, so that it begins anew',
  DROP_NO_BACKEND: 'there is no backend that is ready and allowed',
  DROP_NOT_TRANSLATED:
    'of a connection to a Service that began before policy was about the pod: who its backend is cannot be known, and not all are allowed',
  DROP_PORT_TAKEN: 'the backends of the Service that were tried have a connection from the same port already',
  FAIL_ENGINE_ABSENT: 'failure policy: the engine is not running',
  FAIL_ENGINE_STALE: 'failure policy: the engine does not answer',
  FAIL_RING_FULL: 'failure policy: too many packets are held',
  FAIL_PLUGIN_OFF: 'failure policy: the plugin is off',
  FAIL_CONNTRACK_FULL: 'the map that it needs is full',
  FAIL_RECORD_LOST: 'the ring of records is full',
  FAIL_HOLD: 'failure policy: the packet cannot be held',
  FAIL_CONNECTION_SHARE: 'the endpoint has its share of connections',
  FAIL_CANNOT_HOLD: 'failure policy: what a process sends cannot be held',
  FAIL_OPENING_LOST: 'its connection made room for another before it was answered',
  FAIL_PROXY_ABSENT: 'failure policy: the proxy is not running',
  FAIL_BUSY: 'too many packets interrupted each other',
  FAIL_STAGE: 'a program of the chain is missing',
  FAIL_RECORD_SHARE: 'the endpoint has its share of records',
  DNS_QUERY_SHARE: 'too many DNS queries without an answer',
  DNS_FULL: 'a map of DNS has no room',
  DNS_ENCRYPTED: 'DNS over TLS or QUIC: its names cannot be seen',
};

const SENTENCES: ReadonlyMap<number, string> = new Map(
  Object.entries(TEXTS).map(([name, text]) => [Reason[name as keyof typeof Reason], text as string]),
);

/** A sentence for people; the words of the code where nobody wrote one. */
export function reasonText(reason: number): string {
  return SENTENCES.get(reason) ?? CODES.get(reason)?.replaceAll('_', ' ') ?? `reason ${reason}`;
}
