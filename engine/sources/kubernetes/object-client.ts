/**
 * Objects of the API server that engines write, one by one, and in JSON: statuses, reports, leases, events; and lists and watches of such
 * kinds. Paths begin with `/api`.
 */
import { ApiClient } from './api-client.ts';
import { failureOf } from './api-failure.ts';
import { readBody } from './body.ts';
import type { Connection, Request } from './connection.ts';
import { parseJson, type RawRecord, readStatus } from './encodings.ts';
import type { Resource } from './resources.ts';
import { spread, type Timing } from './timing.ts';

const JSON_TYPE = 'application/json';
const APPLY_TYPE = 'application/apply-patch+yaml';
const MERGE_TYPE = 'application/merge-patch+json';
const OBJECT_BYTES_MAX = 4 * 1024 * 1024;
const PAGE_LIMIT = 250;
/** Whose fields they are that engines apply: those of all of them, so that none is in another's way. */
const MANAGER = 'sluice';

type Kind = Pick<Resource, 'kind' | 'apiVersion' | 'plural'>;

export class ObjectClient {
  readonly #connection: Pick<Connection, 'send'>;
  readonly #api: Pick<ApiClient, 'list' | 'watch'>;
  readonly #timing: Timing;
  readonly #closed = new AbortController();

  constructor(connection: Pick<Connection, 'get' | 'send'>, timing: Timing) {
    this.#connection = connection;
    this.#api = new ApiClient(connection, timing);
    this.#timing = timing;
  }

  /** undefined: there is none. @throws ApiFailure */
  async get(path: string): Promise<RawRecord | undefined> {
    const { status, object } = await this.#ask({ method: 'GET', path, accept: JSON_TYPE }, [404]);
    return status === 404 ? undefined : object;
  }

  /** Puts an object into a collection. @throws ApiFailure */
  async create(path: string, object: object): Promise<'done' | 'exists'> {
    const { status } = await this.#ask({ method: 'POST', path, accept: JSON_TYPE, body: jsonOf(JSON_TYPE, object) }, [409]);
    return status === 409 ? 'exists' : 'done';
  }

  /** Server-side apply, by force. `absent`: also where the object has another uid than this one says. @throws ApiFailure */
  async apply(path: string, object: object): Promise<'done' | 'absent'> {
    const body = jsonOf(APPLY_TYPE, object);
    const query = new URLSearchParams({ fieldManager: MANAGER, force: 'true' });
    const { status } = await this.#ask({ method: 'PATCH', path: `${path}?${query}`, accept: JSON_TYPE, body }, [404, 409]);
    return status === 404 || status === 409 ? 'absent' : 'done';
  }

  /** A merge patch; with a resourceVersion in it of that version only. @throws ApiFailure */
  async merge(path: string, patch: object): Promise<'done' | 'conflict' | 'absent'> {
    const { status } = await this.#ask({ method: 'PATCH', path, accept: JSON_TYPE, body: jsonOf(MERGE_TYPE, patch) }, [404, 409]);
    if (status === 404) return 'absent';
    return status === 409 ? 'conflict' : 'done';
  }

  /** Calls back for each object of a kind, page by page. Returns the version that the list was of. @throws ApiFailure */
  async list(kind: Kind, each: (object: RawRecord) => void): Promise<number> {
    for (let next = ''; ; ) {
      const page = await this.#api.list({ ...kind, encoding: 'json' }, { limit: PAGE_LIMIT, continue: next }, this.#closed.signal);
      for (const item of page.items) each(item);
      next = page.continue;
      if (!next) return page.resourceVersion;
    }
  }

  /** Tells what happens to objects of a kind after a version, until the server or the signal ends it. @throws ApiFailure */
  async watch(
    kind: Kind,
    resourceVersion: number,
    tell: (type: 'changed' | 'deleted', object: RawRecord) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const from = { resourceVersion, lastMs: spread(this.#timing.watchMs) };
    const event = ({ type, object }: { type: string; object: RawRecord }): void => {
      if (type !== 'BOOKMARK') tell(type === 'DELETED' ? 'deleted' : 'changed', object);
    };
    await this.#api.watch({ ...kind, encoding: 'json' }, from, { opened: () => {}, event }, AbortSignal.any([signal, this.#closed.signal]));
  }

  close(): void {
    this.#closed.abort();
  }

  /** `known`: statuses that are an answer like any other. */
  async #ask(request: Request, known: readonly number[]): Promise<{ readonly status: number; readonly object: RawRecord }> {
    const { answerMs } = this.#timing;
    const { status, contentType, stream, retryAfterMs } = await this.#connection.send(request, this.#closed.signal);
    const bytes = await readBody(stream, OBJECT_BYTES_MAX, answerMs, this.#closed.signal);
    if (known.includes(status)) return { status, object: {} };
    if (status < 200 || status > 299) throw failureOf(status, readStatus(contentType, bytes), retryAfterMs);
    return { status, object: parseJson(bytes) };
  }
}

function jsonOf(type: string, object: object): { readonly type: string; readonly text: string } {
  return { type, text: JSON.stringify(object) };
}
