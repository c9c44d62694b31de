/** One machine for a request and its answer, whichever version of HTTP carries them. */
import type { Arrows } from './transitions.ts';

/**
 * The states of an exchange, in either version of HTTP:
 *
 *     asking -> answering    the head of the answer is there, and went to the client
 *     asking -> over         nobody answers, the client is gone, or both talk to each other without being read from here on
 *     answering -> over      the answer is complete or broke off, or the client is gone
 */
export const EXCHANGE_ARROWS = { asking: ['answering', 'over'], answering: ['over'], over: [] } as const satisfies Arrows<string>;
export type ExchangeState = keyof typeof EXCHANGE_ARROWS;
