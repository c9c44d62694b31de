/**
 * A GET for a module, or for what leads to one: bounded in bytes, time and redirects, and only where a module may come from.
 *
 * Messages name a URL without its query, which may hold a signature that lets others in; credentials and bodies are in none.
 */
import { createHash } from 'node:crypto';
import { getCACertificates } from 'node:tls';
import { Agent, request } from 'undici';
import { EngineError, messageOf } from '../../errors.ts';
import { checkHost, reachableLookup } from './reachable.ts';

const REDIRECTS_MAX = 5;

export interface DownloadLimits {
  readonly connectMs: number;
  /** Between two pieces of an answer, and before the first. */
  readonly idleMs: number;
  /** From the first byte asked to the last that came. */
  readonly totalMs: number;
}

const LIMITS: DownloadLimits = { connectMs: 10_000, idleMs: 15_000, totalMs: 120_000 };

export interface DownloaderParts {
  /** Addresses of this machine are as good as others. */
  readonly loopback: boolean;
  /** PEM: whose certificates count beside those that the system trusts. */
  readonly authority?: string | undefined;
  readonly limits?: DownloadLimits;
}

export interface Wanted {
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly bytesMax: number;
  /** Of the bytes; others are refused as soon as that is known. */
  readonly sha256?: string | undefined;
  /** Statuses beside 200 whose answers the caller wants, without a body. */
  readonly also?: readonly number[];
  readonly signal?: AbortSignal | undefined;
}

export interface Downloaded {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Empty for all statuses but 200. */
  readonly bytes: Uint8Array;
}

export class Downloader {
  readonly #agent: Agent;
  readonly #limits: DownloadLimits;
  readonly #loopback: boolean;

  constructor({ loopback, authority, limits = LIMITS }: DownloaderParts) {
    this.#loopback = loopback;
    this.#limits = limits;
    this.#agent = new Agent({
      connect: {
        lookup: reachableLookup(loopback),
        timeout: limits.connectMs,
        ...(authority !== undefined && { ca: withSystem(authority) }),
      },
      headersTimeout: limits.idleMs,
      bodyTimeout: limits.idleMs,
    });
  }

  /**
   * @throws EngineError `PLUGIN_INVALID` when what came is not what was wanted, or may not be asked for: trying again changes that only when somebody
   *   does; `MODULE_UNAVAILABLE` when nothing came.
   */
  async get(wanted: Wanted): Promise<Downloaded> {
    const timeout = AbortSignal.timeout(this.#limits.totalMs);
    const signal = wanted.signal ? AbortSignal.any([wanted.signal, timeout]) : timeout;
    try {
      return await this.#follow(wanted, signal);
    } catch (error) {
      const known = findEngineError(error);
      if (known) throw known;
      const reason = timeout.aborted ? `not complete after ${this.#limits.totalMs / 1000} seconds` : reasonOf(error);
      throw new EngineError('MODULE_UNAVAILABLE', `${placeOf(wanted.url)}: ${reason}`, error);
    }
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #follow(wanted: Wanted, signal: AbortSignal): Promise<Downloaded> {
    let { url, headers = {} } = wanted;
    for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
      checkHost(url, this.#loopback);
      const answer = await request(url, { dispatcher: this.#agent, signal, headers: { ...headers, 'accept-encoding': 'identity' } });
      const { statusCode, body } = answer;
      if (statusCode === 200) return { status: 200, headers: answer.headers, bytes: await readBody(answer, wanted) };
      // Nobody reads it: the connection goes with it.
      body.on('error', () => {}).destroy();
      if (wanted.also?.includes(statusCode)) return { status: statusCode, headers: answer.headers, bytes: new Uint8Array() };
      if (![301, 302, 303, 307, 308].includes(statusCode))
        throw new EngineError(
          isLasting(statusCode) ? 'PLUGIN_INVALID' : 'MODULE_UNAVAILABLE',
          `${placeOf(url)}: answers with status ${statusCode}`,
        );
      const next = redirectOf(url, answer.headers.location);
      // Credentials are for whom they were meant.
      if (next.origin !== url.origin) headers = without(headers, 'authorization');
      url = next;
    }
    throw new EngineError('PLUGIN_INVALID', `${placeOf(wanted.url)}: redirects more than ${REDIRECTS_MAX} times`);
  }
}

/** `https://example.com/p.wasm`, without what may be a secret in it. */
export function placeOf(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

async function readBody({ headers, body }: Awaited<ReturnType<typeof request>>, { url, bytesMax, sha256 }: Wanted): Promise<Uint8Array> {
  const tooLarge = (): EngineError => new EngineError('PLUGIN_INVALID', `${placeOf(url)}: larger than ${bytesMax} bytes`);
  if (Number(headers['content-length'] ?? 0) > bytesMax) {
    body.on('error', () => {}).destroy();
    throw tooLarge();
  }
  const hash = createHash('sha256');
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > bytesMax) throw tooLarge();
    chunks.push(chunk);
    hash.update(chunk);
  }
  const found = hash.digest('hex');
  if (sha256 !== undefined && found !== sha256)
    throw new EngineError('PLUGIN_INVALID', `${placeOf(url)}: its SHA-256 is ${found}, and not ${sha256}`);
  return Buffer.concat(chunks, length);
}

/** Who is told so once more has to do something about it: there is none, or one may not. */
function isLasting(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 425 && status !== 429;
}

function redirectOf(from: URL, location: string | string[] | undefined): URL {
  const text = Array.isArray(location) ? location[0] : location;
  const refuse = (why: string): EngineError => new EngineError('PLUGIN_INVALID', `${placeOf(from)}: redirects ${why}`);
  if (!text || !URL.canParse(text, from.href)) throw refuse('to nowhere');
  const next = new URL(text, from.href);
  if (next.username || next.password) throw refuse('with a password');
  if (next.protocol !== 'https:' && next.protocol !== from.protocol) throw refuse(`from ${from.protocol} to ${next.protocol}`);
  return next;
}

function without(headers: Readonly<Record<string, string>>, name: string): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([key]) => key.toLowerCase() !== name));
}

/** An authority that is named is one more: Node would take it in place of all others. */
function withSystem(authority: string): string[] {
  return [...getCACertificates('default'), authority];
}

/** Also where undici has wrapped it, as it does what a lookup says. */
function findEngineError(error: unknown): EngineError | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (at instanceof EngineError) return at;
    if (at instanceof AggregateError) {
      const inner = at.errors.map(findEngineError).find((found) => found !== undefined);
      if (inner) return inner;
    }
  }
  return undefined;
}

/** `ECONNREFUSED`, or a sentence. */
function reasonOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  const message = messageOf(error);
  return message && typeof code === 'string' && !message.includes(code) ? `${message} (${code})` : message || String(code ?? error);
}
