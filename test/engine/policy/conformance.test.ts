/**
 * The questions of the conformance suite of the network-policy-api v0.3.0, standard and experimental, as decisions of compiled policy: its
 * policies and probes, named as there. That they hold on sockets of a real cluster is that suite's to show.
 *
 * As there: five houses, each a namespace with two pods; the last one's are in the host's network.
 */
import { describe, test } from 'vitest';
import {
  at,
  ConformanceCluster as Cluster,
  clusterPolicy,
  DIRECTIONS,
  type Direction,
  everywhere,
  HOUSES,
  type House,
  labelled,
  namespaceOf,
  ORDERED,
  orderedRules,
  PORTS,
  type Protocol,
  podsIn,
  rule,
  swap,
  TIERS,
  type Tier,
} from '../../support/conformance-cluster.ts';

const orderedCases = TIERS.flatMap((tier) =>
  DIRECTIONS.flatMap((direction) =>
    (['tcp', 'udp', 'sctp'] as const).map((protocol) => ({
      name: `CNP${tier}Tier${direction === 'ingress' ? 'Ingress' : 'Egress'}${protocol.toUpperCase()}`,
      tier,
      direction,
      protocol,
    })),
  ),
);

describe('conformance of ClusterNetworkPolicy', () => {
  test.each(orderedCases)('$name', ({ tier, direction, protocol }) => {
    const { subject, every, slytherin, some, open } = ORDERED[protocol];
    const [one, other] = PORTS[protocol];
    const openPort = open[direction];
    const closedPort = openPort === one ? other : one;
    const rules = orderedRules({ tier, direction, every, slytherin, some, open: { [protocol]: openPort } });
    const cluster = new Cluster([clusterPolicy('policy', tier, 6, namespaceOf(subject), { [direction]: rules })]);
    /** The subject’s pod on its side of the flow, with a peer’s on the other. */
    const flow = (house: House, i: number, port: number, verdict: string): string => {
      const [own, peer] = [`${HOUSES[subject]}-${i}`, `${HOUSES[house]}-${1 - i}`];
      return `${direction === 'ingress' ? peer : own} ${protocol} ${direction === 'ingress' ? own : peer} ${port} ${verdict}`;
    };
    const back = (house: House): string => {
      const [own, peer] = [`${HOUSES[subject]}-0`, `${HOUSES[house]}-0`];
      return `${direction === 'ingress' ? own : peer} ${protocol} ${direction === 'ingress' ? peer : own} ${one} reached`;
    };
    const deniedPort = Object.values(slytherin)[0] as number;
    const freePort = deniedPort === one ? other : one;
    cluster.probe(flow(every, 0, one, 'reached'), flow(every, 1, other, 'reached'));
    cluster.probe(flow(some, 0, openPort, 'reached'), flow(some, 1, closedPort, 'dropped'));
    cluster.probe(back(every), back('slytherin'));
    cluster.patch('policy', (spec) => swap(spec[direction], 0, 1));
    cluster.probe(flow(every, 0, one, 'dropped'), flow(every, 1, other, 'dropped'));
    cluster.probe(flow('slytherin', 0, deniedPort, 'dropped'), flow('slytherin', 1, freePort, 'reached'));
    if (tier !== 'Admin') return;
    cluster.patch('policy', (spec) => swap(spec[direction], 0, 2));
    cluster.probe(flow(every, 0, one, 'reached'), flow(every, 1, other, 'reached'));
    cluster.patch('policy', (spec) => swap(spec[direction], 3, 4));
    cluster.probe(flow('slytherin', 0, deniedPort, 'reached'), flow('slytherin', 1, freePort, 'reached'));
  });

  test.each(TIERS)('CNP%sTierGressRules', (tier) => {
    const slytherin = { tcp: 80, udp: 53, sctp: 9003 };
    const both = DIRECTIONS.map((direction) => {
      const open = { tcp: direction === 'ingress' ? 80 : 8080, udp: 5353, sctp: 9003 };
      return [direction, orderedRules({ tier, direction, every: 'ravenclaw', slytherin, some: 'hufflepuff', open })] as const;
    });
    const cluster = new Cluster([clusterPolicy('policy', tier, 15, namespaceOf('gryffindor'), Object.fromEntries(both))]);
    const swapBoth = (a: number, b: number): void =>
      cluster.patch('policy', (spec) => {
        for (const direction of DIRECTIONS) swap(spec[direction], a, b);
      });
    const ravenclaw = (verdict: string): string[] =>
      ['tcp 80', 'udp 53', 'sctp 9003'].flatMap((each) => {
        const [protocol, port] = each.split(' ');
        return [
          `harry-potter-0 ${protocol} luna-lovegood-0 ${port} ${verdict}`,
          `luna-lovegood-1 ${protocol} harry-potter-0 ${port} ${verdict}`,
        ];
      });
    cluster.probe(...ravenclaw('reached'));
    cluster.probe(
      'harry-potter-0 tcp cedric-diggory-1 8080 reached',
      'harry-potter-1 tcp cedric-diggory-1 80 dropped',
      'harry-potter-0 udp cedric-diggory-1 5353 reached',
      'harry-potter-1 udp cedric-diggory-1 53 dropped',
      'harry-potter-0 sctp cedric-diggory-1 9003 reached',
      'harry-potter-1 sctp cedric-diggory-1 9005 dropped',
      'cedric-diggory-0 tcp harry-potter-1 80 reached',
      'cedric-diggory-1 tcp harry-potter-1 8080 dropped',
      'cedric-diggory-0 udp harry-potter-1 5353 reached',
      'cedric-diggory-1 udp harry-potter-1 53 dropped',
      'cedric-diggory-0 sctp harry-potter-1 9003 reached',
      'cedric-diggory-1 sctp harry-potter-1 9005 dropped',
    );
    swapBoth(0, 1);
    cluster.probe(...ravenclaw('dropped'));
    const slytherins = (verdict: string): string[] => [
      `harry-potter-0 tcp draco-malfoy-0 80 ${verdict}`,
      'harry-potter-1 tcp draco-malfoy-0 8080 reached',
      `harry-potter-0 udp draco-malfoy-0 53 ${verdict}`,
      'harry-potter-1 udp draco-malfoy-0 5353 reached',
      `harry-potter-0 sctp draco-malfoy-0 9003 ${verdict}`,
      'harry-potter-1 sctp draco-malfoy-0 9005 reached',
      `draco-malfoy-0 tcp harry-potter-0 80 ${verdict}`,
      'draco-malfoy-1 tcp harry-potter-0 8080 reached',
      `draco-malfoy-0 udp harry-potter-0 53 ${verdict}`,
      `draco-malfoy-0 sctp harry-potter-0 9003 ${verdict}`,
      'draco-malfoy-1 sctp harry-potter-0 9005 reached',
    ];
    cluster.probe(...slytherins('dropped'));
    if (tier !== 'Admin') return;
    swapBoth(0, 2);
    cluster.probe(...ravenclaw('reached'));
    swapBoth(3, 4);
    cluster.probe(...slytherins('reached'));
  });

  test.each(TIERS)('CNP%sTierEgressInlineCIDRPeers', (tier) => {
    const cluster = new Cluster([
      clusterPolicy('policy', tier, 85, podsIn('gryffindor'), {
        egress: [rule('egress', 'Accept', [podsIn('slytherin')]), rule('egress', 'Deny', [everywhere])],
      }),
    ]);
    const to = (pod: string, verdict: string): string[] =>
      ['tcp', 'udp', 'sctp'].map((protocol) => `harry-potter-1 ${protocol} ${pod} ${PORTS[protocol as Protocol][0]} ${verdict}`);
    cluster.probe(...to('luna-lovegood-0', 'dropped'), ...to('cedric-diggory-0', 'dropped'), ...to('draco-malfoy-0', 'reached'));
    cluster.label('slytherin', { 'conformance-house': 'denied-namespace-label' });
    cluster.probe(...to('draco-malfoy-0', 'dropped'));
    cluster.label('slytherin', { 'conformance-house': 'slytherin' });
    cluster.probe(...to('draco-malfoy-0', 'reached'));
    const hosts = ['luna-lovegood-0', 'cedric-diggory-0'];
    cluster.patch('policy', ({ egress }) =>
      egress.unshift(rule('egress', 'Accept', [{ networks: hosts.map((pod) => `${cluster.ip(pod)}/32`) }])),
    );
    cluster.probe(...hosts.flatMap((pod) => to(pod, 'reached')), ...to('luna-lovegood-1', 'dropped'), ...to('cedric-diggory-1', 'dropped'));
  });

  test.each(TIERS)('CNP%sTierPodSelectorRules', (tier) => {
    const byName = (name: string) => ({ matchLabels: { 'statefulset.kubernetes.io/pod-name': name } });
    const role = (value: string) => ({ matchLabels: { 'conformance-role': value } });
    const cluster = new Cluster([
      clusterPolicy(
        'rules',
        tier,
        20,
        { pods: { podSelector: labelled('gryffindor') } },
        {
          ingress: [
            rule('ingress', 'Accept', [{ pods: { namespaceSelector: labelled('slytherin'), podSelector: byName('draco-malfoy-0') } }]),
            rule('ingress', 'Deny', [{ pods: { podSelector: labelled('slytherin') } }]),
            rule('ingress', 'Deny', [{ pods: { namespaceSelector: labelled('hufflepuff'), podSelector: role('blocked') } }]),
          ],
          egress: [
            rule(
              'egress',
              'Accept',
              [{ pods: { namespaceSelector: labelled('ravenclaw'), podSelector: byName('luna-lovegood-0') } }],
              at({ tcp: 80 }),
            ),
            rule('egress', 'Deny', [{ pods: { podSelector: labelled('ravenclaw') } }]),
          ],
        },
      ),
      clusterPolicy(
        'subject',
        tier,
        21,
        { pods: { namespaceSelector: labelled('ravenclaw'), podSelector: role('restricted') } },
        {
          egress: [rule('egress', 'Deny', [namespaceOf('slytherin')])],
        },
      ),
    ]);
    cluster.probe(
      'harry-potter-0 tcp luna-lovegood-0 8080 dropped',
      'harry-potter-0 tcp luna-lovegood-0 80 reached',
      'harry-potter-1 tcp luna-lovegood-1 80 dropped',
      'draco-malfoy-1 tcp harry-potter-1 80 dropped',
      'draco-malfoy-0 tcp harry-potter-0 80 reached',
    );
    for (const blocked of [0, 1]) {
      cluster.label(`cedric-diggory-${blocked}`, { 'conformance-role': 'blocked' });
      cluster.probe(
        `cedric-diggory-${blocked} tcp harry-potter-0 80 dropped`,
        `cedric-diggory-${1 - blocked} tcp harry-potter-0 80 reached`,
      );
      cluster.label(`cedric-diggory-${blocked}`, { 'conformance-role': undefined });
      cluster.probe(`cedric-diggory-${blocked} tcp harry-potter-0 80 reached`);
    }
    cluster.probe('draco-malfoy-0 tcp luna-lovegood-1 80 reached');
    for (const restricted of [0, 1]) {
      cluster.label(`luna-lovegood-${restricted}`, { 'conformance-role': 'restricted' });
      cluster.probe(
        `luna-lovegood-${restricted} tcp draco-malfoy-0 80 dropped`,
        `luna-lovegood-${1 - restricted} tcp draco-malfoy-0 80 reached`,
      );
      cluster.label(`luna-lovegood-${restricted}`, { 'conformance-role': undefined });
      cluster.probe(`luna-lovegood-${restricted} tcp draco-malfoy-0 80 reached`);
    }
  });

  test.each(TIERS)('CNP%sTierPortRangeRules', (tier) => {
    const range = (protocol: Protocol) => {
      const [start, end] = PORTS[protocol];
      return [{ [protocol]: { destinationPort: { range: { start, end } } } }];
    };
    const rules = (direction: Direction) => [
      rule(direction, 'Accept', [namespaceOf('ravenclaw')], range('tcp')),
      rule(direction, 'Accept', [namespaceOf('hufflepuff')], range('udp')),
      rule(direction, 'Accept', [namespaceOf('slytherin')], range('sctp')),
      rule(direction, 'Deny', [{ namespaces: { matchExpressions: [{ key: 'conformance-house', operator: 'Exists' }] } }]),
    ];
    const cluster = new Cluster([
      clusterPolicy('policy', tier, 9, namespaceOf('gryffindor'), { ingress: rules('ingress'), egress: rules('egress') }),
    ]);
    for (const [peer, protocol, other] of [
      ['luna-lovegood', 'tcp', 'udp 53'],
      ['cedric-diggory', 'udp', 'tcp 80'],
      ['draco-malfoy', 'sctp', 'tcp 80'],
    ] as const) {
      const [first, last] = PORTS[protocol];
      const [otherProtocol, otherPort] = other.split(' ');
      for (const port of [first, first + 1, last]) {
        cluster.probe(`harry-potter-0 ${protocol} ${peer}-0 ${port} reached`, `${peer}-0 ${protocol} harry-potter-0 ${port} reached`);
      }
      for (const port of [first - 1, last + 1]) cluster.probe(`harry-potter-0 ${protocol} ${peer}-0 ${port} dropped`);
      cluster.probe(
        `harry-potter-1 ${otherProtocol} ${peer}-0 ${otherPort} dropped`,
        `${peer}-1 ${otherProtocol} harry-potter-0 ${otherPort} dropped`,
      );
    }
  });

  test('CNPPriorityField', () => {
    const slytherin = podsIn('slytherin');
    const policy = (name: string, tier: Tier, priority: number, action: string) =>
      clusterPolicy(name, tier, priority, podsIn('gryffindor'), {
        ingress: [rule('ingress', action, [slytherin])],
        egress: [rule('egress', action, [slytherin])],
      });
    const cluster = new Cluster([
      policy('fifty', 'Admin', 50, 'Deny'),
      policy('sixty', 'Admin', 60, 'Pass'),
      policy('default', 'Baseline', 10, 'Accept'),
    ]);
    const flows = (verdict: string): string[] => [
      `draco-malfoy-0 tcp harry-potter-0 80 ${verdict}`,
      `draco-malfoy-1 tcp harry-potter-0 8080 ${verdict}`,
      `harry-potter-0 tcp draco-malfoy-0 80 ${verdict}`,
      `harry-potter-1 tcp draco-malfoy-0 8080 ${verdict}`,
    ];
    cluster.probe(...flows('dropped'));
    cluster.patch('sixty', (spec) => (spec.priority = 40));
    cluster.probe(...flows('reached'));
  });

  test.each(TIERS)('CNP%sTierSamePriority', (tier) => {
    const policy = (own: House, peer: House, port: number) =>
      clusterPolicy(`${own}-${peer}`, tier, 15, namespaceOf(own), {
        ingress: [rule('ingress', 'Deny', [namespaceOf(peer)], at({ tcp: port }))],
        egress: [rule('egress', 'Deny', [namespaceOf(peer)], at({ tcp: port }))],
      });
    const cluster = new Cluster([
      policy('gryffindor', 'slytherin', 80),
      policy('gryffindor', 'hufflepuff', 80),
      policy('hufflepuff', 'slytherin', 8080),
    ]);
    cluster.probe(
      'draco-malfoy-0 tcp harry-potter-0 80 dropped',
      'harry-potter-0 tcp draco-malfoy-0 80 dropped',
      'cedric-diggory-0 tcp harry-potter-0 80 dropped',
      'harry-potter-1 tcp cedric-diggory-0 80 dropped',
      'draco-malfoy-1 tcp cedric-diggory-0 8080 dropped',
      'cedric-diggory-1 tcp draco-malfoy-0 8080 dropped',
      'draco-malfoy-0 tcp harry-potter-0 8080 reached',
      'harry-potter-0 tcp draco-malfoy-0 8080 reached',
      'draco-malfoy-1 tcp cedric-diggory-0 80 reached',
      'cedric-diggory-0 tcp draco-malfoy-0 80 reached',
      'luna-lovegood-0 tcp harry-potter-0 80 reached',
      'harry-potter-1 tcp luna-lovegood-0 80 reached',
    );
  });

  test('CNPAPIIntegration', () => {
    const slytherin = { namespaces: labelled('slytherin') };
    const denies = { ingress: [rule('ingress', 'Deny', [slytherin])], egress: [rule('egress', 'Deny', [slytherin])] };
    const subject = { namespaces: labelled('gryffindor') };
    const peer = [{ namespaceSelector: labelled('slytherin') }];
    const cluster = new Cluster([
      clusterPolicy('admin', 'Admin', 10, subject, denies),
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'np', namespace: 'gryffindor' },
        spec: { podSelector: null, policyTypes: ['Ingress', 'Egress'], ingress: [{ from: peer }], egress: [{ to: peer }] },
      },
      clusterPolicy('default', 'Baseline', 10, subject, denies),
    ]);
    const ingress = (verdict: string): string[] => [
      `draco-malfoy-0 tcp harry-potter-0 80 ${verdict}`,
      `draco-malfoy-1 tcp harry-potter-0 8080 ${verdict}`,
    ];
    const egress = (verdict: string): string[] => [
      `harry-potter-0 tcp draco-malfoy-0 80 ${verdict}`,
      `harry-potter-1 tcp draco-malfoy-0 8080 ${verdict}`,
    ];
    cluster.probe(...ingress('dropped'), ...egress('dropped'));
    cluster.patch('admin', (spec) => (spec.ingress[0].action = 'Pass'));
    cluster.probe(...ingress('reached'), ...egress('dropped'));
    cluster.patch('admin', (spec) => (spec.egress[0].action = 'Pass'));
    cluster.probe(...egress('reached'));
    cluster.remove('np');
    cluster.probe(...ingress('dropped'), ...egress('dropped'));
  });

  /** Experimental: the same rules with a port's name in place of its number; where the pods have that name. */
  test.each([
    { tier: 'Admin', direction: 'egress', protocol: 'tcp', index: 5, port: 'web', open: 80, closed: 8080 },
    { tier: 'Admin', direction: 'ingress', protocol: 'udp', index: 5, port: 'dns', open: 53, closed: 5353 },
    { tier: 'Baseline', direction: 'egress', protocol: 'udp', index: 3, port: 'dns', open: 53, closed: 5353 },
    { tier: 'Baseline', direction: 'ingress', protocol: 'tcp', index: 3, port: 'web', open: 80, closed: 8080 },
  ] as const)('CNP$tier tier, $direction, a port’s name', ({ tier, direction, protocol, index, port, open, closed }) => {
    const { subject, every, slytherin, some, open: ports } = ORDERED[protocol];
    const rules = orderedRules({ tier, direction, every, slytherin, some, open: { [protocol]: ports[direction] } });
    const cluster = new Cluster([clusterPolicy('policy', tier, 6, namespaceOf(subject), { [direction]: rules })]);
    cluster.patch('policy', (spec) => (spec[direction][index].protocols = [{ destinationNamedPort: port }]));
    const [from, to] = direction === 'egress' ? [subject, some] : [some, subject];
    cluster.probe(
      `${HOUSES[from]}-0 ${protocol} ${HOUSES[to]}-1 ${open} reached`,
      `${HOUSES[from]}-1 ${protocol} ${HOUSES[to]}-1 ${closed} dropped`,
    );
  });

  describe.each([
    { where: 'on this node', here: 1 },
    { where: 'on another node', here: 0 },
  ])('pods in the host’s network $where', ({ here }) => {
    const linux = { nodes: { matchLabels: { 'kubernetes.io/os': 'linux' } } };

    test('CNPAdminTierEgressNodePeers', () => {
      const cluster = new Cluster(
        [
          clusterPolicy('policy', 'Admin', 75, podsIn('gryffindor'), {
            egress: [
              rule('egress', 'Accept', [linux], at({ tcp: 34_345 })),
              rule('egress', 'Pass', [linux], at({ udp: 34_347 })),
              rule('egress', 'Deny', [podsIn('slytherin'), linux, everywhere]),
            ],
          }),
        ],
        here,
      );
      cluster.probe(
        'harry-potter-1 tcp centaur-1 34345 reached',
        'harry-potter-1 udp centaur-1 34347 reached',
        'harry-potter-1 tcp centaur-1 34346 dropped',
        'harry-potter-1 udp centaur-1 34349 dropped',
        'harry-potter-1 sctp centaur-1 34351 dropped',
      );
    });

    test('CNPBaselineTierEgressNodePeers', () => {
      const cluster = new Cluster(
        [
          clusterPolicy('default', 'Baseline', 10, namespaceOf('gryffindor'), {
            egress: [
              rule('egress', 'Accept', [linux], [{ tcp: { destinationPort: { range: { start: 34_345, end: 34_346 } } } }]),
              rule('egress', 'Deny', [linux, everywhere]),
            ],
          }),
        ],
        here,
      );
      cluster.probe(
        'harry-potter-0 tcp centaur-1 34345 reached',
        'harry-potter-1 tcp centaur-1 34346 reached',
        'harry-potter-1 udp centaur-1 34349 dropped',
        'harry-potter-1 sctp centaur-1 34351 dropped',
      );
    });

    test('a selector that selects some nodes is about those, and follows their labels', () => {
      const cluster = new Cluster(
        [
          clusterPolicy('policy', 'Admin', 1, namespaceOf('gryffindor'), {
            egress: [
              rule('egress', 'Accept', [{ nodes: { matchLabels: { 'kubernetes.io/hostname': 'node-1' } } }]),
              rule('egress', 'Deny', [{ nodes: {} }]),
            ],
          }),
        ],
        here,
      );
      cluster.probe(
        'harry-potter-0 tcp centaur-1 80 reached',
        'harry-potter-0 tcp centaur-0 80 dropped',
        'harry-potter-0 tcp luna-lovegood-0 80 reached',
      );
      cluster.patch('policy', ({ egress }) => (egress[0].to[0].nodes.matchLabels['kubernetes.io/hostname'] = 'node-0'));
      cluster.probe('harry-potter-0 tcp centaur-1 80 dropped', 'harry-potter-0 tcp centaur-0 80 reached');
    });

    test('a node’s own pod, and whoever is in the host’s network, is no pod as a peer', () => {
      const cluster = new Cluster(
        [
          clusterPolicy('policy', 'Admin', 1, namespaceOf('gryffindor'), {
            egress: [rule('egress', 'Deny', [namespaceOf('forbidden-forrest'), podsIn('forbidden-forrest')])],
          }),
        ],
        here,
      );
      cluster.probe('harry-potter-0 tcp centaur-0 80 reached', 'harry-potter-0 tcp centaur-1 80 reached');
    });
  });
});
