/** Records of the container runtime as libcni writes them, and other things that may lie there. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { silentLogger } from '../../../engine/log.ts';
import { parseRecord, SandboxRecords } from '../../../engine/reconcile/sandbox-records.ts';

/** As containerd 1.6 has it written for a pod of the plugin ptp. */
const ptp = (more: object = {}) => ({
  kind: 'cniCacheV1',
  containerId: '4bcf',
  config: 'eyJuYW1lIjoicG9kcyJ9',
  ifName: 'eth0',
  networkName: 'pods',
  cniArgs: [
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAMESPACE', 'shop'],
    ['K8S_POD_NAME', 'web'],
    ['K8S_POD_INFRA_CONTAINER_ID', '4bcf'],
    ['K8S_POD_UID', 'u-1'],
  ],
  result: {
    cniVersion: '1.0.0',
    interfaces: [
      { name: 'veth1a2b3c4d', mac: '9e:f1:03:4b:ce:7b' },
      { name: 'eth0', mac: '76:90:0a:90:01:24', sandbox: '/var/run/netns/cni-1' },
    ],
    ips: [{ interface: 1, address: '10.0.0.1/24', gateway: '10.0.0.254' }],
  },
  ...more,
});
const web = { namespace: 'shop', name: 'web', uid: 'u-1', network: '/var/run/netns/cni-1', interfaces: ['veth1a2b3c4d'] };

describe('a record', () => {
  test('says the pod, its namespace and the node’s end', () => {
    expect(parseRecord(JSON.stringify(ptp()))).toEqual(web);
  });

  test.each([
    {
      name: 'takes the namespace that the runtime itself notes',
      more: { netns: '/run/netns/cni-2' },
      want: { ...web, network: '/run/netns/cni-2' },
    },
    {
      name: 'passes over the namespace of a process, whose number may be another’s',
      more: { netns: '/proc/77/ns/net' },
      want: { namespace: 'shop', name: 'web', uid: 'u-1', interfaces: ['veth1a2b3c4d'] },
    },
    {
      name: 'does without a uid and without interfaces',
      more: { cniArgs: ptp().cniArgs.slice(0, 3), result: {} },
      want: { namespace: 'shop', name: 'web', interfaces: [] },
    },
    { name: 'is none of another interface', more: { ifName: 'net1' }, want: undefined },
    { name: 'is none of no pod', more: { cniArgs: [] }, want: undefined },
    { name: 'is none of another kind', more: { kind: 'cniCacheV2' }, want: undefined },
    { name: 'has no arguments that are no pairs', more: { cniArgs: [null, 'K8S_POD_NAME', ['K8S_POD_NAME'], { 0: 1 }] }, want: undefined },
    {
      name: 'has no interfaces that are no objects',
      more: { result: { interfaces: [null, 7, 'veth', [], { name: 7 }, { name: 'veth9', sandbox: 7 }] } },
      want: { namespace: 'shop', name: 'web', uid: 'u-1', interfaces: ['veth9'] },
    },
  ])('$name', ({ more, want }) => {
    expect(parseRecord(JSON.stringify(ptp(more)))).toEqual(want);
  });

  test('that is cut anywhere, or is no JSON, is none', () => {
    const text = JSON.stringify(ptp());
    for (let length = 0; length < text.length; length++) expect(parseRecord(text.slice(0, length))).toBeUndefined();
    for (const other of ['null', '[]', '"x"', '{}', '\0']) expect(parseRecord(other)).toBeUndefined();
  });
});

describe('directories of records', () => {
  let directory: string;
  let records: SandboxRecords;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-records-'));
    records = new SandboxRecords([join(directory, 'results'), join(directory, 'nowhere')], silentLogger);
  });
  afterEach(() => {
    records.close();
    rmSync(directory, { recursive: true });
  });
  const write = (name: string, text: string): void => writeFileSync(join(directory, 'results', name), text);

  test('are read for primary interfaces; what is no file or no record is passed over', () => {
    expect(records.read()).toEqual([]);
    mkdirSync(join(directory, 'results/folder-eth0'), { recursive: true });
    write('pods-4bcf-eth0', JSON.stringify(ptp()));
    write('pods-4bcf-net1', JSON.stringify(ptp({ ifName: 'net1' })));
    write('pods-half-eth0', JSON.stringify(ptp()).slice(0, 300));
    expect(records.read()).toEqual([web]);
  });

  test('are read again where a file is another one', () => {
    mkdirSync(join(directory, 'results'));
    write('pods-4bcf-eth0', JSON.stringify(ptp()).slice(0, 10));
    expect(records.read()).toEqual([]);
    write('pods-4bcf-eth0', JSON.stringify(ptp()));
    expect(records.read()).toEqual([web]);
    write('pods-4bcf-eth0', JSON.stringify(ptp({ netns: '/run/netns/b' })));
    utimesSync(join(directory, 'results/pods-4bcf-eth0'), 1, 1);
    expect(records.read()).toMatchObject([{ network: '/run/netns/b' }]);
    rmSync(join(directory, 'results/pods-4bcf-eth0'));
    expect(records.read()).toEqual([]);
  });

  test('are not none where nobody can say which there are', () => {
    symlinkSync('loop', join(directory, 'loop'));
    expect(new SandboxRecords([join(directory, 'none')], silentLogger).read()).toEqual([]);
    expect(() => new SandboxRecords([join(directory, 'loop')], silentLogger).read()).toThrow('ELOOP');
    symlinkSync('pods-4bcf-eth0', join(directory, 'pods-4bcf-eth0'));
    expect(() => new SandboxRecords([directory], silentLogger).read()).toThrow('ELOOP');
  });

  test('tell what comes and goes, also when they are made later', async () => {
    const told = vi.fn();
    records.follow(told);
    records.read();
    mkdirSync(join(directory, 'results'));
    records.read();
    write('pods-4bcf-eth0', JSON.stringify(ptp()));
    await vi.waitFor(() => expect(told).toHaveBeenCalled());
    told.mockClear();
    rmSync(join(directory, 'results/pods-4bcf-eth0'));
    await vi.waitFor(() => expect(told).toHaveBeenCalled());
    rmSync(join(directory, 'results'), { recursive: true });
    await vi.waitFor(() => expect(records.read()).toEqual([]));
    mkdirSync(join(directory, 'results'));
    await vi.waitFor(() => {
      records.read();
      told.mockClear();
      write('pods-5-eth0', JSON.stringify(ptp()));
    });
    await vi.waitFor(() => expect(told).toHaveBeenCalled());
  });
});
