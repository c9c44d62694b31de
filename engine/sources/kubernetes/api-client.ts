/** Questions to the API server: a page of a list, a watch, and whether a kind is there. Every answer is checked before it is believed. */
import { z } from 'zod';
import { ApiFailure, failureOf } from './api-failure.ts';
import { asFailure, endStreamAfter, isCut, readBody } from './body.ts';
import type { Answer, Connection } from './connection.ts';
import { type ApiEvent, encodingOf, type Page, parseJson, readStatus } from './encodings.ts';
import { groupPath, type Resource, resourcePath } from './resources.ts';
import type { Timing } from './timing.ts';

/** Some times what 500 objects have. Objects may be 1.5 MB each: of those one asks for fewer at once. */
const PAGE_BYTES_MAX = 24 * 1024 * 1024;
const STATUS_BYTES_MAX = 256 * 1024;
const DISCOVERY_BYTES_MAX = 4 * 1024 * 1024;

/** Source: k8s.io/apimachinery, meta/v1. */
const resourceList = z.looseObject({ kind: z.literal('APIResourceList'), resources: z.array(z.looseObject({ name: z.string() })) });
const groupList = z.looseObject({
  kind: z.literal('APIGroupList'),
  groups: z.array(z.looseObject({ versions: z.array(z.looseObject({ groupVersion: z.string() })) })),
});

export class ApiClient {
  readonly #connection: Pick<Connection, 'get'>;
  readonly #timing: Timing;

  constructor(connection: Pick<Connection, 'get'>, timing: Timing) {
    this.#connection = connection;
    this.#timing = timing;
  }

  /** A page of at most `limit` objects, from the beginning (as the cluster is now) or from where another page ended. @throws ApiFailure */
  async list(resource: Resource, at: { readonly limit: number; readonly continue: string }, signal: AbortSignal): Promise<Page> {
    const encoding = encodingOf(resource);
    const query = new URLSearchParams({ limit: String(at.limit), ...(at.continue && { continue: at.continue }) });
    const answer = await this.#get(`${resourcePath(resource)}?${query}`, encoding.accept, signal);
    return encoding.page(resource, await readBody(answer.stream, PAGE_BYTES_MAX, this.#timing.pageMs, signal));
  }

  /**
   * Tells what happens after a version until the server ends the watch, which it does after `lastMs` at the latest.
   *
   * @throws ApiFailure
   */
  async watch(
    resource: Resource,
    from: { readonly resourceVersion: number; readonly lastMs: number },
    listen: { opened(): void; event(event: ApiEvent): void },
    signal: AbortSignal,
  ): Promise<void> {
    const encoding = encodingOf(resource);
    const query = new URLSearchParams({
      watch: '1',
      allowWatchBookmarks: 'true',
      resourceVersion: String(from.resourceVersion),
      timeoutSeconds: String(Math.ceil(from.lastMs / 1000)),
    });
    const { stream } = await this.#get(`${resourcePath(resource)}?${query}`, encoding.acceptWatch, signal);
    const { silenceMs } = this.#timing;
    const silence = endStreamAfter(stream, silenceMs, `a watch without a bookmark for ${silenceMs / 1000} s`, signal);
    const frames = encoding.frames();
    let cut = false;
    try {
      listen.opened();
      for await (const chunk of stream as AsyncIterable<Buffer>)
        frames.add(chunk, (frame) => {
          const event = encoding.event(resource, frame);
          silence.again();
          listen.event(event);
        });
      cut = isCut(stream);
    } catch (error) {
      throw asFailure(error);
    } finally {
      silence.stop();
      stream.destroy();
    }
    if (cut || frames.pendingBytes)
      throw new ApiFailure('unreachable', cut ? 'the connection of the watch ended' : 'the watch ended in the middle of an object');
  }

  /**
   * Whether the server has a kind, where asking for it was answered by 404: a part on the way to the server can say that, too.
   *
   * @throws ApiFailure when it cannot be told.
   */
  async isServed(resource: Resource, signal: AbortSignal): Promise<boolean> {
    const group = await this.#discover(groupPath(resource), resourceList, signal);
    if (group) return group.resources.some(({ name }) => name === resource.plural);
    const all = await this.#discover('/apis', groupList, signal);
    if (!all) throw new ApiFailure('nonsense', 'nonsense: an API without a list of its groups');
    if (all.groups.some(({ versions }) => versions.some(({ groupVersion }) => groupVersion === resource.apiVersion)))
      throw new ApiFailure('absent', `${resource.apiVersion} is not there, and in the list of what is`);
    return false;
  }

  /** undefined: 404. */
  async #discover<T extends z.ZodType>(path: string, schema: T, signal: AbortSignal): Promise<z.output<T> | undefined> {
    try {
      const answer = await this.#get(path, 'application/json', signal);
      const found = schema.safeParse(parseJson(await readBody(answer.stream, DISCOVERY_BYTES_MAX, this.#timing.pageMs, signal)));
      if (found.success) return found.data;
      throw new ApiFailure('nonsense', `nonsense: ${path} is no list of what the API has`);
    } catch (error) {
      if (error instanceof ApiFailure && error.kind === 'absent') return undefined;
      throw error;
    }
  }

  async #get(path: string, accept: string, signal: AbortSignal): Promise<Answer> {
    const answer = await this.#connection.get(path, accept, signal);
    if (answer.status === 200) {
      const wanted = accept.split(';', 1)[0] as string;
      if (answer.contentType.startsWith(wanted)) return answer;
      answer.stream.destroy();
      throw new ApiFailure('nonsense', `nonsense: ${answer.contentType || 'an answer without a type'} where ${wanted} was asked for`);
    }
    const body = await readBody(answer.stream, STATUS_BYTES_MAX, this.#timing.answerMs, signal).catch(() => Buffer.alloc(0));
    throw failureOf(answer.status, readStatus(answer.contentType, body), answer.retryAfterMs);
  }
}
