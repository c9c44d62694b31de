/** Flows as people read them. */
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Abi, Context, Direction, Reason } from '../../../engine/abi.gen.ts';
import { flowLine, flowTable } from '../../../engine/cli/flow-line.ts';
import type { FlowView } from '../../../engine/observe/flow-fields.ts';
import { address, decided, denied, NO_ADDRESS, requested } from '../../support/flows.ts';

const noon = (flow: FlowView): FlowView => ({ ...flow, time: '2026-11-28T12:00:00.000Z' });
const nothing = { source: NO_ADDRESS, destination: NO_ADDRESS, sourcePort: 0, destinationPort: 0, protocol: 0 };

describe('flowLine()', () => {
  test.each([
    {
      name: 'denied by the default',
      flow: denied(),
      want: '12:00:00.000 deny  shop/web:40000 → shop/db:5432 TCP egress: no rule allows it',
    },
    {
      name: 'denied by a rule, to an address that is known by a name',
      flow: denied({ destination: address('192.0.2.7'), name: 1n, rule: 3, destinationPort: 443 }),
      want: '12:00:00.000 deny  shop/web:40000 → api.example.com:443 TCP egress: no rule allows it (NetworkPolicy shop/rule-3)',
    },
    {
      name: 'a DNS query that is refused',
      flow: denied({ destination: address('192.0.2.53'), destinationPort: 53, protocol: 17, name: 1n, reason: Reason.DROP_NAME }),
      want: '12:00:00.000 deny  shop/web:40000 → 192.0.2.53:53 UDP egress: a DNS query for a name that no rule is about: refused (api.example.com)',
    },
    {
      name: 'decided by a plugin',
      flow: decided({ reason: 'on the list' }),
      want: '12:00:00.000 allow shop/web:40000 → shop/db:5432 TCP egress: on the list (plugin plugin-1, NetworkPolicy shop/rule-2) 50 µs',
    },
    {
      name: 'decided by the hello of TLS',
      flow: decided({ context: Context.TLS, contentName: 'a.example', plugin: Abi.SERVER_NAMES, heldUs: 0, rule: 0 }),
      want: `12:00:00.000 allow shop/web:40000 → shop/db:5432 TCP egress: the server name is in the list (server name a.example, plugin plugin-${Abi.SERVER_NAMES})`,
    },
    {
      name: 'a request',
      flow: requested(),
      want: '12:00:00.000 allow shop/web:40000 → shop/db:80 TCP egress GET shop.example/cart 200 from shop/checkout-v2:80 10.0.0.2:80: the plugin allows it (plugin plugin-1, NetworkPolicy shop/rule-5)',
    },
    {
      name: 'malformed',
      flow: denied({ ...nothing, reason: Reason.DROP_MALFORMED }),
      want: '12:00:00.000 deny  shop/web → unknown egress: malformed: a length does not fit, or a header is cut',
    },
    {
      name: 'malformed, on its way in',
      flow: denied({ ...nothing, reason: Reason.DROP_MALFORMED, direction: Direction.INGRESS, endpoint: 8 }),
      want: '12:00:00.000 deny  unknown → shop/db ingress: malformed: a length does not fit, or a header is cut',
    },
    {
      name: 'a fragment',
      flow: denied({ sourcePort: 0, destinationPort: 0, protocol: 17, reason: Reason.DROP_FRAGMENT }),
      want: '12:00:00.000 deny  shop/web → shop/db UDP egress: a later fragment of a datagram whose first one did not pass',
    },
    {
      name: 'spoofed',
      flow: denied({ source: address('10.0.1.9'), reason: Reason.DROP_SPOOFED }),
      want: '12:00:00.000 deny  shop/web:40000 as 10.0.1.9 → shop/db:5432 TCP egress: spoofed: sent from an address that is not its own',
    },
  ])('$name', ({ flow, want }) => expect(stripVTControlCharacters(flowLine(noon(flow)))).toBe(want));
});

test('flowTable() has a column for what one of the flows says, and none for what nobody says', () => {
  const text = stripVTControlCharacters(flowTable([noon(denied()), noon(requested())]));
  const [head = '', ...rows] = text.split('\n');
  expect(head.trim().split(/\s+/)).toEqual([
    ...['TIME', 'VERDICT', 'SOURCE', 'DESTINATION', 'PROTOCOL', 'DIRECTION', 'HTTP', 'REASON', 'PLUGIN', 'RULE'],
  ]);
  expect(rows).toHaveLength(2);
  expect(rows[0]).toContain('no rule allows it');
});
