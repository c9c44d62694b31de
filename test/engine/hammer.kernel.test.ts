/**
 * Policy changes under fire: one flow that every policy allows and one that none does, tried all the time while thousands of
 * objects change around them and under them. No packet may meet a wrong verdict.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { barePod, withAddresses } from '../support/cluster.ts';
import { TestNode } from '../support/test-node.ts';

const ROUNDS = 300;
const UNRELATED = 12;

/** Answers every datagram. */
const ECHO = `
const socket = require('dgram').createSocket('udp4');
socket.on('message', (message, { port, address }) => socket.send(message, port, address)).bind(5353, () => console.log('ready'));
`;

/** Sends each datagram as a flow of its own, some a millisecond; says on SIGTERM how many were sent and answered. */
const CLIENT = `
const dgram = require('dgram');
let sent = 0, answered = 0, stop = false;
function tick() {
  if (stop) return;
  for (let i = 0; i < 3; i++) {
    const socket = dgram.createSocket('udp4');
    socket.on('message', () => { answered++; socket.close(); });
    socket.on('error', () => socket.close());
    setTimeout(() => { try { socket.close(); } catch {} }, 400);
    socket.send('x', 5353, process.argv[1]);
    sent++;
  }
  setTimeout(tick, 2);
}
process.on('SIGTERM', () => { stop = true; setTimeout(() => { console.log(JSON.stringify({ sent, answered })); process.exit(0); }, 600); });
tick();
console.log('ready');
`;

describe.skipIf(inject('missing'))('changes under fire', () => {
  const node = new TestNode();
  let podFile = '';
  let podText = '';
  const [web, db, evil] = ['10.88.0.1', '10.88.0.2', '10.88.0.3'];

  beforeAll(async () => {
    const pods = Object.entries({ web, db, evil });
    await node.lab(pods.map(([name, address]) => withAddresses(barePod('shop', name), address)).join(''));
    podFile = readdirSync(node.source).find((file) => readFileSync(join(node.source, file), 'utf8').includes('evil')) as string;
    podText = readFileSync(join(node.source, podFile), 'utf8');
    await node.engine('--log-level', 'warn');
  }, 60_000);
  afterAll(() => node.remove());

  const np = (name: string, spec: string): string =>
    `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: ${spec}\n---\n`;
  const cnp = (name: string, priority: number, tier: string, rest: string): string =>
    `apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: { name: ${name} }\nspec: { tier: ${tier}, priority: ${priority}, subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: db } } } }, ${rest} }\n---\n`;
  const toDb = 'podSelector: { matchLabels: { app: db } }';
  const udp = 'ports: [{ port: 5353, protocol: UDP }]';
  const podsOf = (app: string): string => `{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: ${app} } } } }`;

  /** Ways of saying the same about the two flows. */
  const VARIANTS: readonly string[] = [
    np('a', `{ ${toDb}, ingress: [{ from: [{ podSelector: { matchLabels: { app: web } } }], ${udp} }] }`),
    np('a', `{ ${toDb}, ingress: [{ from: [{ ipBlock: { cidr: ${web}/32 } }], ${udp} }] }`),
    np('a', `{ ${toDb}, ingress: [{ from: [{ ipBlock: { cidr: 10.88.0.0/16, except: [${evil}/32] } }], ${udp} }] }`),
    np(
      'a',
      `{ ${toDb}, ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/8, except: [10.88.0.2/31] } }, { ipBlock: { cidr: ${web}/31 } }], ports: [{ protocol: UDP, port: 5000, endPort: 6000 }] }] }`,
    ),
    np('a', `{ ${toDb} }`) +
      np(
        'b',
        `{ podSelector: {}, ingress: [{ from: [{ podSelector: { matchExpressions: [{ key: app, operator: NotIn, values: [evil] }] } }] }] }`,
      ),
    np('a', `{ ${toDb} }`) +
      cnp(
        'admin',
        5,
        'Admin',
        `ingress: [{ action: Accept, from: [${podsOf('web')}], protocols: [{ udp: { destinationPort: { range: { start: 1, end: 65535 } } } }] }]`,
      ),
    np('b', `{ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }`) +
      cnp('admin', 5, 'Admin', `ingress: [{ action: Deny, from: [${podsOf('evil')}] }, { action: Pass, from: [{ namespaces: {} }] }]`),
    cnp('base', 5, 'Baseline', `ingress: [{ action: Accept, from: [${podsOf('web')}] }, { action: Deny, from: [{ namespaces: {} }] }]`),
  ];

  let state = 20_26;
  const random = (below: number): number => (state = (state * 48_271) % 0x7fffffff) % below;

  /** Policies about other ports, from networks that lie around, beside and inside those above. */
  function unrelated(): string {
    const networks = ['10.88.0.0/30', '10.88.0.0/24', `${evil}/32`, `${web}/32`, '10.0.0.0/7', '0.0.0.0/0', '10.88.0.3/31'];
    return Array.from({ length: random(UNRELATED) }, (_, i) => {
      const cidr = networks[random(networks.length)];
      const port = 7000 + random(50);
      return np(
        `other${i}`,
        `{ ${toDb}, ingress: [{ from: [{ ipBlock: { cidr: ${cidr} } }], ports: [{ port: ${port} }, { port: ${port + 100}, protocol: UDP }, { port: ${port + 200}, endPort: ${port + 220} }] }] }`,
      );
    }).join('');
  }

  test(`${ROUNDS} rounds of changes: no packet meets a wrong verdict`, async () => {
    node.write('policy.yaml', VARIANTS[0] as string);
    await node.apply();
    const echo = node.start('shop/db', process.execPath, '-e', ECHO);
    await ready(echo);
    const clients = ['shop/web', 'shop/evil'].map((pod) => node.start(pod, process.execPath, '-e', CLIENT, db));
    await Promise.all(clients.map(ready));
    const results = clients.map(output);

    let variant = 0;
    for (let round = 0; round < ROUNDS; round++) {
      if (random(2)) variant = random(VARIANTS.length);
      // A NetworkPolicy about other ports would isolate too, and nobody would ask the baseline.
      const more = VARIANTS[variant]?.includes('Baseline') ? '' : unrelated();
      node.write('policy.yaml', `${VARIANTS[variant]}${more}`);
      // Who is asked about changes too: labels that no policy names.
      if (!random(3)) node.write(podFile, podText.replaceAll(/(app: (web|evil|db))/g, `$1\n    turn: t${random(5)}`));
      const status = await node.api<{ problems: unknown[] }>('/v1/reconcile', '-X', 'POST');
      expect(status.problems, `round ${round}`).toEqual([]);
    }
    for (const client of clients) client.kill('SIGTERM');
    const [allowed, denied] = (await Promise.all(results)).map(
      (text) => JSON.parse(text.trim().split('\n').at(-1) as string) as { sent: number; answered: number },
    );
    console.log(`${allowed?.sent} flows allowed, ${denied?.sent} denied, over ${ROUNDS} rounds`);
    expect(allowed?.sent).toBeGreaterThan(3000);
    expect(allowed?.answered).toBe(allowed?.sent);
    expect(denied?.sent).toBeGreaterThan(3000);
    expect(denied?.answered).toBe(0);
  }, 120_000);
});

type Child = ReturnType<TestNode['start']>;

function ready(child: Child): Promise<void> {
  return new Promise((resolve) => child.stdout?.once('data', () => resolve()));
}

/** All that it prints until it ends. */
function output(child: Child): Promise<string> {
  let text = '';
  child.stdout?.on('data', (chunk) => (text += chunk));
  return new Promise((resolve) => child.once('exit', () => resolve(text)));
}
