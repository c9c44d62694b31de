/** The lab: pods come up from plain manifests, and everything goes away again, also after a crash. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { webPod } from '../support/cluster.ts';
import { TestNode } from '../support/test-node.ts';

describe.skipIf(inject('missing'))('lab', () => {
  let node: TestNode;
  beforeAll(async () => {
    node = new TestNode();
    await node.lab(
      `apiVersion: v1\nkind: List\nitems:\n- { apiVersion: v1, kind: Namespace, metadata: { name: shop } }\n---\n${webPod('shop', 'web', [80])}apiVersion: v1
kind: Pod
metadata: { name: runner }
spec: { containers: [{ name: c, command: [sleep, "1000"] }] }
`,
    );
  });
  afterAll(() => node?.remove());

  const namespaces = (): string[] => readdirSync('/run/netns').filter((name) => name.startsWith(`sluice.${node.name}.`));

  test('writes a source with what a node fills in', () => {
    const objects = parseAllDocuments(readFileSync(join(node.source, 'cluster.yaml'), 'utf8')).map((document) => document.toJS());
    expect(objects.map((object) => object.kind)).toEqual(['Namespace', 'Pod', 'Pod']);
    expect(objects[1]).toMatchObject({
      metadata: { annotations: { 'sluice.dev/interface': expect.stringMatching(/^sl[0-9a-f]{10}$/) } },
      status: { podIPs: [{ ip: expect.stringMatching(/^10\./) }, { ip: expect.stringMatching(/^fd/) }] },
    });
  });

  test('exec runs a command in the pod, passes its output and its exit code on', async () => {
    expect((await node.sluiceOk('lab', 'exec', 'web', '--name', node.name, '--', 'curl', '-s', 'http://127.0.0.1')).stdout).toBe(
      'web asked by 127.0.0.1\n',
    );
    expect((await node.sluice('lab', 'exec', 'default/runner', '--name', node.name, '--', 'sh', '-c', 'exit 7')).code).toBe(7);
    expect((await node.sluice('lab', 'exec', 'nobody', '--name', node.name, '--', 'true')).stderr).toContain(
      'pods are shop/web, default/runner',
    );
  });

  test('refuses to come up twice', async () => {
    const { code, stderr } = await node.sluice('lab', 'up', join(node.directory, 'lab.yaml'), '--name', node.name);
    expect(code).toBe(1);
    expect(stderr).toContain('it is up already');
    expect(namespaces()).toHaveLength(2);
  });

  test('down removes processes, namespaces and interfaces, also when the record of them is lost', async () => {
    const pids = namespaces().flatMap((name) => execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).trim().split('\n'));
    expect(pids).toHaveLength(2);
    rmSync(`/run/sluice/lab/${node.name}`, { recursive: true });
    expect((await node.sluiceOk('lab', 'down', '--name', node.name)).stdout).toContain('removed 2 pods');
    expect(namespaces()).toEqual([]);
    expect((await node.run('ip', '-j', 'link')).stdout).not.toContain('"sl');
    for (const pid of pids) expect(existsSync(`/proc/${pid}`) && !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')).toBe(false);
    expect((await node.sluiceOk('lab', 'down', '--name', node.name)).stdout).toContain('removed 0 pods');
  });

  test('a lab that cannot come up leaves nothing behind', async () => {
    const broken = join(node.directory, 'broken.yaml');
    execFileSync('sh', [
      '-c',
      `printf '%s\\n' 'apiVersion: v1' 'kind: Pod' 'metadata: { name: a }' 'spec: {}' 'status: { podIPs: [{ ip: 10.0.0.300 }] }' > ${broken}`,
    ]);
    const late = ['lab', 'up', join(node.directory, 'lab.yaml'), '--name', `${node.name}-b`, '--ready-timeout', '1ms'];
    expect((await node.sluice(...late)).stderr).toContain('not ready within 0.001 s');
    expect((await node.sluice('lab', 'up', broken, '--name', `${node.name}-b`)).code).toBe(1);
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(`sluice.${node.name}-b.`))).toEqual([]);
    expect(existsSync(`/run/sluice/lab/${node.name}-b`)).toBe(false);
  });
});
