/** Printing a feed of the API line by line, for `sluice flows` and `sluice events`. */
import { EngineError } from '../errors.ts';
import type { ApiClient } from './client.ts';
import { paint } from './output.ts';
import { isLost, readFeed } from './read-feed.ts';

export const feedOptions = {
  output: {
    alias: 'o',
    type: 'string',
    choices: ['text', 'json', 'jsonl'] as const,
    default: 'text' as const,
    describe: 'how to show it; json and jsonl are one object a line',
  },
  follow: { alias: 'f', type: 'boolean', default: false, describe: 'go on with each new one, until Ctrl-C' },
} as const;

export const lastOption = {
  type: 'string',
  requiresArg: true,
  coerce: (text: string | undefined): number | undefined => {
    if (text === undefined) return undefined;
    if (!/^\d{1,9}$/.test(text)) throw new EngineError('CONFIG_INVALID', `Cannot use --last ${text}: must be a whole number such as 20`);
    return Number(text);
  },
  describe: 'how many of the latest to show first; 100 unless it is said',
} as const;

export interface Shown<T> {
  readonly name: string;
  readonly query: URLSearchParams;
  /** Absent: as it comes, in JSON. */
  readonly line: ((item: T) => string) | undefined;
}

/** Prints each item; Ctrl-C is a way of ending. */
export async function showFeed<T extends object>(client: ApiClient, { name, query, line }: Shown<T>): Promise<void> {
  const ended = new AbortController();
  process.once('SIGINT', () => ended.abort());
  for await (const { text, item } of readFeed<T>(client, name, query, { signal: ended.signal })) {
    if (!line) console.log(text);
    else if (isLost(item)) console.log(paint('yellow', `${item.lost} ${name} are missing here: this client reads too slowly`));
    else console.log(line(item));
  }
}
