/** Packets of pods under policy to Services, through test-run: given a backend, judged by that one, answered from the Service's address. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Mark, Reason } from '../../engine/abi.gen.ts';
import { formatAddress, parseAddress } from '../../engine/policy/address.ts';
import { isSummed, summed } from '../support/checksums.ts';
import { compiled, snapshotOf } from '../support/compiled.ts';
import { frame, icmpError, ipv4, ipv6, sctp, type Transport, tcp, udp } from '../support/packets.ts';

const NODE = '192.0.2.1';
const POD = (name: string, ips: string, labels: string): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { ${labels} }, annotations: { sluice.dev/interface: lo } }\nspec: {}\nstatus: { podIPs: ${ips} }\n`;
const PODS = [
  POD('client', '[{ ip: 10.0.0.1 }, { ip: "fd00::1" }]', 'app: client'),
  POD('good', '[{ ip: 10.0.0.2 }, { ip: "fd00::2" }]', 'app: good'),
  POD('bad', '[{ ip: 10.0.0.3 }, { ip: "fd00::3" }]', 'app: bad'),
];
const SERVICE = (name: string, spec: string): string =>
  `apiVersion: v1\nkind: Service\nmetadata: { name: ${name}, namespace: shop }\nspec: { ${spec} }\n`;
const PORTS =
  'ports: [{ name: a, port: 80, targetPort: 8080 }, { name: b, protocol: UDP, port: 80, targetPort: 5353 }, { name: c, protocol: SCTP, port: 80, targetPort: 80 }]';
const ADDRESSES = 'clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd00:96::1"]';
const EGRESS = (name: string, to: string): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: { podSelector: { matchLabels: { app: client } }, policyTypes: [Egress], egress: [${to}] }\n`;
const TO_GOOD = EGRESS('good', '{ to: [{ podSelector: { matchLabels: { app: good } } }] }');

type Family = 'v4' | 'v6';
const ENDS = {
  v4: { pod: '10.0.0.1', good: '10.0.0.2', bad: '10.0.0.3', service: '10.96.0.1' },
  v6: { pod: 'fd00::1', good: 'fd00::2', bad: 'fd00::3', service: 'fd00:96::1' },
} as const;

const packet = (family: Family, from: string, to: string, transport: Transport): Buffer =>
  summed(frame((family === 'v4' ? ipv4 : ipv6)({ from, to }, transport)));

interface Ends {
  readonly source: string;
  readonly destination: string;
}

/** `10.0.0.1:40000`, as the bytes have it. */
function endsOf(bytes: Buffer): Ends {
  const v4 = bytes.readUInt16BE(12) === 0x0800;
  const at = v4 ? 34 : 54;
  const address = (offset: number): string =>
    v4 ? [...bytes.subarray(offset, offset + 4)].join('.') : formatAddress(Uint8Array.from(bytes.subarray(offset, offset + 16)));
  const port = (offset: number): number => bytes.readUInt16BE(offset);
  return {
    source: `${address(v4 ? 26 : 22)} ${port(at)}`,
    destination: `${address(v4 ? 30 : 38)} ${port(at + 2)}`,
  };
}

describe.skipIf(inject('missing'))('Services', async () => {
  const { ProgramRunner, PASS, DROP, REDIRECT } = await import('../support/program-runner.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;
  beforeAll(async () => {
    runner = await ProgramRunner.load();
  });
  afterAll(() => runner?.remove());

  const load = (manifests: readonly string[], forget = true): void => {
    const compiler = compiled(snapshotOf(manifests.join('---\n')), new Map(), [parseAddress(NODE) as Uint8Array]);
    runner.load(compiler);
    runner.attach(compiler, 'shop/client');
    if (forget) runner.forget();
    else runner.setPolicy({ revision: (revision += 1), hashSeed: 4711 });
  };
  let revision = 1;
  const start = (...manifests: string[]): void => {
    load(manifests);
    runner.setPolicy({ revision: (revision = 1), hashSeed: 4711 + (seeds += 1) });
  };
  let seeds = 0;
  const transports = {
    tcp: {
      open: (sport: number) => tcp({ sport, dport: 80 }),
      answer: (dport: number) => tcp({ sport: 8080, dport, flags: 'SA' }),
      target: 8080,
    },
    udp: { open: (sport: number) => udp({ sport, dport: 80 }), answer: (dport: number) => udp({ sport: 5353, dport }), target: 5353 },
    sctp: { open: (sport: number) => sctp({ sport, dport: 80 }), answer: (dport: number) => sctp({ sport: 80, dport }), target: 80 },
  } as const;
  const onlyGood = SERVICE('web', `${ADDRESSES}, selector: { app: good }, ${PORTS}`);
  const both = SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.2', '10.0.0.3']);

  describe.each(['v4', 'v6'] as const)('over %s', (family) => {
    const { pod, good, service } = ENDS[family];

    test.each(Object.entries(transports))('%s: out to the backend, back from the Service', (_name, { open, answer, target }) => {
      start(...PODS, onlyGood, TO_GOOD);
      const out = runner.transform('from_pod', packet(family, pod, service, open(4000)));
      expect(out.outcome).toBe(PASS);
      expect(endsOf(out.bytes)).toEqual({ source: `${pod} 4000`, destination: `${good} ${target}` });
      expect(isSummed(out.bytes)).toBe(true);
      const back = runner.transform('to_pod', packet(family, good, pod, answer(4000)));
      expect(back.outcome).toBe(PASS);
      expect(endsOf(back.bytes)).toEqual({ source: `${service} 80`, destination: `${pod} 4000` });
      expect(isSummed(back.bytes)).toBe(true);
    });

    test('an ICMP error about what went to the backend is one about the Service', () => {
      start(...PODS, onlyGood, TO_GOOD);
      const { bytes } = runner.transform('from_pod', packet(family, pod, service, udp({ sport: 4000, dport: 80 })));
      const about = bytes.subarray(14, 14 + (family === 'v4' ? 28 : 48));
      const v6 = family === 'v6';
      const error = runner.transform(
        'to_pod',
        packet(family, v6 ? '2001:db8::9' : '203.0.113.9', pod, icmpError({ about, v6, type: v6 ? 2 : 3, code: v6 ? 0 : 4 })),
      );
      expect(error.outcome).toBe(PASS);
      const quoted = Buffer.concat([bytes.subarray(0, 14), error.bytes.subarray(14 + (v6 ? 48 : 28))]);
      expect(endsOf(quoted)).toEqual({ source: `${pod} 4000`, destination: `${service} 80` });
      expect(isSummed(error.bytes)).toBe(true);
    });
  });

  /** EndpointSlices of the Service web with these backends. */
  function slices(addresses: readonly string[], extra = ''): string {
    const endpoints = addresses.map((address) => `{ addresses: [${address}]${extra} }`).join(', ');
    return `---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: s, namespace: shop, labels: { kubernetes.io/service-name: web } }\naddressType: IPv4\nports: [{ name: a, port: 8080 }, { name: b, protocol: UDP, port: 5353 }, { name: c, protocol: SCTP, port: 80 }]\nendpoints: [${endpoints}]\n`;
  }

  /** Where connections from many ports go, and what becomes of them. */
  const spread = (to = ENDS.v4.service, dport = 80): { passed: string[]; dropped: number } => {
    const results = Array.from({ length: 200 }, (_, i) =>
      runner.transform('from_pod', packet('v4', ENDS.v4.pod, to, tcp({ sport: 20_000 + i, dport }))),
    );
    const passed = results.filter(({ outcome }) => outcome === PASS).map(({ bytes }) => endsOf(bytes).destination);
    return { passed, dropped: results.length - passed.length };
  };

  test('a policy that allows half of the backends lets about half of the connections pass', () => {
    start(...PODS, both, TO_GOOD);
    const { passed, dropped } = spread();
    expect(new Set(passed)).toEqual(new Set(['10.0.0.2 8080']));
    expect(dropped).toBeGreaterThan(60);
    expect(dropped).toBeLessThan(140);
  });

  test('a Deny towards the pods behind it is not passed by its cluster address, nor by a node port or an external address', () => {
    const deny = `apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: { name: d }\nspec: { tier: Admin, priority: 1, subject: { namespaces: {} }, egress: [{ action: Deny, to: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: bad } } } }] }] }\n`;
    const bad = SERVICE(
      'web',
      `clusterIP: 10.96.0.1, selector: { app: bad }, externalIPs: [203.0.113.7], ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]`,
    );
    start(...PODS, bad, deny);
    for (const [to, dport] of [
      ['10.96.0.1', 80],
      ['203.0.113.7', 80],
      [NODE, 30_080],
    ] as const) {
      expect(runner.run('from_pod', packet('v4', ENDS.v4.pod, to, tcp({ dport }))), to).toEqual({
        outcome: DROP,
        reasons: [Reason.DROP_POLICY],
      });
    }
    // An address of no Service is left as it was.
    expect(runner.send('from_pod', packet('v4', ENDS.v4.pod, NODE, tcp({ dport: 30_081 })))).toBe(PASS);
    expect(runner.send('from_pod', packet('v4', ENDS.v4.pod, '203.0.113.8', tcp({ dport: 30_080 })))).toBe(PASS);
  });

  test('node ports and external addresses lead to the backends', () => {
    const web = SERVICE(
      'web',
      `clusterIP: 10.96.0.1, selector: { app: good }, externalIPs: [203.0.113.7], ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]`,
    );
    start(...PODS, web, TO_GOOD);
    for (const [to, dport] of [
      ['203.0.113.7', 80],
      [NODE, 30_080],
    ] as const) {
      const out = runner.transform('from_pod', packet('v4', ENDS.v4.pod, to, tcp({ sport: 5000 + dport, dport })));
      expect(endsOf(out.bytes).destination, to).toBe('10.0.0.2 8080');
      const back = runner.transform(
        'to_pod',
        packet('v4', ENDS.v4.good, ENDS.v4.pod, tcp({ sport: 8080, dport: 5000 + dport, flags: 'SA' })),
      );
      expect(endsOf(back.bytes).source, to).toBe(`${to} ${dport}`);
    }
  });

  test('without policy about what the pod sends, kube-proxy translates', () => {
    start(...PODS, both);
    const out = runner.transform('from_pod', packet('v4', ENDS.v4.pod, ENDS.v4.service, tcp({ dport: 80 })));
    expect(endsOf(out.bytes).destination).toBe('10.96.0.1 80');
  });

  test('a Service without endpoints is refused at once', () => {
    start(...PODS, SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices([]), TO_GOOD);
    const syn = packet('v4', ENDS.v4.pod, ENDS.v4.service, tcp({ dport: 80, sport: 4000, seq: 7 }));
    const { outcome, bytes } = runner.transform('from_pod', syn);
    expect(outcome).toBe(REDIRECT);
    expect(endsOf(bytes)).toEqual({ source: '10.96.0.1 80', destination: '10.0.0.1 4000' });
    expect(bytes[47]).toBe(0x14);
    expect(isSummed(bytes)).toBe(true);
    expect(runner.run('from_pod', packet('v4', ENDS.v4.pod, ENDS.v4.service, tcp({ dport: 80, sport: 4001 }))).reasons).toEqual([
      Reason.DROP_NO_BACKEND,
    ]);
  });

  test.each(['v4', 'v6'] as const)('a datagram to a Service without endpoints is answered with an error about it, over %s', (family) => {
    const { pod, service } = ENDS[family];
    start(...PODS, SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices([]), TO_GOOD);
    const sent = packet(family, pod, service, udp({ sport: 4000, dport: 80, payload: 64 }));
    const { outcome, bytes, mark } = runner.transform('from_pod', sent);
    const header = family === 'v4' ? 20 : 40;
    const answer = bytes.subarray(0, 14 + 2 * header + 16);
    expect([outcome, mark]).toEqual([REDIRECT, (runner.token + Mark.REFUSAL) >>> 0]);
    expect(isSummed(answer)).toBe(true);
    expect(endsOf(Buffer.concat([sent.subarray(0, 14), answer.subarray(14 + header + 8)]))).toEqual({
      source: `${pod} 4000`,
      destination: `${service} 80`,
    });
    // It comes to the pod, also where nothing else may.
    expect(runner.run('to_pod', answer, mark)).toEqual({ outcome: PASS, reasons: [Reason.PASS_RELATED] });
  });

  test('endpoints that terminate are taken where no other is ready', () => {
    const draining = ', conditions: { ready: false, serving: true, terminating: true }';
    const only = SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.2'], draining);
    start(...PODS, only, TO_GOOD);
    expect(spread().dropped).toBe(0);
    start(...PODS, only.replace('endpoints: [', 'endpoints: [{ addresses: [10.0.0.3] }, '), EGRESS('all', '{}'));
    expect(new Set(spread().passed)).toEqual(new Set(['10.0.0.3 8080']));
  });

  test('a pod is not sent to itself where another backend is there; where none is, it is left to whoever can', () => {
    start(...PODS, SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.1', '10.0.0.2']), TO_GOOD);
    expect(new Set(spread().passed)).toEqual(new Set(['10.0.0.2 8080']));
    start(...PODS, SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.1']), TO_GOOD);
    expect(new Set(spread().passed)).toEqual(new Set(['10.96.0.1 80']));
  });

  test('a client stays with its backend where the Service wants that, until the backend is gone', () => {
    const sticky = SERVICE('web', `${ADDRESSES}, sessionAffinity: ClientIP, ${PORTS}`);
    start(...PODS, sticky + slices(['10.0.0.2', '10.0.0.3', '10.0.0.4']), EGRESS('all', '{}'));
    const [first, ...others] = [...new Set(spread().passed)];
    expect(others).toEqual([]);
    const left = ['10.0.0.2', '10.0.0.3', '10.0.0.4'].filter((address) => !first?.startsWith(`${address} `));
    load([...PODS, sticky + slices(left), EGRESS('all', '{}')], false);
    const after = [...new Set(spread().passed)];
    expect(after).toHaveLength(1);
    expect(after).not.toEqual([first]);
  });

  test('with internalTrafficPolicy: Local only the backends of this node are taken', () => {
    const local = SERVICE('web', `${ADDRESSES}, internalTrafficPolicy: Local, selector: { app: good }, ${PORTS}`);
    start(...PODS, local, EGRESS('all', '{}'));
    expect(new Set(spread().passed)).toEqual(new Set(['10.0.0.2 8080']));
    const elsewhere = PODS.map((each) => (each.includes('name: good') ? each.replace(/, annotations: .* \}\n/, ' }\n') : each));
    start(...elsewhere, local, EGRESS('all', '{}'));
    expect(spread().passed).toEqual([]);
  });

  test('a connection goes on when its backend is no longer ready; a datagram is given another one', () => {
    start(...PODS, SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.2']), EGRESS('all', '{}'));
    const stream = (flags: string): Buffer => packet('v4', ENDS.v4.pod, ENDS.v4.service, tcp({ sport: 4000, dport: 80, flags }));
    const datagram = packet('v4', ENDS.v4.pod, ENDS.v4.service, udp({ sport: 4000, dport: 80 }));
    const to = (bytes: Buffer): string => endsOf(runner.transform('from_pod', bytes).bytes).destination;
    expect([to(stream('S')), to(datagram)]).toEqual(['10.0.0.2 8080', '10.0.0.2 5353']);
    runner.send('to_pod', packet('v4', ENDS.v4.good, ENDS.v4.pod, tcp({ sport: 8080, dport: 4000, flags: 'SA' })));
    load([...PODS, SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.3']), EGRESS('all', '{}')], false);
    expect([to(stream('A')), to(datagram)]).toEqual(['10.0.0.2 8080', '10.0.0.3 5353']);
    // Also when no policy is about the pod any more; its datagrams are nobody's here when their backend is gone.
    load([...PODS, SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.4'])], false);
    expect([to(stream('A')), to(datagram)]).toEqual(['10.0.0.2 8080', '10.96.0.1 80']);
  });

  test('of a connection that somebody else translates, packets pass where policy allows every backend', () => {
    const web = SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.2', '10.0.0.3']);
    start(...PODS, web);
    const out = (flags: string): Buffer => packet('v4', ENDS.v4.pod, ENDS.v4.service, tcp({ sport: 4000, dport: 80, flags }));
    const back = packet('v4', ENDS.v4.service, ENDS.v4.pod, tcp({ sport: 80, dport: 4000, flags: 'A' }));
    expect([runner.send('from_pod', out('S')), runner.send('to_pod', back)]).toEqual([PASS, PASS]);
    load([...PODS, web, EGRESS('all', '{ to: [{ podSelector: {} }] }')], false);
    const passed = runner.transform('from_pod', out('A'));
    expect([passed.outcome, endsOf(passed.bytes).destination]).toEqual([PASS, '10.96.0.1 80']);
    expect(runner.send('to_pod', back)).toBe(PASS);
    load([...PODS, web, TO_GOOD], false);
    expect(runner.run('from_pod', out('A'))).toEqual({ outcome: DROP, reasons: [Reason.DROP_NOT_TRANSLATED] });
    expect(runner.run('to_pod', back)).toEqual({ outcome: DROP, reasons: [Reason.DROP_NOT_TRANSLATED] });
  });

  test('later fragments follow the first one to the backend and back', () => {
    start(...PODS, onlyGood, TO_GOOD);
    const piece = (from: string, to: string, transport: Transport, offset: number): Buffer =>
      frame(
        ipv4(
          { from, to, fragmentOffset: offset, moreFragments: !offset, fragmentId: 9 },
          offset ? { protocol: 17, bytes: Buffer.alloc(16) } : transport,
        ),
      );
    const to = (bytes: Buffer, program: 'from_pod' | 'to_pod'): Ends => endsOf(runner.transform(program, bytes).bytes);
    expect(to(piece(ENDS.v4.pod, ENDS.v4.service, udp({ sport: 4000, dport: 80, payload: 16 }), 0), 'from_pod').destination).toBe(
      '10.0.0.2 5353',
    );
    expect(to(piece(ENDS.v4.pod, ENDS.v4.service, udp(), 24), 'from_pod').destination).toBe('10.0.0.2 0');
    expect(to(piece(ENDS.v4.good, ENDS.v4.pod, udp({ sport: 5353, dport: 4000, payload: 16 }), 0), 'to_pod').source).toBe('10.96.0.1 80');
    expect(to(piece(ENDS.v4.good, ENDS.v4.pod, udp(), 24), 'to_pod').source).toBe('10.96.0.1 0');
  });

  test('two Services with one backend are told apart: a port that is in use there goes to another one, or waits', () => {
    const second = SERVICE('web2', `clusterIP: 10.96.0.2, selector: { app: good }, ${PORTS}`);
    start(...PODS, onlyGood, second, TO_GOOD);
    const open = (to: string): Buffer => packet('v4', ENDS.v4.pod, to, tcp({ sport: 4000, dport: 80 }));
    expect(runner.send('from_pod', open('10.96.0.1'))).toBe(PASS);
    expect(runner.send('from_pod', open('10.96.0.1'))).toBe(PASS);
    expect(runner.run('from_pod', open('10.96.0.2'))).toEqual({ outcome: DROP, reasons: [Reason.DROP_PORT_TAKEN] });
  });

  test('what is denied leaves nothing behind', () => {
    start(...PODS, SERVICE('web', `${ADDRESSES}, ${PORTS}`) + slices(['10.0.0.3']), TO_GOOD);
    const { connections, openings } = runner.datapath.maps;
    const standing = (): string[] => [...openings.dump().values(), ...connections.dump().values()].map((value) => value.toString('latin1'));
    const before = standing();
    expect(spread()).toEqual({ passed: [], dropped: 200 });
    expect(standing()).toEqual(before);
  });
});
