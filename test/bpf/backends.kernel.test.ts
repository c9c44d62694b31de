/** The backend that the kernel chooses where nobody decides about requests, through test-run: only one that policy lets the pod reach. */
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { Reason, Verdict } from '../../engine/abi.gen.ts';
import { compiled, snapshotOf } from '../support/compiled.ts';
import { CHECKOUT, SERVICES, tag } from '../support/http-cluster.ts';
import { frame, ipv4, tcp } from '../support/packets.ts';

const pod = (name: string, ip: string, labels: string): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: ${labels}, annotations: { sluice.dev/interface: lo } }\nspec: { containers: [{ name: a, ports: [{ name: web, containerPort: 8080 }] }] }\nstatus: { podIPs: [{ ip: ${ip} }] }\n`;
const PODS = [pod('client', '10.0.0.1', '{ app: client }'), pod('v1', '10.0.0.2', '{ app: checkout, version: v1 }')].join('---\n');
const PLUGINS = new Map([
  ['canary', 7],
  ['guard', 8],
]);
const denied = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: shut, namespace: shop }
spec: { podSelector: {}, policyTypes: [Egress] }
`;

describe.skipIf(inject('missing'))('backends that the kernel chooses', async () => {
  const { ProgramRunner, PASS } = await import('../support/program-runner.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;
  beforeAll(async () => {
    runner = await ProgramRunner.load();
  });
  afterAll(() => runner?.remove());
  beforeEach(() => {
    for (const id of PLUGINS.values()) runner.plugin(id, Verdict.ALLOW);
  });

  /** The reasons for what becomes of a connection to the Service, whose plugin is not there and lets pass what it cannot decide. */
  const open = (...policies: string[]): { outcome: number; reasons: number[] } => load(tag('canary'), ...policies);
  const load = (...policies: string[]): { outcome: number; reasons: number[] } => {
    const compiler = compiled(snapshotOf([PODS, SERVICES, ...policies].join('---\n')), PLUGINS);
    runner.load(compiler);
    runner.attach(compiler, 'shop/client');
    runner.forget();
    return runner.run('from_pod', frame(ipv4({ from: '10.0.0.1', to: CHECKOUT }, tcp({ dport: 80 }))));
  };

  test('one that policy allows', () => {
    expect(open()).toMatchObject({ outcome: PASS, reasons: expect.arrayContaining([Reason.PASS_FAILURE_POLICY]) });
  });

  test('none that policy denies', () => {
    expect(open(denied).reasons).toContain(Reason.DROP_NO_BACKEND);
  });

  test('none whose requests another rule has decided: a Service in front of it is no way round its plugin', () => {
    const pods = '[{ podSelector: { matchLabels: { app: checkout } } }]';
    expect(open(tag('guard', pods)).reasons).toContain(Reason.DROP_NO_BACKEND);
  });

  test('one whose requests a rule beside it would have decided by the same plugin', () => {
    const also = (ask: string): string =>
      tag('canary').replace(
        'egress:',
        `egress:\n    - { to: [{ podSelector: { matchLabels: { app: checkout } } }], ask: { plugin: ${ask} } }`,
      );
    expect(load(also('canary, context: http'))).toMatchObject({
      outcome: PASS,
      reasons: expect.arrayContaining([Reason.PASS_FAILURE_POLICY]),
    });
    // In another context that plugin decides about other things.
    expect(load(also('canary')).reasons).toContain(Reason.DROP_NO_BACKEND);
  });
});
