/** The addresses that endpoints know by domain names, as people see them: until when an address is open, by which name, pattern and rules. */
import { Direction } from '../abi.gen.ts';
import type { KnownAddress } from '../kernel/known-names.ts';
import { formatAddress } from '../policy/address.ts';
import type { CompiledEndpoint, Compiler } from '../policy/compile.ts';
import { covers } from '../policy/domain-name.ts';
import { endpointName } from '../policy/object-name.ts';
import { formatOrigin } from '../policy/rules.ts';
import type { Reconciler } from '../reconcile/reconciler.ts';

export interface NameView {
  /** `namespace/name` of the pod that knows it. */
  readonly endpoint: string;
  readonly address: string;
  readonly name: string;
  readonly patterns: { readonly pattern: string; readonly expiresInS: number; readonly rules: string[] }[];
}

/** Joins what the kernel knows with the policy that it knows it for, by endpoint and name. */
export function viewNames(reconciler: Reconciler, known: readonly KnownAddress[], domain: (hash: bigint) => string): NameView[] {
  const { compiled, status } = reconciler;
  const pods = new Map(status.endpoints.map(({ id, pod }) => [id, pod]));
  const endpoints = new Map([...compiled.endpoints.values()].map((endpoint) => [endpointName(endpoint.pod), endpoint]));
  const patternTexts = new Map([...compiled.named.remembered].map(([text, id]) => [id, text]));
  const views = known.flatMap(({ endpoint, address, name, patterns }): NameView[] => {
    const pod = pods.get(endpoint);
    if (pod === undefined) return [];
    return [
      {
        endpoint: pod,
        address: formatAddress(address),
        name: domain(name),
        patterns: patterns.map(({ pattern, expiresInS }) => {
          const text = patternTexts.get(pattern) ?? '';
          return { pattern: text, expiresInS, rules: text ? rulesAbout(compiled, endpoints.get(pod), text) : [] };
        }),
      },
    ];
  });
  const order = ({ endpoint, name, address }: NameView): string => `${endpoint} ${name} ${address}`;
  return views.sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

/** The rules of an endpoint that are about whatever a pattern matches. */
function rulesAbout(compiled: Compiler, endpoint: CompiledEndpoint | undefined, pattern: string): string[] {
  const rules = endpoint?.ruleSets[Direction.EGRESS]?.membership.members.flatMap((member) => member.rules) ?? [];
  return rules
    .filter((rule) => rule.peers?.some((peer) => peer.kind === 'names' && peer.patterns.some((own) => covers(own, pattern))))
    .map(({ id }) => formatOrigin(compiled.origins.get(id)));
}
