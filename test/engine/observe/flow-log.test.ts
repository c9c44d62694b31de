/** The log of flows: who floods it pushes out no other endpoint's flows, and none of its own that have another reason. */
import { expect, test } from 'vitest';
import { Reason } from '../../../engine/abi.gen.ts';
import { FLOWS_MAX, FlowLog } from '../../../engine/observe/flow-log.ts';
import { askedFlow, flowRecord, names, requestRecord } from '../../support/flows.ts';

test('keeps what others did, whoever floods it', () => {
  const log = new FlowLog(names);
  log.add('kernel', flowRecord({ endpoint: 8, reason: Reason.DROP_SPOOFED }));
  log.add('asked', askedFlow());
  log.add('request', requestRecord());
  log.add('kernel', flowRecord({ endpoint: 7, reason: Reason.DROP_FRAGMENT }));
  for (let i = 0; i < 3 * FLOWS_MAX; i++)
    for (const endpoint of [7, 8]) log.add('kernel', flowRecord({ endpoint, reason: i % 2 ? Reason.DROP_POLICY : Reason.DROP_MALFORMED }));
  const kept = log.feed.latest(2 * FLOWS_MAX);
  expect(kept.length).toBeGreaterThanOrEqual(FLOWS_MAX);
  expect(kept.slice(0, 5).map(({ endpoint, reasonCode }) => `${endpoint} ${reasonCode}`)).toEqual([
    'shop/db drop_spoofed',
    'shop/web pass_verdict',
    'shop/web pass_verdict',
    'shop/web drop_fragment',
    expect.stringMatching(/drop_(policy|malformed)$/),
  ]);
});
