/** The bodies of the API's answers: the OpenAPI document and the checks come from here. */
import { z } from 'zod';
import { ORIGINS } from '../plugins/version-store.ts';

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
  outlets: z
    .array(
      z.object({
        feed: z.string().describe('flows or events'),
        kind: z.string().describe('api, metrics'),
        name: z.string().describe('of a client its address'),
        queued: z.int(),
        delivered: z.int(),
        lost: z.int().describe('that it was too slow for'),
        problem: z.string().describe('why its last write failed; empty while none has'),
      }),
    )
    .describe('who is told of flows and events'),
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
  origin: z.enum([...ORIGINS, '']).describe('where the version in force is from: the place that the PolicyPlugin names, or a push'),
  signer: z.string().describe('id of the trusted key that signed it; empty when no keys are trusted'),
  ...manifestFacts,
  epoch: z.int().describe('counts what is in force; verdicts of an older one do not count'),
  failurePolicy: z.enum(['Allow', 'Deny']),
  problem: z.string(),
  rollout: z
    .object({
      digest: z.string(),
      here: z.enum(['enforced', 'shadow', 'elsewhere', 'failed']).describe('on this node; elsewhere: others try it'),
      mode: z.enum(['enforce', 'shadow']),
      percent: z.int().describe('of the nodes'),
      nodeNames: z.array(z.string()).describe('beside these'),
      problem: z.string().describe('why no node uses it any more'),
      failed: z.array(z.object({ node: z.string(), reason: z.string() })).describe('nodes that have said so'),
    })
    .nullable()
    .describe('the module that some nodes try'),
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

/** Declared where they are made. */
export { explanation } from '../explain/explanation.ts';
export { knownName } from '../explain/known-names-view.ts';
export { flowSchema as flow } from '../observe/flow-fields.ts';

export const hostFirewall = z.object({
  state: z
    .enum(['off', 'confirmed', 'pending', 'lapsed'])
    .describe('pending: in force until confirmBy; lapsed: what was before is in force'),
  cgroup: z.string(),
  policies: z.array(z.string()).describe('as they are in force, with versions'),
  confirmBy: z.string().optional(),
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
