/** Reading a feed of the API: an object a line, until it ends or somebody has seen enough. */
import { createInterface } from 'node:readline';
import { EngineError } from '../errors.ts';
import type { ApiClient } from './client.ts';

/** In place of items: how many of them this client was too slow for. */
export interface LostLine {
  readonly lost: number;
}

export const isLost = (item: object): item is LostLine => 'lost' in item && Object.keys(item).length === 1;

export interface ReadOptions {
  /** Ends reading without an error. */
  readonly signal?: AbortSignal;
}

/**
 * Each item, with its line as it came.
 *
 * @throws EngineError `API_UNREACHABLE` where the engine goes away while it is followed.
 */
export async function* readFeed<T extends object>(
  client: ApiClient,
  name: string,
  query: URLSearchParams,
  { signal }: ReadOptions = {},
): AsyncGenerator<{ readonly text: string; readonly item: T | LostLine }> {
  const response = await client.open('GET', `/v1/${name}?${query}`);
  const lines = createInterface({ input: response });
  // Destroying the answer closes it, but does not end its lines.
  response.once('close', () => lines.close());
  const end = (): void => void response.destroy();
  signal?.addEventListener('abort', end);
  if (signal?.aborted) end();
  let cause: unknown;
  try {
    for await (const text of lines) if (text) yield { text, item: JSON.parse(text) as T | LostLine };
  } catch (error) {
    cause = error;
  }
  signal?.removeEventListener('abort', end);
  if (!signal?.aborted && (cause || query.get('follow') === 'true'))
    throw new EngineError('API_UNREACHABLE', `Cannot follow ${name} any longer: the engine has gone away`, cause);
}
