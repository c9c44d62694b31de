/** The addresses that endpoints know by domain names, as people see them: until when an address is open, by which name, pattern and rules. */

import { z } from 'zod';
import { Direction } from '../abi.gen.ts';
import type { KnownAddress } from '../kernel/known-names.ts';
import { formatAddress } from '../policy/address.ts';
import type { CompiledEndpoint, Compiler } from '../policy/compile.ts';
import { covers } from '../policy/domain-name.ts';
import { objectName } from '../policy/object-name.ts';
import { formatOrigin } from '../policy/rules.ts';
import type { Reconciler } from '../reconcile/reconciler.ts';

export const knownName = z.object({
  endpoint: z.string().describe('"namespace/name" of the pod that knows it'),
  address: z.string(),
  name: z.string().describe('of the query whose answer taught it last; empty when the kernel has forgotten it'),
  patterns: z.array(
    z.object({
      pattern: z.string().describe('as policy writes it; empty for one that no rule has any more'),
      expiresInS: z.int().describe('0: over, and open only to connections that exist'),
      rules: z.array(z.string()).describe('of this endpoint, that are about names such as this one'),
    }),
  ),
});

/** An address that an endpoint knows by a name. */
export type NameView = z.infer<typeof knownName>;

/** Joins what the kernel knows with the policy that it knows it for, by endpoint and name. */
export function viewNames(reconciler: Reconciler, known: readonly KnownAddress[], domain: (hash: bigint) => string): NameView[] {
  const { compiled, status } = reconciler;
  const pods = new Map(status.endpoints.map(({ id, pod }) => [id, pod]));
  const endpoints = new Map([...compiled.endpoints.values()].map((endpoint) => [objectName(endpoint.pod), endpoint]));
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
