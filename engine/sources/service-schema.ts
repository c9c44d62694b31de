/** Services and EndpointSlices: who takes connections for whom. Sources: Service v1, EndpointSlice of discovery.k8s.io/v1. */
import { z } from 'zod';
import { parseAddress } from '../policy/address.ts';
import type { Selector, ServicePort, SliceEndpoint } from '../policy/objects.ts';
import { isRecord } from './raw-object.ts';
import { absent, labels, PROTOCOLS, portNumber } from './schema.ts';

const address = z.string().transform((text, context): Uint8Array => {
  const parsed = parseAddress(text);
  if (!parsed) context.addIssue({ code: 'custom', message: `"${text}" is not an address` });
  return parsed ?? z.NEVER;
});

const protocol = absent(z.enum(['TCP', 'UDP', 'SCTP'])).transform((name) => PROTOCOLS[name ?? 'TCP']);
const HEADLESS = 'None';
const clusterIp = z.string().transform((text, context): Uint8Array | undefined => {
  if (text === HEADLESS || text === '') return undefined;
  const result = address.safeParse(text);
  if (!result.success) context.addIssue({ code: 'custom', message: `"${text}" is not an address` });
  return result.data;
});

/** Of ClientIPConfig, as the API server fills it in and bounds it. */
const AFFINITY_S = 10_800;
const AFFINITY_S_MAX = 86_400;

/** Fields that are not named here are somebody else's business. */
export const serviceSpec = z
  .looseObject({
    clusterIP: absent(clusterIp),
    clusterIPs: absent(z.array(clusterIp).max(2)),
    selector: labels,
    ports: absent(
      z.array(
        z.looseObject({
          name: absent(z.string()),
          protocol,
          port: portNumber,
          targetPort: absent(z.union([portNumber, z.string()])),
          nodePort: absent(z.union([z.literal(0), portNumber])),
        }),
      ),
    ),
    externalIPs: absent(z.array(address)),
    sessionAffinity: absent(z.enum(['', 'None', 'ClientIP'])),
    sessionAffinityConfig: absent(
      z.looseObject({ clientIP: absent(z.looseObject({ timeoutSeconds: absent(z.int().min(1).max(AFFINITY_S_MAX)) })) }),
    ),
    internalTrafficPolicy: absent(z.enum(['', 'Cluster', 'Local'])),
  })
  .transform((spec) => {
    const addresses = spec.clusterIPs?.length ? spec.clusterIPs : [spec.clusterIP];
    const selector = [...spec.selector].map(([key, value]) => ({ key, operator: 'In' as const, values: [value] })) satisfies Selector;
    return {
      addresses: addresses.filter((each) => each !== undefined),
      ports: (spec.ports ?? []).map(
        (port): ServicePort => ({
          name: port.name ?? '',
          protocol: port.protocol,
          port: port.port,
          // Zero and empty texts are what an encoding without absent fields has in their place.
          target: port.targetPort || port.port,
          ...(port.nodePort && { nodePort: port.nodePort }),
        }),
      ),
      ...(spec.externalIPs?.length && { externalAddresses: spec.externalIPs }),
      ...(spec.sessionAffinity === 'ClientIP' && { affinityS: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? AFFINITY_S }),
      ...(spec.internalTrafficPolicy === 'Local' && { localOnly: true }),
      ...(selector.length && { selector }),
    };
  });

/** Of what a load balancer has: an address that carries connections to itself (ipMode Proxy) is not the Service's. */
export const serviceStatus = absent(
  z.looseObject({
    loadBalancer: absent(
      z.looseObject({ ingress: absent(z.array(z.looseObject({ ip: absent(z.string()), ipMode: absent(z.string()) }))) }),
    ),
  }),
).transform((status) =>
  (status?.loadBalancer?.ingress ?? []).flatMap(({ ip, ipMode }) => (ipMode === 'Proxy' ? [] : (parseAddress(ip ?? '') ?? []))),
);

/** The cluster addresses of a Service whose spec is damaged, as far as they can be read. */
export function readableAddresses(spec: unknown): Uint8Array[] {
  const { clusterIP, clusterIPs } = isRecord(spec) ? spec : {};
  const texts = [clusterIP, ...(Array.isArray(clusterIPs) ? clusterIPs : [])].filter((text) => typeof text === 'string');
  return [...new Set(texts)].flatMap((text) => parseAddress(text) ?? []);
}

/** The Service that a slice is of. */
export const SERVICE_LABEL = 'kubernetes.io/service-name';

/** Conditions that nobody has stated count as the API says: ready, serving, not terminating. */
export const endpointSlice = z.looseObject({
  addressType: absent(z.enum(['IPv4', 'IPv6', 'FQDN'])),
  endpoints: absent(
    z.array(
      z.looseObject({
        addresses: z.array(z.string()).min(1),
        conditions: absent(z.looseObject({ ready: absent(z.boolean()), serving: absent(z.boolean()), terminating: absent(z.boolean()) })),
        nodeName: absent(z.string()),
      }),
    ),
  ),
  ports: absent(z.array(z.looseObject({ name: absent(z.string()), protocol, port: absent(portNumber) }))),
});

/** Endpoints that take connections, or would where no other does; names (FQDN) are none. */
export function sliceEndpoints(slice: z.infer<typeof endpointSlice>): SliceEndpoint[] {
  return (slice.endpoints ?? []).flatMap(({ addresses, conditions, nodeName }) => {
    const address = parseAddress(addresses[0] ?? '');
    const ready = conditions?.ready ?? true;
    const draining = !ready && (conditions?.serving ?? true) && conditions?.terminating === true;
    return address && (ready || draining) ? [{ address, ready, draining, ...(nodeName && { node: nodeName }) }] : [];
  });
}
