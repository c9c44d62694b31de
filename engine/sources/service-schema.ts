/** Services and EndpointSlices: who takes connections for whom. Sources: Service v1, EndpointSlice of discovery.k8s.io/v1. */
import { z } from 'zod';
import { parseAddress } from '../policy/address.ts';
import type { Selector, ServicePort } from '../policy/objects.ts';
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
        }),
      ),
    ),
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
          target: port.targetPort ?? port.port,
        }),
      ),
      ...(selector.length && { selector }),
    };
  });

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
        conditions: absent(z.looseObject({ ready: absent(z.boolean()), terminating: absent(z.boolean()) })),
      }),
    ),
  ),
  ports: absent(z.array(z.looseObject({ name: absent(z.string()), protocol, port: absent(portNumber) }))),
});

/** The addresses of endpoints that are ready; names (FQDN) are none. */
export function readyAddresses(slice: z.infer<typeof endpointSlice>): Uint8Array[] {
  return (slice.endpoints ?? [])
    .filter(({ conditions }) => conditions?.ready !== false && conditions?.terminating !== true)
    .flatMap(({ addresses }) => parseAddress(addresses[0] ?? '') ?? []);
}
