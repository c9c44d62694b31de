/** The part of compiled policy that the proxy goes by. */

import { addressKey, addressPair } from '../policy/address.ts';
import type { Compiler } from '../policy/compile.ts';
import type { Pod } from '../policy/objects.ts';
import { formatOrigin } from '../policy/rules.ts';
import type { ProxyPolicy, ProxyProcess, ProxyRule } from './messages.ts';

/** `ids`: of the endpoints that are attached here, by pod. */
export function proxyPolicy(compiler: Compiler, ids: ReadonlyMap<Pod, number>, pluginIds: ReadonlyMap<string, number>): ProxyPolicy {
  const rules = new Map<number, ProxyRule>();
  for (const [id, { requests }] of compiler.requestRules) {
    if (!requests) continue;
    const asked = requests.rules.flatMap(({ plugin }) => {
      const known = pluginIds.get(plugin);
      return known === undefined ? [] : [[plugin, known] as const];
    });
    rules.set(id, { id, name: formatOrigin(compiler.origins.get(id)), requests, plugins: new Map(asked) });
  }
  const endpoints = new Map<string, { id: number; identity: number }>();
  const processes = new Map<number, ProxyProcess>();
  if (rules.size)
    for (const { pod, identity } of compiler.endpoints.values()) {
      const id = ids.get(pod);
      if (id === undefined) continue;
      if (pod.cgroup !== undefined) processes.set(id, { id, identity, ...addressPair(pod.addresses) });
      // Of several here that say so it is one's, and the same one in the kernel.
      else
        for (const key of pod.addresses.map(addressKey))
          if (compiler.ownerHere(key, (each) => ids.has(each)) === pod) endpoints.set(key, { id, identity });
    }
  return {
    rules,
    sets: compiler.backends.requested,
    frontends: new Map([...compiler.backends.frontends].map(([key, set]) => [key, set.name])),
    endpoints,
    processes,
  };
}
