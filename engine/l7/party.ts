/** Who talks to whom on a client's connection, and what policy says of them. */
import { Action } from '../abi.gen.ts';
import type { ProxyNetwork } from '../kernel/proxy-network.ts';
import { frontendKey } from '../policy/requests.ts';
import type { Backend } from './backends.ts';
import type { ProxyPolicy, ProxyRule } from './messages.ts';

/** Answers that are remembered of each kind; then it begins anew. */
const KNOWN_MAX = 65_536;

export interface Party {
  /** 16 bytes each. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourceKey: string;
  readonly destinationKey: string;
  /** Both addresses, as the kernel's records have them. */
  readonly words: Int32Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sourceIdentity: number;
  readonly destinationIdentity: number;
  /** Id of the endpoint that is the source. */
  readonly endpoint: number;
  /** The set of the Service that it talks to; empty where it is none. */
  readonly service: string;
  readonly rule: ProxyRule;
  /** Which backends it may be connected to, as far as that was asked. */
  readonly reachable: Map<Backend, boolean>;
}

/** What policy says, asked once for each pair until it changes. */
export class Policy {
  readonly #network: Pick<ProxyNetwork, 'judge'>;
  readonly #tagged = new Map<string, { readonly rule: ProxyRule; readonly identity: number } | undefined>();
  #policy: ProxyPolicy = { rules: new Map(), sets: new Map(), frontends: new Map(), endpoints: new Map() };

  constructor(network: Pick<ProxyNetwork, 'judge'>) {
    this.#network = network;
  }

  get sets(): ProxyPolicy['sets'] {
    return this.#policy.sets;
  }

  /** Takes over another revision: everything is asked anew. */
  set(policy: ProxyPolicy): void {
    this.#policy = policy;
    this.#tagged.clear();
  }

  /** Who is who on a connection; undefined where policy does not have its requests decided. */
  find(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): Party | undefined {
    const sourceKey = keyOf(source);
    const endpoint = this.#policy.endpoints.get(sourceKey);
    if (!endpoint) return undefined;
    const destinationKey = keyOf(destination);
    const tag = this.#tag(endpoint.id, source, sourceKey, destination, destinationKey, destinationPort);
    if (!tag) return undefined;
    const bytes = new Uint8Array(32);
    bytes.set(source, 0);
    bytes.set(destination, 16);
    return {
      source,
      destination,
      sourceKey,
      destinationKey,
      words: new Int32Array(bytes.buffer),
      sourcePort,
      destinationPort,
      sourceIdentity: endpoint.identity,
      destinationIdentity: tag.identity,
      endpoint: endpoint.id,
      service: this.#policy.frontends.get(frontendKey(destination, destinationPort)) ?? '',
      rule: tag.rule,
      reachable: new Map(),
    };
  }

  /** Whether the source may be connected to a backend: what it may reach itself. */
  permits(party: Party, backend: Backend): boolean {
    const known = party.reachable.get(backend);
    if (known !== undefined) return known;
    const { endpoint, source, sourceKey, destinationKey, destinationPort, service } = party;
    const key = keyOf(backend.address);
    // What was tagged is where the connection was sent to: the tag says that the tiers allow it.
    const destination = !service && backend.port === destinationPort && key === destinationKey;
    // Answers find their way back to the proxy from endpoints of this node only; a pod would not believe its own address.
    const here = key !== sourceKey && this.#policy.endpoints.has(key);
    const answer = !here ? undefined : this.#network.judge(endpoint, source, backend.address, backend.port);
    const allowed =
      answer !== undefined &&
      (destination || answer.action === Action.ALLOW || (answer.action === Action.ASK && this.#policy.rules.has(answer.rule)));
    const reachable = allowed && isMapped(backend.address) === isMapped(source);
    party.reachable.set(backend, reachable);
    return reachable;
  }

  #tag(endpoint: number, source: Uint8Array, sourceKey: string, destination: Uint8Array, destinationKey: string, port: number) {
    const key = `${sourceKey}${destinationKey}${port}`;
    if (this.#tagged.has(key)) return this.#tagged.get(key);
    const answer = this.#network.judge(endpoint, source, destination, port);
    const rule = answer?.action === Action.ASK ? this.#policy.rules.get(answer.rule) : undefined;
    const tag = rule && { rule, identity: answer?.identity ?? 0 };
    if (this.#tagged.size >= KNOWN_MAX) this.#tagged.clear();
    this.#tagged.set(key, tag);
    return tag;
  }
}

export function keyOf(address: Uint8Array): string {
  return String.fromCharCode(...address);
}

function isMapped(address: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (address[i]) return false;
  return address[10] === 0xff && address[11] === 0xff;
}
