/** Verdicts that depend only on who talks to whom: the kernel is told, and the next connections never come here. */
import { Context, Direction, Scope, Verdict } from '../abi.gen.ts';
import type { ProxyNetwork } from '../kernel/proxy-network.ts';
import type { LoadedPlugin } from '../plugin-runtime/loaded-plugin.ts';
import { scopeOf, ttlMsOf } from '../plugin-runtime/verdict-word.ts';
import { setName } from '../policy/requests.ts';
import type { ProxySet } from './messages.ts';
import type { RequestVerdict } from './request-verdict.ts';
import type { TaggedFlow } from './tagged-flow.ts';

const TCP = 6;
const NO_ADDRESS = new Uint8Array(16);

export class KernelVerdicts {
  sets: ReadonlyMap<string, ProxySet> = new Map();
  readonly #network: Pick<ProxyNetwork, 'writeVerdict'>;

  constructor(network: Pick<ProxyNetwork, 'writeVerdict'>) {
    this.#network = network;
  }

  /** Lets the kernel answer for the scope of a verdict word. Returns whether it can. @throws EngineError `KERNEL_CALL` when it was not written */
  tell(flow: TaggedFlow, plugin: LoadedPlugin, verdict: RequestVerdict, word: number): boolean {
    const set = this.#setFor(verdict, flow);
    if (verdict.allowed && set === undefined) return false;
    const scope = scopeOf(word);
    const byIdentity = scope === Scope.IDENTITY;
    this.#network.writeVerdict(
      {
        source: byIdentity ? NO_ADDRESS : flow.source,
        destination: byIdentity ? NO_ADDRESS : flow.destination,
        sourceIdentity: byIdentity ? flow.sourceIdentity : 0,
        destinationIdentity: byIdentity ? flow.destinationIdentity : 0,
        plugin: plugin.setup.id,
        sourcePort: scope === Scope.FLOW ? flow.sourcePort : 0,
        destinationPort: flow.destinationPort,
        protocol: TCP,
        scope,
        direction: Direction.EGRESS,
        context: Context.HTTP,
      },
      {
        expiresNs: process.hrtime.bigint() + BigInt(Math.round(ttlMsOf(word))) * 1_000_000n,
        epoch: plugin.setup.epoch,
        backendSet: set ?? 0,
        verdict: !verdict.allowed ? Verdict.DENY : set ? Verdict.ROUTE : Verdict.ALLOW,
        once: 0,
      },
    );
    return true;
  }

  /** The set that the kernel is to use; 0: the destination itself. Undefined where only the proxy can say. */
  #setFor({ to, cookie }: RequestVerdict, { service }: TaggedFlow): number | undefined {
    if (cookie || (to && (to.length !== 1 || !to[0]?.weight))) return undefined;
    const name = to?.[0] ? setName(to[0]) : service;
    return name === '' ? 0 : this.sets.get(name)?.id;
  }
}
