/** A client's flow with the rule that policy tags it with: who talks to whom, and which backends the client may be connected to. */
import { Action } from '../abi.gen.ts';
import type { ProxyNetwork } from '../kernel/proxy-network.ts';
import type { SocketEnds } from '../native.gen.ts';
import { isIpv4 } from '../policy/address.ts';
import { frontendKey } from '../policy/requests.ts';
import type { Backend } from './backends.ts';
import type { ProxyPolicy, ProxyRule } from './messages.ts';

/** Answers that are remembered of each kind; then it begins anew. */
const KNOWN_MAX = 65_536;

export interface TaggedFlow {
  /** 16 bytes each; of a process, the address that its endpoint has, or zeros. The destination is what the client meant. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourceKey: string;
  readonly destinationKey: string;
  /** Both addresses, as the kernel's records have them. */
  readonly words: Int32Array;
  /** Of the connection: weights go by it. */
  readonly hash: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sourceIdentity: number;
  readonly destinationIdentity: number;
  /** Id of the endpoint that is the source. */
  readonly endpoint: number;
  /** It is a process of this node. */
  readonly process: boolean;
  /** Whose connections to backends may be shared. */
  readonly clientKey: string;
  /** The set of the Service that it talks to; empty where it is none. */
  readonly service: string;
  readonly rule: ProxyRule;
  /** Which backends it may be connected to, as far as that was asked. */
  readonly reachable: Map<Backend, boolean>;
}

/** As much of a flow as its tag follows from. */
type Untagged = Pick<TaggedFlow, 'endpoint' | 'clientKey' | 'source' | 'destination' | 'destinationKey' | 'destinationPort'>;

/** Flows as policy tags them, which is asked once for each pair until it changes. */
export class TaggedFlows {
  readonly #network: Pick<ProxyNetwork, 'judge'>;
  readonly #tagged = new Map<string, { readonly rule: ProxyRule; readonly identity: number } | undefined>();
  /** By a rule's id, a text of how it has requests decided: equal texts, equal decisions. */
  #asked: ReadonlyMap<number, string> = new Map();
  #policy: ProxyPolicy = { rules: new Map(), sets: new Map(), frontends: new Map(), endpoints: new Map(), processes: new Map() };

  constructor(network: Pick<ProxyNetwork, 'judge'>) {
    this.#network = network;
  }

  /** Takes over another revision: everything is asked anew. */
  set(policy: ProxyPolicy): void {
    this.#policy = policy;
    this.#asked = new Map([...policy.rules].map(([id, rule]) => [id, askedBy(rule)]));
    this.#tagged.clear();
  }

  /** Who is who on a connection; undefined where policy does not have its requests decided. */
  find(ends: SocketEnds): TaggedFlow | undefined {
    const { remotePort: sourcePort, local: destination, localPort: destinationPort } = ends;
    const process = this.#policy.processes.get(ends.endpoint);
    const endpoint = ends.endpoint ? process : this.#policy.endpoints.get(keyOf(ends.remote));
    if (!endpoint) return undefined;
    const source = !process ? ends.remote : isIpv4(destination) ? process.ipv4 : process.ipv6;
    const sourceKey = keyOf(source);
    const clientKey = process ? `process ${endpoint.id}` : sourceKey;
    const destinationKey = keyOf(destination);
    const tag = this.#tag({ endpoint: endpoint.id, clientKey, source, destination, destinationKey, destinationPort });
    if (!tag) return undefined;
    const bytes = new Uint8Array(32);
    bytes.set(source, 0);
    bytes.set(destination, 16);
    const words = new Int32Array(bytes.buffer);
    return {
      source,
      destination,
      sourceKey,
      destinationKey,
      words,
      hash: hashOf(words, sourcePort),
      sourcePort,
      destinationPort,
      sourceIdentity: endpoint.identity,
      destinationIdentity: tag.identity,
      endpoint: endpoint.id,
      process: process !== undefined,
      clientKey,
      service: this.#policy.frontends.get(frontendKey(destination, destinationPort)) ?? '',
      rule: tag.rule,
      reachable: new Map(),
    };
  }

  /** Whether the source may be connected to a backend: only where it may connect itself. */
  permits(flow: TaggedFlow, backend: Backend): boolean {
    const known = flow.reachable.get(backend);
    if (known !== undefined) return known;
    const reachable =
      isItself(flow, backend) || (this.#allows(flow, backend) && (flow.process || isIpv4(backend.address) === isIpv4(flow.source)));
    flow.reachable.set(backend, reachable);
    return reachable;
  }

  #allows({ endpoint, source, destinationKey, destinationPort, service, rule }: TaggedFlow, { address, port }: Backend): boolean {
    // The connection was sent here, where it was tagged: the tag says that the tiers allow it.
    if (!service && port === destinationPort && keyOf(address) === destinationKey) return true;
    const answer = this.#network.judge(endpoint, source, address, port);
    if (answer?.action !== Action.ASK) return answer?.action === Action.ALLOW;
    // Nobody has asked here as another rule would, unless both ask the same.
    const asked = this.#asked.get(answer.rule);
    return answer.rule === rule.id || (asked !== undefined && asked === this.#asked.get(rule.id));
  }

  #tag({ endpoint, clientKey, source, destination, destinationKey, destinationPort: port }: Untagged) {
    const key = `${clientKey}${destinationKey}${port}`;
    if (this.#tagged.has(key)) return this.#tagged.get(key);
    const answer = this.#network.judge(endpoint, source, destination, port);
    const rule = answer?.action === Action.ASK ? this.#policy.rules.get(answer.rule) : undefined;
    const tag = rule && { rule, identity: answer?.identity ?? 0 };
    if (this.#tagged.size >= KNOWN_MAX) this.#tagged.clear();
    this.#tagged.set(key, tag);
    return tag;
  }
}

/** The ends of a flow's connection, from which it is found again when policy has changed. */
export function endsOf({ source, sourcePort, destination, destinationPort, process, endpoint }: TaggedFlow): SocketEnds {
  return { remote: source, remotePort: sourcePort, local: destination, localPort: destinationPort, endpoint: process ? endpoint : 0 };
}

/** Where a connection to a backend begins: at the client's address; undefined: at the node. A pod would not believe its own address. */
export function originOf(flow: TaggedFlow, backend: Backend): Uint8Array | undefined {
  return flow.process || isItself(flow, backend) ? undefined : flow.source;
}

/** By one plugin that is asked about every request, whose verdicts the kernel, too, keeps for all rules alike; else by all that the rule says. */
function askedBy({ requests: { rules }, plugins }: ProxyRule): string {
  const [first] = rules;
  const plugin = first && rules.length === 1 && !first.matches.length ? plugins.get(first.plugin) : undefined;
  return plugin === undefined ? JSON.stringify(rules) : String(plugin);
}

function isItself({ process, sourceKey }: TaggedFlow, { address }: Backend): boolean {
  return !process && keyOf(address) === sourceKey;
}

function hashOf(words: Int32Array, port: number): number {
  let hash = Math.imul(port, 0x85ebca6b);
  for (const word of words) hash = Math.imul(hash ^ word, 0xc2b2ae35) ^ (hash >>> 15);
  return hash >>> 0;
}

function keyOf(address: Uint8Array): string {
  return String.fromCharCode(...address);
}
