/** The verdict cache in the kernel: a verdict answers what its scope says, until its time is over, for its own version only. */
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import {
  askCodec,
  Direction,
  Identity,
  PluginStatus,
  pluginStateCodec,
  Reason,
  Scope,
  Verdict,
  verdictEntryCodec,
  verdictKeyCodec,
} from '../../engine/abi.gen.ts';
import { createSharedMemory } from '../../engine/flow/shared-memory.ts';
import { VerdictWriter } from '../../engine/flow/verdict-writer.ts';
import { parseAddress } from '../../engine/policy/address.ts';
import { compiled, snapshotOf } from '../support/compiled.ts';
import { frame, ipv4, tcp, udp } from '../support/packets.ts';

const PLUGIN = 7;
const EPOCH = 3;
const ALL = Scope.FLOW | Scope.ADDRESS | Scope.IDENTITY;
const NOTHING = [Reason.DROP_FAILURE_POLICY, Reason.FAIL_ENGINE_ABSENT];

const CLUSTER = `
apiVersion: v1
kind: Pod
metadata: { name: pod, namespace: default, labels: { app: pod }, annotations: { sluice.dev/interface: lo } }
spec: {}
status: { podIPs: [{ ip: 10.0.0.1 }] }
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ask, namespace: default }
spec: { podSelector: {}, egress: [{ ask: { plugin: p } }] }
`;

describe.skipIf(inject('missing'))('the verdict cache', async () => {
  const { ProgramRunner } = await import('../support/program-runner.ts');
  const { kernelNowNs } = await import('../../engine/kernel/native.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;
  let identity = 0;
  beforeAll(async () => {
    runner = await ProgramRunner.load();
    const compiler = compiled(snapshotOf(CLUSTER), new Map([['p', PLUGIN]]));
    runner.load(compiler);
    runner.attach(compiler, 'default/pod');
    identity = [...compiler.endpoints.values()][0]?.identity ?? 0;
  });
  afterAll(() => runner?.remove());
  beforeEach(() => {
    runner.forget();
    const { verdicts } = runner.datapath.maps;
    verdicts.delete(verdicts.dump().keys());
    state({});
  });

  const state = (fields: { scopes?: number; status?: PluginStatus; epoch?: number }): void => {
    const [key, value] = [Buffer.alloc(4), Buffer.alloc(pluginStateCodec.size)];
    key.writeUInt32LE(PLUGIN);
    const all = { name: 1n, module: 1n, epoch: EPOCH, failure: Verdict.DENY, status: PluginStatus.ON, scopes: ALL, ...fields };
    pluginStateCodec.write(value, 0, all);
    runner.datapath.maps.plugins.update(new Map([[key.toString('latin1'), value]]));
  };

  /** Writes what an engine would for the flow 10.0.0.1:40000 → 10.0.0.9:80. */
  const write = (scope: Scope, { allowed = true, ttlMs = 60_000, epoch = EPOCH, agoMs = 0 } = {}): void => {
    const memory = createSharedMemory();
    const ask = Buffer.from(memory.batch);
    const at = askCodec.offsets;
    ask.set(parseAddress('10.0.0.1') as Uint8Array, at.source);
    ask.set(parseAddress('10.0.0.9') as Uint8Array, at.destination);
    ask.writeUInt32LE(identity, at.sourceIdentity);
    ask.writeUInt32LE(Identity.WORLD, at.destinationIdentity);
    ask.writeUInt16BE(40_000, at.sourcePort);
    ask.writeUInt16BE(80, at.destinationPort);
    ask.writeUInt8(6, at.protocol);
    ask.writeUInt8(Direction.EGRESS, at.direction);
    new VerdictWriter(memory).write(0, 0, { id: PLUGIN, epoch }, { allowed, scope, ttlMs }, kernelNowNs() - BigInt(agoMs) * 1_000_000n);
    const key = Buffer.from(memory.verdictKeys).toString('latin1', 0, verdictKeyCodec.size);
    runner.datapath.maps.verdicts.update(new Map([[key, Buffer.from(memory.verdictValues).subarray(0, verdictEntryCodec.size)]]));
  };
  const send = ({ to = '10.0.0.9', sport = 40_000, dport = 80, protocol = tcp } = {}): number[] => {
    runner.forget();
    return runner.run('from_pod', frame(ipv4({ from: '10.0.0.1', to }, protocol({ sport, dport })))).reasons.sort((a, b) => a - b);
  };

  test('has no answer at first', () => {
    expect(send()).toEqual(NOTHING);
  });

  test.each([
    { scope: Scope.FLOW, name: 'flow', port: false, address: false },
    { scope: Scope.ADDRESS, name: 'address', port: true, address: false },
    { scope: Scope.IDENTITY, name: 'identity', port: true, address: true },
  ])(
    'of scope $name answers its flow; another source port: $port, another address: $address; never another port or protocol',
    ({ scope, port, address }) => {
      for (const [allowed, reason] of [
        [true, Reason.PASS_VERDICT],
        [false, Reason.DROP_VERDICT],
      ] as const) {
        write(scope, { allowed });
        expect(send()).toEqual([reason]);
        expect(send({ sport: 40_001 })).toEqual(port ? [reason] : NOTHING);
        expect(send({ to: '10.0.0.8' })).toEqual(address ? [reason] : NOTHING);
        expect(send({ dport: 81 })).toEqual(NOTHING);
        expect(send({ protocol: udp })).toEqual(NOTHING);
      }
    },
  );

  test('answers nothing once its time is over', () => {
    write(Scope.IDENTITY, { ttlMs: 1000, agoMs: 900 });
    expect(send()).toEqual([Reason.PASS_VERDICT]);
    write(Scope.IDENTITY, { ttlMs: 1000, agoMs: 1100 });
    expect(send()).toEqual(NOTHING);
  });

  test('answers nothing for another version of the plugin, newer or older', () => {
    write(Scope.IDENTITY, { epoch: EPOCH - 1 });
    expect(send()).toEqual(NOTHING);
    write(Scope.IDENTITY);
    state({ epoch: EPOCH + 1 });
    expect(send()).toEqual(NOTHING);
    state({ epoch: EPOCH });
    expect(send()).toEqual([Reason.PASS_VERDICT]);
  });

  test('for one connection answers once, and is no hit', () => {
    const hits = runner.datapath.readVerdictHits().get(PLUGIN) ?? 0;
    write(Scope.NONE);
    expect(send()).toEqual([Reason.PASS_VERDICT]);
    expect(send()).toEqual(NOTHING);
    expect(runner.datapath.readVerdictHits().get(PLUGIN) ?? 0).toBe(hits);
  });

  test('the narrower verdict goes before the wider one, and hits are counted by plugin', () => {
    const hits = runner.datapath.readVerdictHits().get(PLUGIN) ?? 0;
    write(Scope.IDENTITY);
    write(Scope.FLOW, { allowed: false });
    expect(send()).toEqual([Reason.DROP_VERDICT]);
    expect(send({ sport: 40_001 })).toEqual([Reason.PASS_VERDICT]);
    expect(runner.datapath.readVerdictHits().get(PLUGIN)).toBe(hits + 2);
  });

  test('looks for the scopes only that the plugin’s verdicts can have', () => {
    write(Scope.IDENTITY);
    state({ scopes: Scope.FLOW });
    expect(send()).toEqual(NOTHING);
  });
});
