/**
 * HTTPRoutes of the Gateway API (v1) that are attached to Services, as a service mesh has them (GAMMA): matches, weights, and
 * a PolicyPlugin as the filter that decides. What is not understood is refused, and so are the requests that it is about.
 */

import { z } from 'zod';
import { objectName } from '../policy/object-name.ts';
import type { BackendRef, RequestMatch, RequestRule, TextMatch } from '../policy/objects.ts';
import { absent, portNumber } from './schema.ts';

/** `canary=checkout-v2, stable=checkout-v1`: which Service each route of a plugin means; a Service's own name always does. */
export const ROUTES_ANNOTATION = 'sluice.dev/routes';

const MATCHES_MAX = 64;

/** A regular expression can take longer than any request may wait: implementations need not have them, and this one has none. */
const NO_PATTERNS = 'must be Exact: regular expressions are not supported here';
const textMatch = z
  .strictObject({ type: absent(z.literal('Exact', NO_PATTERNS)), name: z.string().min(1).max(256), value: z.string().max(4096) })
  .transform(({ name, value }): TextMatch => ({ name, value }));
const headerMatch = textMatch.transform((match): TextMatch => ({ ...match, name: match.name.toLowerCase() }));

const requestMatch = z
  .strictObject({
    path: absent(
      z
        .strictObject({
          type: absent(z.enum(['Exact', 'PathPrefix'], 'must be Exact or PathPrefix: regular expressions are not supported here')),
          value: absent(z.string().startsWith('/', 'must begin with /').max(1024)),
        })
        .transform((path) => ({ type: path.type ?? ('PathPrefix' as const), value: path.value ?? '/' })),
    ),
    headers: absent(z.array(headerMatch).max(16)),
    queryParams: absent(z.array(textMatch).max(16)),
    method: absent(z.enum(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'])),
  })
  .transform(
    (match): RequestMatch => ({
      ...(match.path && { path: match.path }),
      ...(match.method && { method: match.method }),
      headers: match.headers ?? [],
      query: match.queryParams ?? [],
    }),
  );

const filter = z.strictObject({
  type: z.literal('ExtensionRef', 'only ExtensionRef is supported here'),
  extensionRef: z.strictObject({
    group: z.literal('sluice.dev'),
    kind: z.literal('PolicyPlugin'),
    name: z.string().min(1),
  }),
});

const service = {
  group: absent(z.literal('', 'only Services are supported here')),
  kind: absent(z.literal('Service', 'only Services are supported here')),
  name: z.string().min(1),
  namespace: absent(z.string()),
};
const backendRef = z.strictObject({ ...service, port: portNumber, weight: absent(z.int().min(0).max(1_000_000)) });

const parentRefs = z
  .array(
    z.looseObject({
      group: absent(z.string()),
      kind: absent(z.string()),
      name: z.string().min(1),
      namespace: absent(z.string()),
      port: absent(portNumber),
    }),
  )
  .min(1);

/** The part of a route that says whose it is. */
export const httpRouteParents = z.looseObject({ parentRefs });

export const httpRouteSpec = z.strictObject({
  parentRefs,
  hostnames: absent(z.array(z.string()).max(0, 'cannot be told apart for a Service: leave them out')),
  rules: absent(
    z
      .array(
        z.strictObject({
          name: absent(z.string()),
          matches: absent(z.array(requestMatch).max(MATCHES_MAX)),
          filters: absent(z.array(filter).max(1, 'more than one filter is not supported here')),
          backendRefs: absent(z.array(backendRef).max(16)),
        }),
      )
      .max(16),
  ),
});

type Spec = z.infer<typeof httpRouteSpec>;

/** The Services that a route is attached to; other parents are somebody else's. */
export function serviceParents(spec: Pick<Spec, 'parentRefs'>, namespace: string): { service: string; port?: number }[] {
  return spec.parentRefs
    .filter(({ group, kind }) => (group ?? 'gateway.networking.k8s.io') === '' && kind === 'Service')
    .map((parent) => ({
      service: objectName({ namespace: parent.namespace ?? namespace, name: parent.name }),
      ...(parent.port && { port: parent.port }),
    }));
}

/** Each rule once for each of its matches, so that they can be put in order over all routes of a Service. */
export function routeRules(spec: Spec, namespace: string, routes: ReadonlyMap<string, string>): RequestRule[] {
  return (spec.rules ?? [{}]).flatMap((rule): RequestRule[] => {
    const refs = ('backendRefs' in rule ? (rule.backendRefs ?? []) : []).map(
      (ref): BackendRef => ({
        service: objectName({ namespace: ref.namespace ?? namespace, name: ref.name }),
        port: ref.port,
        weight: ref.weight ?? 1,
      }),
    );
    const named = new Map(refs.map((ref) => [ref.service.slice(ref.service.indexOf('/') + 1), ref]));
    for (const [name, target] of routes) {
      const ref = named.get(target);
      if (ref) named.set(name, ref);
    }
    const plugin = 'filters' in rule ? (rule.filters?.[0]?.extensionRef.name ?? '') : '';
    const matches = 'matches' in rule && rule.matches?.length ? rule.matches.map((match) => [match]) : [[]];
    return matches.map((each) => ({
      matches: each,
      plugin,
      // A route that a plugin names takes what it is given, whatever the weight.
      routes: Object.fromEntries([...named].map(([name, ref]) => [name, [{ ...ref, weight: 1 }]])),
      fallback: refs,
      deny: { status: 403, body: 'denied by policy\n' },
    }));
  });
}
