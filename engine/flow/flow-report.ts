/** Tells who is interested which flows were asked about, whether they passed, and why. Comes after the release, which it would only delay. */
import { PluginAction } from '../abi.gen.ts';
import { FAILURE_TEXT, Failure } from '../plugin-runtime/failure.ts';
import type { AskedFlow } from '../plugin-runtime/messages.ts';
import type { Reporter } from '../plugin-runtime/reporter.ts';
import { actionOf } from '../plugin-runtime/verdict-word.ts';
import type { BatchInHand } from './batch-in-hand.ts';
import { Result } from './batch-results.ts';

/** Counts every flow that was decided, and tells them one by one as long as there is room. */
export function reportFlows(batch: BatchInHand, reporter: Reporter, count: number, nowNs: bigint): void {
  const { asks, results } = batch;
  for (let i = 0; i < count; i++) {
    const kind = results.kind(i);
    if (kind === Result.WAITING || kind === Result.REPEATED) continue;
    const failure = kind === Result.FAILED ? results.failure(i) : Failure.NONE;
    reporter.count(asks.plugin(asks.at(i)), batch.outcome(i).allowed, failure);
    if (reporter.hasRoom) reporter.flow(askedFlow(batch, i, nowNs));
    else reporter.omit();
  }
}

/** A record with what became of it. */
export function askedFlow(batch: BatchInHand, index: number, nowNs: bigint): AskedFlow {
  const { asks, results } = batch;
  const at = asks.at(index);
  const { allowed, scope, ttlMs, failed } = batch.outcome(index);
  return {
    ...asks.describe(at),
    allowed,
    scope,
    ttlMs,
    contentName: batch.contentName(index),
    failed,
    audited: !failed && actionOf(results.word(index)) === PluginAction.AUDIT,
    reason: failed ? FAILURE_TEXT[results.failure(index)] : results.reason(index),
    heldUs: Number((nowNs - asks.heldNs(at)) / 1000n),
  };
}
