/** `explain` as the API gives it: texts in, both ends of a flow out, and on request what the kernel itself says to each. */

import { Action, Direction } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import type { Datapath } from '../kernel/datapath.ts';
import type { KnownNames } from '../kernel/known-names.ts';
import { probeKernel, readRuleSet } from '../kernel/probe.ts';
import type { SocketEnds } from '../native.gen.ts';
import { addressKey, formatAddress, isIpv4, parseAddress } from '../policy/address.ts';
import { canonicalName, nameHash } from '../policy/domain-name.ts';
import { type EndExplanation, explain, formatParty, type Party, type Question } from '../policy/explain.ts';
import { objectName } from '../policy/object-name.ts';
import type { Pod } from '../policy/objects.ts';
import { formatOrigin } from '../policy/rules.ts';
import type { ExplainedRequest, Request } from '../proxy/messages.ts';
import { nodeAddresses } from '../reconcile/node-addresses.ts';
import type { Reconciler } from '../reconcile/reconciler.ts';
import type { EndView, ExplainedFlow, ExplainQuery, RequestQuery } from './explanation.ts';

type Verdict = ExplainedFlow['verdict'];

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132, icmp: 1 };
const ICMP6 = 58;
/** Of networks that are nobody's (RFC 5737, RFC 3849). */
const SOMEWHERE = parseAddress('192.0.2.1') as Uint8Array;
const SOMEWHERE_IPV6 = parseAddress('2001:db8::1') as Uint8Array;
const VERDICTS: Readonly<Record<Action, Verdict>> = { [Action.ALLOW]: 'allow', [Action.DENY]: 'deny', [Action.ASK]: 'ask' };

export interface ExplainerParts {
  readonly reconciler: Reconciler;
  readonly datapath: Datapath;
  readonly known: KnownNames;
  readonly pluginName: (id: number) => string;
  readonly explainRequest: (ends: SocketEnds, request: Request) => Promise<ExplainedRequest | undefined>;
}

export class Explainer {
  readonly #reconciler: Reconciler;
  readonly #datapath: Datapath;
  readonly #known: KnownNames;
  readonly #pluginName: (id: number) => string;
  readonly #explainRequest: ExplainerParts['explainRequest'];

  constructor(parts: ExplainerParts) {
    this.#explainRequest = parts.explainRequest;
    this.#reconciler = parts.reconciler;
    this.#datapath = parts.datapath;
    this.#known = parts.known;
    this.#pluginName = parts.pluginName;
  }

  /**
   * Explains a flow once for each address family that both sides have.
   *
   * @throws EngineError `CONFIG_INVALID` for what names no pod, address or port.
   */
  async explain({ from, to, port, verify, request }: ExplainQuery): Promise<ExplainedFlow[]> {
    const [, number = '', protocol = ''] = /^(?:(\d{1,5})\/)?([a-z]+)$/.exec(port.toLowerCase()) ?? [];
    if (!Object.hasOwn(PROTOCOLS, protocol) || Number(number) > 65_535 || (protocol === 'icmp') !== (number === ''))
      throw new EngineError('CONFIG_INVALID', `Cannot explain port "${port}": must be such as 80/tcp, 53/udp, 9/sctp or icmp`);
    const sources = this.#parties(from);
    const pairs = sources.flatMap((source) =>
      this.#destinations(to, source)
        .filter((destination) => isIpv4(source.address) === isIpv4(destination.address))
        .map((destination) => ({ source, destination })),
    );
    if (!pairs.length) throw new EngineError('CONFIG_INVALID', `Cannot explain ${from} to ${to}: they have no address family in common`);
    const explained = pairs.map(async ({ source, destination }) => {
      const icmp = isIpv4(source.address) ? PROTOCOLS.icmp : ICMP6;
      const question = {
        source,
        destination,
        protocol: (protocol === 'icmp' ? icmp : PROTOCOLS[protocol]) as number,
        port: Number(number),
      };
      const flow = this.#explainFlow(question, protocol, verify);
      return request ? { ...flow, request: await this.#explainRequestOn(question, request) } : flow;
    });
    return Promise.all(explained);
  }

  async #explainRequestOn(
    { source, destination, port }: Question,
    { method, host, path, headers, cookies }: RequestQuery,
  ): Promise<NonNullable<ExplainedFlow['request']> | null> {
    const name = source.pod && objectName(source.pod);
    const endpoint = this.#reconciler.status.endpoints.find(({ pod }) => pod === name);
    if (!endpoint) return null;
    const authority = host || formatAddress(destination.address);
    const [plain = '', query = ''] = path.split(/\?(.*)/s, 2);
    const lines = headers.flatMap((header) => {
      const [, field, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):\s*([^\r\n]*)$/.exec(header) ?? [];
      if (!field) throw new EngineError('CONFIG_INVALID', `Cannot explain header "${header}": must be such as "x-user: 7"`);
      return [field.toLowerCase(), value ?? ''];
    });
    for (const cookie of cookies)
      if (!/^[^=;\s]+=[^;\r\n]*$/.test(cookie))
        throw new EngineError('CONFIG_INVALID', `Cannot explain cookie "${cookie}": must be such as canary=v2`);
    if (!plain.startsWith('/')) throw new EngineError('CONFIG_INVALID', `Cannot explain path "${path}": must begin with a slash`);
    const explained = await this.#explainRequest(
      {
        remote: source.address,
        remotePort: 0,
        local: destination.address,
        localPort: port,
        endpoint: endpoint.cgroup === undefined ? 0 : endpoint.id,
      },
      {
        method,
        host: authority,
        path: plain,
        query,
        headers: ['host', authority, ...lines, ...(cookies.length ? ['cookie', cookies.join('; ')] : [])],
      },
    );
    return explained ? { method, url: `http://${authority}${path}`, ...explained } : null;
  }

  #explainFlow(question: Question, protocol: string, verify: boolean): ExplainedFlow {
    const ends = explain(this.#reconciler.compiled, question, nodeAddresses()).map((end) => this.#view(end, question, verify));
    const denied = ends.find((end) => end.verdict === 'deny') ?? ends.find((end) => end.verdict === 'ask');
    return {
      source: `${formatParty(question.source)} (${formatAddress(question.source.address)})`,
      destination: question.destination.unresolved
        ? `${formatParty(question.destination)} (not resolved by the pod yet)`
        : `${formatParty(question.destination)} (${formatAddress(question.destination.address)})`,
      protocol,
      port: question.port,
      verdict: denied?.verdict ?? 'allow',
      ends,
    };
  }

  #view(end: EndExplanation, question: Question, verify: boolean): EndView {
    const pod = objectName(end.pod);
    const plugin = end.action === Action.ASK && end.expected ? this.#pluginName(end.expected.rule.plugin) : '';
    return {
      pod,
      direction: end.direction === Direction.INGRESS ? 'ingress' : 'egress',
      enforced: end.endpoint !== undefined,
      verdict: VERDICTS[end.action],
      tier: end.tier,
      rule: end.rule,
      plugin,
      reason: plugin ? `${end.reason}: ${plugin}` : end.reason,
      ...(verify && end.endpoint && { kernel: this.#verify(end, pod, question) }),
    };
  }

  /** Asks the kernel's program and maps, and compares. */
  #verify(end: EndExplanation, pod: string, { source, destination, protocol, port }: Question): { agrees: boolean; says: string } {
    const endpoint = this.#reconciler.status.endpoints.find((view) => view.pod === pod)?.id;
    if (endpoint === undefined) return { agrees: false, says: 'the pod is not attached here' };
    const answer = probeKernel(this.#datapath.programFd('explain'), {
      endpoint,
      direction: end.direction,
      source: source.address,
      destination: destination.address,
      protocol,
      port,
    });
    if (!answer) return { agrees: false, says: 'the kernel does not know this endpoint' };
    const says = `${VERDICTS[answer.action as Action]}${answer.rule ? ` by ${formatOrigin(this.#reconciler.compiled.origins.get(answer.rule)) || `rule ${answer.rule}`}` : ''}, rule set ${answer.ruleSet}, peer identity ${answer.identity}`;
    if (destination.unresolved) return { agrees: true, says: `${says}; no address is known by this name yet` };
    if (end.beforePolicy) return { agrees: true, says: 'the packet never comes to a rule' };
    if (!end.expected) return { agrees: answer.action === end.action, says };
    const { ruleSet, identity, rule } = end.expected;
    const inMap = readRuleSet(this.#datapath, endpoint, end.direction) === ruleSet;
    return {
      agrees:
        inMap && answer.ruleSet === ruleSet && answer.identity === identity && answer.rule === rule.id && answer.action === rule.action,
      says,
    };
  }

  /** Who may be meant as the destination: a party, or a domain name at each address that the sender knows it by. */
  #destinations(text: string, source: Party): Party[] {
    const endpoint = source.pod && this.#reconciler.status.endpoints.find(({ pod }) => pod === objectName(source.pod as Pod))?.id;
    if (!isDomainName(text))
      return this.#parties(text).map((party) => {
        const patterns = endpoint === undefined ? [] : (this.#known.find(endpoint, party.address)?.patterns ?? []);
        return { ...party, patterns: patterns.filter(({ expiresInS }) => expiresInS).map(({ pattern }) => pattern) };
      });
    const name = canonicalName(text);
    const hash = nameHash(name);
    const known = endpoint === undefined ? [] : this.#known.list().filter((each) => each.endpoint === endpoint && each.name === hash);
    if (known.length) return known.map(({ address, patterns }) => ({ address, name, patterns: patterns.map(({ pattern }) => pattern) }));
    const { named } = this.#reconciler.compiled;
    const pattern = named.remembered.get(named.closest(name) ?? '');
    // Not resolved yet: as an address would be that nothing else is known of.
    const address = isIpv4(source.address) ? SOMEWHERE : SOMEWHERE_IPV6;
    return [{ address, name, patterns: pattern === undefined ? [] : [pattern], unresolved: true }];
  }

  /** A pod at each of its addresses, or an address with the pod that has it. */
  #parties(text: string): Party[] {
    const { compiled } = this.#reconciler;
    const address = parseAddress(text);
    if (address) {
      const pod = compiled.podsByAddress.get(addressKey(address));
      return [{ address, ...(pod && { pod }) }];
    }
    const isHost = (each: Pod): boolean => each.hostPolicies !== undefined && objectName(each) === text;
    const pod = compiled.cluster.of('Pod').get(text) ?? [...compiled.endpoints.keys()].find(isHost);
    if (!pod)
      throw new EngineError(
        'CONFIG_INVALID',
        `Cannot explain "${text}": no such pod in the source, and no address; use NAMESPACE/POD or an IP address`,
      );
    const own = pod.addresses.length || pod.cgroup === undefined ? pod.addresses : hostAddresses();
    if (!own.length) throw new EngineError('CONFIG_INVALID', `Cannot explain "${text}": the pod has no address yet`);
    return own.map((each) => ({ address: each, pod }));
  }
}

/** Pods are written with a slash, addresses are asked for first. */
function isDomainName(text: string): boolean {
  return !parseAddress(text) && /^[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?\.?$/i.test(text) && text.includes('.');
}

/** The node's own addresses but for loopback: one of each family. */
function hostAddresses(): Uint8Array[] {
  const reachable = nodeAddresses().filter((address) => !/^(127\.|::1$|fe80:)/.test(formatAddress(address)));
  return [reachable.find(isIpv4), reachable.find((address) => !isIpv4(address))].filter((address) => address !== undefined);
}
