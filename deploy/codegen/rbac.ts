/** The ServiceAccount of the engines and its roles, with the reason beside each rule. */
import { CLUSTER_RIGHTS, NAMESPACE, OWN_RIGHTS, type Right } from './rights.ts';

const NAME = 'sluice';
const ROLES = 'rbac.authorization.k8s.io';

/** rbac.yaml as text. */
export function writeRbac(): string {
  return [
    `# Generated from deploy/codegen/rights.ts (npm run generate): never edited.\n${document('v1', 'Namespace', `name: ${NAMESPACE}`)}`,
    document('v1', 'ServiceAccount', `name: ${NAME}, namespace: ${NAMESPACE}`),
    `${document(`${ROLES}/v1`, 'ClusterRole', `name: ${NAME}`)}${rules(CLUSTER_RIGHTS)}`,
    `${document(`${ROLES}/v1`, 'ClusterRoleBinding', `name: ${NAME}`)}${binding('ClusterRole')}`,
    `${document(`${ROLES}/v1`, 'Role', `name: ${NAME}, namespace: ${NAMESPACE}`)}${rules(OWN_RIGHTS)}`,
    `${document(`${ROLES}/v1`, 'RoleBinding', `name: ${NAME}, namespace: ${NAMESPACE}`)}${binding('Role')}`,
  ].join('---\n');
}

function document(apiVersion: string, kind: string, metadata: string): string {
  return `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: { ${metadata} }\n`;
}

function rules(rights: readonly Right[]): string {
  return `rules:\n${rights.map(rule).join('')}`;
}

function rule({ group, resource, names, verbs, why }: Right): string {
  const named = names ? `, resourceNames: [${names.join(', ')}]` : '';
  return `# ${why}\n- { apiGroups: ["${group}"], resources: [${resource}]${named}, verbs: [${verbs.join(', ')}] }\n`;
}

function binding(kind: string): string {
  return `roleRef: { apiGroup: ${ROLES}, kind: ${kind}, name: ${NAME} }\nsubjects:\n- { kind: ServiceAccount, name: ${NAME}, namespace: ${NAMESPACE} }\n`;
}
