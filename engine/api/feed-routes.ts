/** Flows and events as they happen, one JSON object a line; with `follow` that goes on for as long as the client listens. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { EngineError } from '../errors.ts';
import type { Feed } from '../observe/feed.ts';
import type { FlowView } from '../observe/flow-fields.ts';
import { FILTER_NAMES, FLOW_FILTERS, type FlowQuery, parseFlowQuery } from '../observe/flow-filter.ts';
import { FLOWS_MAX } from '../observe/flow-log.ts';
import type { Lost, Outlet } from '../observe/outlet.ts';
import * as schemas from './schemas.ts';

/** The latest of something that goes on happening, and each one from now on. */
export type FeedView<T> = Pick<Feed<T>, 'latest' | 'subscribe'>;

export interface FeedParts {
  readonly flows: FeedView<FlowView>;
  readonly events: FeedView<z.infer<typeof schemas.event>>;
}

type Refuse = (reply: FastifyReply, status: number, code: string, message: string) => FastifyReply;

/** Items that wait for one client at most; it reads too slowly for what comes beyond. */
const CLIENT_QUEUE = 4096;
const FOLLOWERS_MAX = 32;
const LAST = 100;
const NDJSON = 'application/x-ndjson';

/** The route of one feed. */
interface FeedRoute<T> {
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly feed: FeedView<T>;
  readonly item: z.ZodType;
  /** Of the query, beside last and follow. */
  readonly properties: Readonly<Record<string, object>>;
  /** Which items a query is about; all of them, where it says nothing. @throws EngineError `CONFIG_INVALID` */
  readonly wants: (query: FlowQuery) => ((item: T) => boolean) | undefined;
}

interface FeedQuery extends FlowQuery {
  readonly last?: number;
  readonly follow?: boolean;
}

export function addFeeds(api: FastifyInstance, parts: FeedParts, refuse: Refuse): void {
  const followers = { count: 0 };
  const text = { type: 'string', minLength: 1, maxLength: 512 };
  addFeed(api, followers, refuse, {
    path: '/v1/flows',
    tag: 'flows',
    summary: 'Flows that a plugin decided or the kernel denied, one JSON object a line',
    feed: parts.flows,
    item: schemas.flow,
    properties: Object.fromEntries(
      FILTER_NAMES.map((name) => [name, { type: 'array', maxItems: 32, items: text, description: FLOW_FILTERS[name].describe }]),
    ),
    wants: (query) => (FILTER_NAMES.some((name) => query[name]) ? parseFlowQuery(query) : undefined),
  });
  addFeed(api, followers, refuse, {
    path: '/v1/events',
    tag: 'events',
    summary: 'What came in force, what could not, and what was mended, one JSON object a line',
    feed: parts.events,
    item: schemas.event,
    properties: {},
    wants: () => undefined,
  });
}

function addFeed<T>(api: FastifyInstance, followers: { count: number }, refuse: Refuse, route: FeedRoute<T>): void {
  const { path, tag, summary, feed, item } = route;
  const properties = {
    last: { type: 'integer', minimum: 0, maximum: FLOWS_MAX, default: LAST, description: 'how many of the latest to begin with' },
    follow: {
      type: 'boolean',
      default: false,
      description: 'keep the answer open; a line {"lost": n} says that this client was too slow for n of them',
    },
    ...route.properties,
  };
  const schema = {
    tags: [tag],
    summary,
    querystring: { type: 'object', properties },
    produces: [NDJSON],
    response: { 200: { description: 'a line each', content: { [NDJSON]: { schema: schemas.json(item) } } } },
  };
  const preValidation = async (request: FastifyRequest): Promise<void> => refuseUnknown(request.query as object, properties, tag);
  api.get<{ Querystring: FeedQuery }>(path, { schema, preValidation }, async (request, reply) => {
    const { last = LAST, follow, ...query } = request.query;
    const wants = route.wants(query);
    const latest = toLines(feed.latest(last, wants));
    if (!follow) return reply.type(NDJSON).send(latest);
    if (followers.count >= FOLLOWERS_MAX)
      return refuse(reply, 429, 'API_REFUSED', `Cannot follow ${tag}: ${FOLLOWERS_MAX} clients follow already`);
    followers.count += 1;
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { 'content-type': NDJSON });
    raw.write(latest);
    const end = feed.subscribe(new ClientOutlet<T>(request, reply, wants));
    raw.on('close', () => {
      followers.count -= 1;
      end();
    });
  });
}

/** A filter with a typing error in it must not show everything. */
function refuseUnknown(query: object, properties: object, tag: string): void {
  const unknown = Object.keys(query).find((name) => !Object.hasOwn(properties, name));
  if (unknown === undefined) return;
  const known = Object.keys(properties).join(', ');
  throw new EngineError('CONFIG_INVALID', `Cannot show ${tag} by "${unknown}": must be one of ${known}`);
}

/** A client that follows: it is written to as it reads. */
class ClientOutlet<T> implements Outlet<T> {
  readonly kind = 'api';
  readonly name: string;
  readonly capacity = CLIENT_QUEUE;
  readonly wants: (item: T) => boolean;
  readonly #raw: FastifyReply['raw'];

  constructor({ ip, socket }: FastifyRequest, reply: FastifyReply, wants: (item: T) => boolean = () => true) {
    this.name = `${ip}:${socket.remotePort ?? 0}`;
    this.wants = wants;
    this.#raw = reply.raw;
  }

  write(items: readonly (T | Lost)[]): Promise<void> {
    return new Promise((resolve, reject) => this.#raw.write(toLines(items), (error) => (error ? reject(error) : resolve())));
  }
}

function toLines(items: readonly unknown[]): string {
  return items.map((item) => `${JSON.stringify(item)}\n`).join('');
}
