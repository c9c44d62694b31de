/** Why a plugin could not decide: its flow gets the failure policy. */
export const Failure = {
  NONE: 0,
  UNKNOWN_PLUGIN: 1,
  TRAP: 2,
  NONSENSE: 3,
  TIMEOUT: 4,
  EXPIRED: 5,
  SUSPENDED: 6,
  NO_HOOK: 7,
  OVER_SHARE: 8,
  OVERFLOW: 9,
} as const;
export type Failure = (typeof Failure)[keyof typeof Failure];

/** The same in words. */
export const FAILURE_TEXT: Readonly<Record<Failure, string>> = {
  [Failure.NONE]: '',
  [Failure.UNKNOWN_PLUGIN]: 'plugin is not loaded',
  [Failure.TRAP]: 'plugin trapped',
  [Failure.NONSENSE]: 'plugin answered nonsense',
  [Failure.TIMEOUT]: 'plugin ran out of its time',
  [Failure.EXPIRED]: 'held longer than the hold time-out',
  [Failure.SUSPENDED]: 'plugin is suspended after a time-out',
  [Failure.NO_HOOK]: 'plugin does not answer this hook',
  [Failure.OVER_SHARE]: 'plugin has had its share of the time: its flows are too many, or take too long',
  [Failure.OVERFLOW]: 'too much is held of clients that have not said all',
};
