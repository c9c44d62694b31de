/** The bodies of the API's answers: the OpenAPI document and the checks come from here. */
import { z } from 'zod';

export const problem = z.object({
  file: z.string().optional().describe('that it stands in; absent where no file is meant'),
  line: z.int().optional().describe('from 1; absent where the whole file is meant'),
  object: z.string().describe('such as "NetworkPolicy shop/web"'),
  reason: z.string(),
  pending: z.boolean().optional().describe('it mends itself when what it waits for comes'),
});

export const status = z.object({
  revision: z.int().describe('counts changes that were put in force'),
  appliedAt: z.string(),
  attachment: z.enum(['tcx', 'clsact']),
  endpoints: z.array(
    z.object({
      pod: z.string(),
      id: z.int().describe('of an interface its index'),
      interface: z.string().optional(),
      cgroup: z.string().optional(),
      identity: z.int(),
      isolated: z.object({ ingress: z.boolean(), egress: z.boolean() }),
    }),
  ),
  problems: z.array(problem).describe('what is in the source and not in force as meant'),
  maps: z.array(z.object({ map: z.string(), entries: z.int(), maxEntries: z.int() })),
});

const versionFacts = {
  version: z.string().describe('as its manifest says'),
  sha256: z.string(),
};

/** Of HTTP's Vary, so to say: what verdicts may depend on. */
const manifestFacts = {
  hooks: z.array(z.string()),
  fields: z.array(z.string()).describe('what the module may read'),
  headers: z.array(z.string()),
  cookies: z.array(z.string()),
  capabilities: z.array(z.string()),
};

export const plugin = z.object({
  name: z.string(),
  state: z.enum(['on', 'off']).describe('off: nothing runs; its flows get the failure policy'),
  mode: z.enum(['enforce', 'shadow']).describe('as its PolicyPlugin says; shadow: every flow passes'),
  ...versionFacts,
  origin: z.enum(['file', 'pushed', '']),
  signer: z.string().describe('id of the trusted key that signed it; empty when no keys are trusted'),
  ...manifestFacts,
  epoch: z.int().describe('counts what is in force; verdicts of an older one do not count'),
  failurePolicy: z.enum(['Allow', 'Deny']),
  problem: z.string(),
  flows: z.int().describe('that a plugin was to decide and the kernel had no verdict for'),
  allowed: z.int().describe('of these, failure policy included'),
  denied: z.int(),
  cached: z.int().describe('packets for which the kernel had the verdict'),
  evaluations: z.int().describe('by the live version'),
  traps: z.int(),
  nonsense: z.int().describe('evaluations whose answer meant nothing'),
  timeouts: z.int(),
  lastTrap: z.string(),
  reasons: z.record(z.string(), z.int()).describe('verdicts by reason, of those that the manifest lists'),
  tables: z.array(z.object({ name: z.string(), slots: z.int(), evictions: z.int().describe('counters that were forgotten to make room') })),
  previous: z.object(versionFacts).nullable().describe('what a rollback puts in force'),
  candidate: z
    .object({
      ...versionFacts,
      mode: z.enum(['shadow', 'canary']),
      weight: z.int(),
      evaluations: z.int(),
      skipped: z.int().describe('flows that a shadow was not asked about, for want of time'),
      traps: z.int(),
      lastTrap: z.string(),
      changed: z.record(z.string(), z.int()).describe('verdicts that would change, by "allow → deny"'),
      samples: z.array(z.looseObject({ live: z.string(), shadow: z.string(), reason: z.string() })),
    })
    .nullable(),
  history: z.array(z.object({ time: z.string(), what: z.string(), ...versionFacts })),
});

/** The answer to a push. */
export const pushed = z.object({
  plugin,
  audit: z.object({
    ...versionFacts,
    signer: z.string(),
    ...manifestFacts,
    changes: z.array(z.string()).describe('what differs from the version in force'),
  }),
});

const party = z.object({
  address: z.string(),
  port: z.int(),
  pod: z.string().describe('"namespace/name", or empty'),
  identity: z.int(),
  labels: z.array(z.string()).describe('"key=value"; of what a plugin decided'),
});

export const flow = z.object({
  time: z.string(),
  source: party,
  destination: party,
  name: z.string().describe('by which the sender knows the destination; of a DNS message, the one that is asked for'),
  protocol: z.string(),
  direction: z.enum(['ingress', 'egress']),
  verdict: z.enum(['allow', 'deny']),
  reason: z.string(),
  rule: z.string(),
  plugin: z.string(),
  audited: z.boolean().describe('the plugin let it pass, and wants it shown'),
  hook: z.string().describe('connect, dns, tls or http; empty when no plugin was asked'),
  serverName: z.string().describe('that a TLS client named; empty where there is none'),
  established: z.boolean(),
  http: z
    .object({
      protocol: z.string(),
      method: z.string(),
      host: z.string(),
      path: z.string(),
      status: z.int(),
      route: z.string().describe('what the plugin calls where it went'),
      backend: z.string().describe('"namespace/name:port address:port"; empty where no backend was asked'),
      version: z.string().describe('of the plugin that decided'),
      durationUs: z.int(),
    })
    .nullable()
    .describe('one request of the connection; null where requests are not what was decided'),
  scope: z.string(),
  ttlMs: z.number(),
  heldUs: z.number(),
});

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

export const hostFirewall = z.object({
  state: z
    .enum(['off', 'confirmed', 'pending', 'lapsed'])
    .describe('pending: in force until confirmBy; lapsed: what was before is in force'),
  cgroup: z.string(),
  policies: z.array(z.string()).describe('as they are in force, with versions'),
  confirmBy: z.string().optional(),
});

const verdict = z.enum(['allow', 'deny', 'ask']);

export const explanation = z.object({
  source: z.string(),
  destination: z.string(),
  protocol: z.string(),
  port: z.int(),
  verdict,
  ends: z.array(
    z.object({
      pod: z.string(),
      direction: z.enum(['ingress', 'egress']),
      enforced: z.boolean().describe('whether this node enforces it'),
      verdict,
      tier: z.string().describe('admin, network, baseline, plugin, or none where no policy decides'),
      rule: z.string(),
      plugin: z.string(),
      reason: z.string(),
      kernel: z.object({ agrees: z.boolean(), says: z.string() }).optional().describe('what the kernel says, with verify'),
    }),
  ),
  request: z
    .object({
      method: z.string(),
      url: z.string(),
      allowed: z.boolean(),
      status: z.int().describe('of the answer, where it is denied; 0 where it is not'),
      route: z.string().describe('what the plugin calls where it goes'),
      backends: z.array(z.string()).describe('who may take it, such as "shop/checkout-v2:80 10.0.0.3:80"'),
      cookie: z.string().describe('set with the answer'),
      version: z.string().describe('of the plugin that decided; empty where none did'),
      reason: z.string(),
    })
    .nullable()
    .optional()
    .describe('what becomes of the request that was asked about; null where requests on this flow are not decided'),
});

export const event = z.object({
  time: z.string(),
  type: z.enum(['applied', 'problem', 'resolved']),
  object: z.string().describe('such as "NetworkPolicy shop/web"; empty where none is meant'),
  message: z.string(),
});

export const failure = z.object({ code: z.string(), message: z.string() });

/** A schema as fastify and the OpenAPI document take it. */
export function json(schema: z.ZodType): Record<string, unknown> {
  const { $schema: _version, ...rest } = z.toJSONSchema(schema);
  return rest;
}
