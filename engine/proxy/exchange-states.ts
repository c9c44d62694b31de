/** One machine for a request and its answer, whichever version of HTTP carries them. */
import type { Transitions } from '../transitions.ts';

export type ExchangeState = 'asking' | 'answering' | 'over';

/**
 * The states of an exchange, in either version of HTTP:
 *
 *     asking -> answering    answer: the head of the answer is there, and went to the client
 *     asking -> over         finish: nobody answers, the client is gone, or both talk to each other without being read from here on
 *     answering -> over      finish: the answer is complete or broke off, or the client is gone
 */
export const EXCHANGE: Transitions<ExchangeState, 'answer' | 'finish'> = {
  asking: { answer: 'answering', finish: 'over' },
  answering: { finish: 'over' },
  over: {},
};
