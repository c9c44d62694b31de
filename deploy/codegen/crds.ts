/** Our kinds as CustomResourceDefinitions: their names, scopes and columns; what is in them the schemas of the engine say. */
import { stringify } from 'yaml';
import type { z } from 'zod';
import { pluginPolicySpec, policyPluginSpec } from '../../engine/sources/plugin-schema.ts';
import { hostPolicySpec } from '../../engine/sources/schema.ts';
import { nodeReport, objectStatus, policyPluginStatus } from '../../engine/status/status-schema.ts';
import { type Structural, structural } from './structural.ts';

interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly jsonPath: string;
  readonly description?: string;
  /** Above 0: only `kubectl get -o wide` shows it. */
  readonly priority?: number;
}

interface OwnKind {
  readonly kind: string;
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly scope: 'Namespaced' | 'Cluster';
  readonly description: string;
  /** The fields beside metadata. */
  readonly fields: Readonly<Record<string, z.ZodType>>;
  readonly columns: readonly Column[];
}

const GROUP = 'sluice.dev';
const VERSION = 'v1alpha1';

const conditionColumn = (type: string): Column => ({
  name: type,
  type: 'string',
  jsonPath: `.status.conditions[?(@.type=="${type}")].status`,
});
const messageColumn: Column = {
  name: 'Message',
  type: 'string',
  jsonPath: '.status.conditions[?(@.status!="True")].message',
  priority: 1,
};
const AGE: Column = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };
const statusColumns: readonly Column[] = [
  conditionColumn('Accepted'),
  conditionColumn('Programmed'),
  { name: 'Ready', type: 'integer', jsonPath: '.status.nodes.ready', description: 'Nodes on which it is in force.' },
  { name: 'Nodes', type: 'integer', jsonPath: '.status.nodes.total', description: 'Nodes that run an engine.' },
  AGE,
  messageColumn,
];

const OWN_KINDS: readonly OwnKind[] = [
  {
    kind: 'PluginPolicy',
    plural: 'pluginpolicies',
    shortNames: ['plp'],
    scope: 'Namespaced',
    description: 'Which flows of pods are decided by plugins, or by the server name that a client of TLS asks for.',
    fields: { spec: pluginPolicySpec, status: objectStatus },
    columns: statusColumns,
  },
  {
    kind: 'PolicyPlugin',
    plural: 'policyplugins',
    shortNames: ['ppl'],
    scope: 'Cluster',
    description: 'A WebAssembly plugin that decides flows, and how to treat it.',
    fields: { spec: policyPluginSpec, status: policyPluginStatus },
    columns: [
      { name: 'Mode', type: 'string', jsonPath: '.spec.mode' },
      {
        name: 'Canary',
        type: 'string',
        jsonPath: '.spec.canary.nodes',
        description: 'The share of the nodes that try another module.',
        priority: 1,
      },
      { name: 'Canary failed on', type: 'string', jsonPath: '.status.canary.failed[*].node', priority: 1 },
      { name: 'On failure', type: 'string', jsonPath: '.spec.failurePolicy', description: 'The fate of flows that nobody can decide.' },
      ...statusColumns,
    ],
  },
  {
    kind: 'HostPolicy',
    plural: 'hostpolicies',
    shortNames: ['hpol'],
    scope: 'Cluster',
    description: 'A policy for the processes of the nodes themselves.',
    fields: { spec: hostPolicySpec, status: objectStatus },
    columns: statusColumns,
  },
  {
    kind: 'NodeReport',
    plural: 'nodereports',
    shortNames: [],
    scope: 'Cluster',
    description:
      'The report of the engine of one node, whose name it has: which objects are in force there. The status of all others is made of these.',
    fields: { report: nodeReport },
    columns: [
      { name: 'Engine', type: 'string', jsonPath: '.report.engine' },
      { name: 'Reported', type: 'date', jsonPath: '.report.reportedAt' },
      { name: 'Problem', type: 'string', jsonPath: '.report.problem' },
    ],
  },
];

/** The definitions as texts, by their files' names. */
export function writeCrds(): Map<string, string> {
  return new Map(
    OWN_KINDS.map((own) => [
      `${own.plural}.yaml`,
      `# Generated from the schemas of engine/sources/ and engine/status/ (npm run generate): never edited.\n${stringify(definition(own), { lineWidth: 0, aliasDuplicateObjects: false })}`,
    ]),
  );
}

/** The schema of an object, by its kind. */
export function schemaOf(kind: string): Structural {
  const own = OWN_KINDS.find((each) => each.kind === kind);
  if (!own) throw new Error(`Cannot write a schema of ${kind}: it is no kind of ours`);
  return {
    type: 'object',
    description: own.description,
    required: Object.keys(own.fields).filter((field) => field !== 'status'),
    properties: {
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: { type: 'object' },
      ...Object.fromEntries(Object.entries(own.fields).map(([name, schema]) => [name, structural(schema)])),
    },
  };
}

function definition(own: OwnKind): object {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${own.plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: own.scope,
      names: {
        kind: own.kind,
        listKind: `${own.kind}List`,
        plural: own.plural,
        singular: own.kind.toLowerCase(),
        ...(own.shortNames.length && { shortNames: own.shortNames }),
        categories: ['sluice'],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          ...('status' in own.fields && { subresources: { status: {} } }),
          additionalPrinterColumns: own.columns,
          schema: { openAPIV3Schema: schemaOf(own.kind) },
        },
      ],
    },
  };
}
