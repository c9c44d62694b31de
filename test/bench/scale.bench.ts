/**
 * What does a large cluster cost the compiler: 100,000 pods with 5,000 distinct label sets and 10,000 policies, on a node with
 * 200 endpoints? At once, and for each small change after that.
 *
 * In memory, without kernel and files. Run with `npm run bench scale`; --pods, --policies, --labels and --endpoints change it.
 */

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { Direction } from '../../engine/abi.gen.ts';
import { parseAddress, parseNetwork } from '../../engine/policy/address.ts';
import { Compiler } from '../../engine/policy/compile.ts';
import { objectName } from '../../engine/policy/object-name.ts';
import type { ObjectChange, Peer, Pod, Policy } from '../../engine/policy/objects.ts';

const { values: options } = parseArgs({
  options: {
    pods: { type: 'string', default: '100000' },
    policies: { type: 'string', default: '10000' },
    labels: { type: 'string', default: '5000' },
    endpoints: { type: 'string', default: '200' },
  },
});
const PODS = Number(options.pods);
const POLICIES = Number(options.policies);
const LABELS = Number(options.labels);
const ENDPOINTS = Number(options.endpoints);
const NAMESPACES = 100;
const CHANGES = 51;

function pod(i: number, labels: number = i % LABELS): Pod {
  return {
    namespace: `ns${labels % NAMESPACES}`,
    name: `pod${i}`,
    labels: new Map([
      ['app', `app${labels}`],
      ['tier', `tier${labels % 7}`],
    ]),
    addresses: [
      parseAddress(`10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`) as Uint8Array,
      parseAddress(`fd00::${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}`) as Uint8Array,
    ],
    ports: [{ name: 'web', protocol: 6, port: 8080 }],
    hostNetwork: false,
    ended: false,
    ...(i < ENDPOINTS && { interface: `i${i}` }),
  };
}

/** A policy of its namespace: pods of one label there, of another namespace, and a network. */
function policy(i: number, port = 80): Policy {
  const app = i % LABELS;
  const within = (key: string, value: string) => [{ key, operator: 'In' as const, values: [value] }];
  const peers: Peer[] = [
    { kind: 'pods', namespaces: 'own', pods: within('tier', `tier${i % 7}`) },
    { kind: 'pods', namespaces: within('kubernetes.io/metadata.name', `ns${(i + 1) % NAMESPACES}`), pods: [] },
    { kind: 'network', network: parseNetwork(`192.168.${(i >> 4) & 255}.0/${20 + (i % 10)}`) as never, except: [] },
  ];
  return {
    namespace: `ns${app % NAMESPACES}`,
    name: `policy${i}`,
    selector: within('app', `app${app}`),
    rules: {
      [Direction.INGRESS]: [{ peers, ports: [{ protocol: 6, first: port, last: port }] }],
      [Direction.EGRESS]: [{ peers: peers.slice(0, 2) }, { ports: [{ protocol: 17, first: 53, last: 53 }] }],
    },
  };
}

function podChange(i: number, labels: number = i % LABELS): ObjectChange {
  const value = pod(i, labels);
  return { kind: 'Pod', key: objectName(value), value };
}

function policyChange(i: number, port = 80): ObjectChange {
  const value = policy(i, port);
  return { kind: 'NetworkPolicy', key: objectName(value), value };
}

function namespaceChange(i: number, labels: readonly (readonly [string, string])[] = []): ObjectChange {
  const name = `ns${i % NAMESPACES}`;
  return {
    kind: 'Namespace',
    key: objectName({ name }),
    value: { name, labels: new Map([['kubernetes.io/metadata.name', name], ...labels]) },
  };
}

function everything(): ObjectChange[] {
  return [
    ...Array.from({ length: NAMESPACES }, (_, i) => namespaceChange(i)),
    ...Array.from({ length: PODS }, (_, i) => podChange(i)),
    ...Array.from({ length: POLICIES }, (_, i) => policyChange(i)),
  ];
}

const MAPS = ['peers', 'networks', 'policies', 'ports'] as const;

function clear(compiler: Compiler): number {
  const touched = MAPS.reduce((sum, map) => sum + compiler[map].touched.size, 0);
  for (const map of MAPS) compiler[map].touched.clear();
  return touched;
}

function memoryMiB(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed / 2 ** 20 + process.memoryUsage().external / 2 ** 20;
}

const first = everything();
const before = memoryMiB();
const started = performance.now();
const compiler = new Compiler();
compiler.update(first, new Map(), []);
compiler.retire();
const wholeMs = performance.now() - started;
clear(compiler);
const after = memoryMiB();
console.log(`${cpus()[0]?.model}, ${cpus().length} cores`);
console.log(
  `${PODS} pods, ${LABELS} label sets, ${POLICIES} policies, ${ENDPOINTS} endpoints here: compiled in ${wholeMs.toFixed(0)} ms, ${(after - before).toFixed(0)} MiB`,
);
console.log(
  `${compiler.identities.size} identities, ${compiler.ruleSetCount} rule sets; entries: ${MAPS.map((map) => `${map} ${compiler[map].entries.size}`).join(', ')}\n`,
);

/** The endpoint `i` with other labels is another pod: its namespace follows its labels. */
const relabelled = (i: number, before: number, after: number): ObjectChange[] => {
  const gone: ObjectChange = { kind: 'Pod', key: objectName(pod(i, before)), value: undefined };
  return [gone, podChange(i, after)];
};
const CASES: readonly { name: string; change: (i: number) => ObjectChange[] }[] = [
  { name: 'a pod elsewhere is added', change: (i) => [podChange(PODS + 1000 + i, i % LABELS)] },
  {
    name: 'a pod elsewhere is removed',
    change: (i) => [{ kind: 'Pod', key: objectName(pod(PODS + 1000 + i, i % LABELS)), value: undefined }],
  },
  { name: 'a pod elsewhere with labels nobody had', change: (i) => [podChange(PODS + 5000 + i, LABELS + i)] },
  { name: 'a pod elsewhere gets other labels', change: (i) => relabelled(50_000 + i, (50_000 + i) % LABELS, (i * 7) % LABELS) },
  { name: 'an endpoint here gets other labels', change: (i) => relabelled(i, i % LABELS, (i * 11 + 3) % LABELS) },
  { name: 'a policy of a pod here changes', change: (i) => [policyChange(i % ENDPOINTS, 81 + i)] },
  { name: 'a policy of no pod here changes', change: (i) => [policyChange(3000 + i, 81 + i)] },
  { name: 'a namespace gets another label', change: (i) => [namespaceChange(i, [['turn', String(i)]])] },
];
const table = new Table({ head: ['', 'p50 ms', 'max ms', 'entries written'], style: { head: [], border: [], compact: true } });
for (const { name, change } of CASES) {
  const times: number[] = [];
  let entries = 0;
  for (let i = 0; i < CHANGES; i++) {
    const changes = change(i);
    const begin = performance.now();
    compiler.update(changes, new Map(), []);
    compiler.retire();
    times.push(performance.now() - begin);
    entries += clear(compiler);
  }
  times.sort((a, b) => a - b);
  table.push([name, (times[CHANGES >> 1] as number).toFixed(2), (times.at(-1) as number).toFixed(2), (entries / CHANGES).toFixed(1)]);
}
console.log(table.toString());
