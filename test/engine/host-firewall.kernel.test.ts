/** The host firewall: off by itself, in force at once, and gone again unless somebody confirms it, engine or no engine. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { TestCgroup } from '../support/cgroup.ts';
import { webPod, withAddresses } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const CONFIRM_MS = 3000;

describe.skipIf(inject('missing'))('host firewall', () => {
  const node = new TestNode();
  const cgroup = new TestCgroup('host');
  const [web, db] = ['10.88.0.1', '10.88.0.2'];
  const flags = ['--host-firewall', cgroup.name, '--confirm-timeout', `${CONFIRM_MS}ms`, '--node-name', 'this'];
  /** Egress to one address only. */
  const only = (address: string): string => `apiVersion: sluice.dev/v1alpha1
kind: HostPolicy
metadata: { name: egress }
spec: { policyTypes: [Egress], egress: [{ to: [{ ipBlock: { cidr: ${address}/32 } }] }] }
`;

  beforeAll(async () => {
    await node.lab(withAddresses(webPod('shop', 'web'), web) + withAddresses(webPod('shop', 'db'), db));
  });
  afterAll(async () => {
    await node.remove();
    await until(
      () => cgroup.tryRemove(),
      5000,
      () => 'cgroup still in use',
    );
  });

  /** 0: connected. 7: refused at once. */
  const curl = async (address: string): Promise<number> =>
    (await node.run(...cgroup.enter('curl', '-gs', '-m', '2', '-o', '/dev/null', `http://${address}/`))).code;
  const state = async (): Promise<string> =>
    (JSON.parse((await node.sluiceOk('host', 'status', '-o', 'json')).stdout) as { state: string }).state;

  test('is off without the flag, and says so where a HostPolicy wants it', async () => {
    node.write('host.yaml', only(web));
    const engine = await node.engine();
    expect((await node.sluice('wait', '--timeout', '5s')).stderr).toContain('the host firewall is off');
    expect([await curl(web), await curl(db)]).toEqual([0, 0]);
    expect(await state()).toBe('off');
    node.delete('host.yaml');
    await engine.stop();
  });

  test('holds a change until it is confirmed, and then for good', async () => {
    await node.engine(...flags);
    expect(await state()).toBe('confirmed');
    node.write('host.yaml', only(web));
    await node.apply();
    expect([await curl(web), await curl(db)]).toEqual([0, 7]);
    expect(await state()).toBe('pending');
    expect((await node.sluiceOk('host', 'confirm')).stdout).toContain('confirmed');
    await new Promise((resolve) => setTimeout(resolve, CONFIRM_MS + 500));
    expect([await curl(web), await curl(db)]).toEqual([0, 7]);
    expect((await node.sluice('host', 'confirm')).stderr).toContain('no change is pending');
  });

  test('goes back to what was confirmed when nobody confirms, says so, and can be tried again', async () => {
    node.write('host.yaml', only(db));
    await node.apply();
    expect([await curl(web), await curl(db)]).toEqual([7, 0]);
    await until(async () => (await state()) === 'lapsed', CONFIRM_MS + 3000);
    expect([await curl(web), await curl(db)]).toEqual([0, 7]);
    expect((await node.sluice('wait', '--timeout', '5s')).stderr).toContain('was not confirmed in time');
    await node.sluiceOk('host', 'retry');
    expect([await curl(web), await curl(db)]).toEqual([7, 0]);
    await until(async () => (await state()) === 'lapsed', CONFIRM_MS + 3000);
  });

  test('a HostPolicy that is not valid changes nothing', async () => {
    node.write('host.yaml', only(db).replace('/32', '/99'));
    const { stderr } = await node.sluice('wait', '--timeout', '5s');
    expect(stderr).toContain('is not a CIDR');
    expect(stderr).toContain('what was in force for the host stays');
    expect([await curl(web), await curl(db)]).toEqual([0, 7]);
  });

  test('a HostPolicy for other nodes is none here; one for nodes like this needs its Node', async () => {
    const chosen = (zone: string): string => only(web).replace('spec: {', `spec: { nodeSelector: { matchLabels: { zone: ${zone} } },`);
    node.write('host.yaml', chosen('a'));
    expect((await node.sluice('wait', '--timeout', '5s')).stderr).toContain('nobody has told the labels of this node');
    expect([await curl(web), await curl(db)]).toEqual([0, 7]);
    node.write('node.yaml', 'apiVersion: v1\nkind: Node\nmetadata: { name: this, labels: { zone: b } }\n');
    await node.apply();
    expect([await curl(web), await curl(db)]).toEqual([0, 0]);
    node.write('node.yaml', 'apiVersion: v1\nkind: Node\nmetadata: { name: this, labels: { zone: a } }\n');
    await node.apply();
    expect([await curl(web), await curl(db)]).toEqual([0, 7]);
    node.write('host.yaml', only(web));
    await node.apply();
    await node.sluice('host', 'confirm');
  });

  test('the kernel goes back by itself when the engine is killed before the confirmation', async () => {
    node.write('host.yaml', only('192.0.2.1'));
    await node.apply();
    await node.stopEngines('SIGKILL');
    expect([await curl(web), await curl(db)]).toEqual([7, 7]);
    await until(async () => (await curl(web)) === 0, CONFIRM_MS + 3000);
    expect(await curl(db)).toBe(7);
  });

  test('an engine that starts anew knows what was confirmed, and that the rest lapsed', async () => {
    await node.engine(...flags);
    await until(async () => (await state()) === 'lapsed', 3000);
    expect([await curl(web), await curl(db)]).toEqual([0, 7]);
    node.write('host.yaml', only(web));
    await node.apply();
    expect(await state()).toBe('confirmed');
  });
});
