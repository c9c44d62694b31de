/**
 * The status that engines write into objects of the API server, and the report of each node that it is put together from. The
 * leader of the engines writes the first, every engine its own report. CRDs are made of the same schemas. Fields that are not known here
 * are passed over: another version of the engine may have them.
 */
import { z } from 'zod';

/** Nodes that a status names at most; how many there are is said beside them. */
export const FAILING_NODES_MAX = 10;
/** Objects that a node's report names at most. */
export const FAILING_OBJECTS_MAX = 64;
/** Characters of a reason; longer ones are cut. */
export const REASON_MAX = 256;

const reason = z.string().max(REASON_MAX);
const count = z.int().min(0);

const condition = z
  .object({
    type: z.string().max(316).describe('Accepted: it says something that can be enforced. Programmed: it is in force on every node.'),
    status: z.enum(['True', 'False', 'Unknown']).describe('Whether it holds.'),
    observedGeneration: count.describe('The metadata.generation that this is about.'),
    lastTransitionTime: z.string().meta({ format: 'date-time', description: 'When status changed last.' }),
    reason: z.string().min(1).max(1024).describe('One word that programs go by.'),
    message: z.string().max(32_768).describe('A sentence for people.'),
  })
  .describe('One thing that holds of the object, or does not.');
export type Condition = z.infer<typeof condition>;

const failingNode = z.object({ node: z.string().max(253).describe('The name of the node.'), reason: reason.describe('Why not.') });

/** The status of an object of ours. */
export const objectStatus = z
  .object({
    observedGeneration: count.optional().describe('The metadata.generation that this status is about.'),
    conditions: z
      .array(condition)
      .max(8)
      .optional()
      .meta({ description: 'Accepted and Programmed.', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] }),
    nodes: z
      .object({
        ready: count.describe('Nodes on which it is in force.'),
        total: count.describe('Nodes that run an engine.'),
        failing: z
          .array(failingNode)
          .max(FAILING_NODES_MAX)
          .optional()
          .meta({
            description: `Nodes on which it is not in force, and why; ${FAILING_NODES_MAX} of them at most.`,
            'x-kubernetes-list-type': 'map',
            'x-kubernetes-list-map-keys': ['node'],
          }),
      })
      .optional()
      .describe('On how many nodes it is in force.'),
  })
  .describe('Written by the engines: nobody else needs to.');
export type ObjectStatus = z.infer<typeof objectStatus>;

/** Nodes that a status names at which a canary failed: one is enough to end it. */
export const CANARY_FAILURES_MAX = 10;

/** The status of a PolicyPlugin. Where its canary failed each node writes itself. */
export const policyPluginStatus = objectStatus
  .extend({
    canary: z
      .strictObject({
        failed: z
          .array(
            z.strictObject({
              node: z.string().max(253).describe('The name of the node.'),
              digest: z.string().max(80).describe('The digest of the module that failed: no node runs it as a canary any more.'),
              reason: reason.describe('Why.'),
            }),
          )
          .max(CANARY_FAILURES_MAX)
          .optional()
          .meta({
            description: `Nodes on which a canary failed; ${CANARY_FAILURES_MAX} of them at most.`,
            'x-kubernetes-list-type': 'map',
            'x-kubernetes-list-map-keys': ['node'],
          }),
      })
      .optional()
      .describe('How the module of spec.canary does.'),
  })
  .describe('Written by the engines: nobody else needs to.');

/** The report of one node: which version of every object it enforces, and which it does not, and why. */
export const nodeReport = z
  .object({
    engine: z.string().max(64).describe('The version of the engine.'),
    reportedAt: z.string().meta({ format: 'date-time', description: 'When this was written: it is written when it changes.' }),
    objects: z
      .string()
      .max(1024)
      .describe('A checksum for each part of the objects, by their names: of the uids and generations that are in force on the node.'),
    problem: reason.optional().describe('Why the node cannot put anything in force at the moment.'),
    failing: z
      .array(
        z.object({
          kind: z.string().max(63).describe('The kind of the object.'),
          namespace: z.string().max(63).optional().describe('Its namespace; absent for what has none.'),
          name: z.string().max(253).describe('Its name.'),
          reason: reason.describe('Why it is not in force.'),
        }),
      )
      .max(FAILING_OBJECTS_MAX)
      .optional()
      .describe(`Objects that are not in force on the node as they were meant; ${FAILING_OBJECTS_MAX} of them at most.`),
    more: count.optional().describe('Objects that are not in force either, and not named.'),
  })
  .describe('Written by the engine of the node.');
export type NodeReport = z.infer<typeof nodeReport>;
