/** The HTTP API: health, metrics, status, plugins, flows, and the OpenAPI document that describes them. */
import swagger from '@fastify/swagger';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import type { Registry } from 'prom-client';
import { z } from 'zod';
import { type HostPort, isLoopback } from '../config.ts';
import { EngineError, type ErrorCode, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import * as schemas from './schemas.ts';

/** Something that goes on happening: the latest of it, and each one from now on. */
interface Stream<T> {
  latest(count: number): T[];
  follow(tell: (item: T) => void): () => void;
}

export interface ApiParts {
  readonly version: string;
  readonly ready: () => boolean;
  readonly status: () => z.infer<typeof schemas.status>;
  /** Puts in force what is in the source now. */
  readonly reconcile: () => Promise<z.infer<typeof schemas.status>>;
  readonly explain: (query: { from: string; to: string; port: string; verify: boolean }) => z.infer<typeof schemas.explanation>[];
  readonly hostFirewall: () => z.infer<typeof schemas.hostFirewall>;
  readonly changeHostFirewall: (change: 'confirm' | 'retry') => Promise<void>;
  readonly plugins: () => z.infer<typeof schemas.plugin>[];
  readonly pushPlugin: (name: string, module: Uint8Array) => Promise<z.infer<typeof schemas.plugin>>;
  readonly flows: Stream<z.infer<typeof schemas.flow>>;
  readonly events: Stream<z.infer<typeof schemas.event>>;
  readonly metrics: Registry;
  readonly moduleBytesMax: number;
  readonly log: Logger;
}

/** What a client of each error did wrong, or 500. */
const STATUS_OF: Readonly<Partial<Record<ErrorCode, number>>> = {
  PLUGIN_UNKNOWN: 404,
  PLUGIN_INVALID: 422,
  CONFIG_INVALID: 400,
  NOTHING_PENDING: 409,
};

/** Unsent bytes after which a follower that reads too slowly misses flows. */
const FOLLOWER_BACKLOG = 1 << 20;
const FOLLOWERS_MAX = 32;

export async function createApi(parts: ApiParts): Promise<FastifyInstance> {
  const api: FastifyInstance = Fastify({ bodyLimit: parts.moduleBytesMax, forceCloseConnections: true });
  await api.register(swagger, {
    openapi: {
      info: { title: 'Sluice', version: parts.version, description: 'The API of one node’s engine. Errors are {code, message}.' },
    },
  });
  guard(api, parts.log);
  addHealth(api, parts);
  addPolicy(api, parts);
  addHostFirewall(api, parts);
  addPlugins(api, parts);
  addStreams(api, parts);
  return api;
}

/** Listens. @throws EngineError `API_LISTEN` */
export async function listen(api: FastifyInstance, { host, port }: HostPort): Promise<string> {
  try {
    return await api.listen({ host, port });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new EngineError(
      'API_LISTEN',
      `Cannot listen on ${host}:${port}: ${code === 'EADDRINUSE' ? 'the address is in use; is another sluice running?' : (code ?? messageOf(error))}`,
      error,
    );
  }
}

function guard(api: FastifyInstance, log: Logger): void {
  // A web page must not talk to a loopback API by rebinding its own name to 127.0.0.1.
  api.addHook('onRequest', async (request, reply) => {
    const { hostname } = request;
    if (!isLoopback(hostname.replace(/^\[|\]$/g, '')))
      await fail(reply, 403, 'CONFIG_INVALID', `Cannot answer for host ${hostname}: use a loopback address`);
  });
  api.setErrorHandler(async (error, _request, reply) => {
    if (error instanceof EngineError) return fail(reply, STATUS_OF[error.code] ?? 500, error.code, error.message);
    const { statusCode = 500, message } = error as { statusCode?: number; message: string };
    if (statusCode >= 500) log.error({ err: error }, 'request failed');
    return fail(reply, statusCode, statusCode === 413 ? 'PLUGIN_INVALID' : 'CONFIG_INVALID', message);
  });
  api.setNotFoundHandler(async (request, reply) =>
    fail(reply, 404, 'CONFIG_INVALID', `Cannot ${request.method} ${request.url}: no such path; see /openapi.json`),
  );
}

function fail(reply: FastifyReply, status: number, code: string, message: string): FastifyReply {
  return reply.code(status).send({ code, message });
}

function addHealth(api: FastifyInstance, parts: ApiParts): void {
  const text = { schema: { tags: ['health'], response: { 200: { type: 'string' }, 503: { type: 'string' } } } };
  api.get('/healthz', text, async (_request, reply) => reply.type('text/plain').send('ok\n'));
  api.get('/readyz', text, async (_request, reply) =>
    reply
      .code(parts.ready() ? 200 : 503)
      .type('text/plain')
      .send(parts.ready() ? 'ready\n' : 'starting\n'),
  );
  api.get('/metrics', { schema: { tags: ['health'], response: { 200: { type: 'string' } } } }, async (_request, reply) =>
    reply.type(parts.metrics.contentType).send(await parts.metrics.metrics()),
  );
  api.get('/openapi.json', { schema: { hide: true } }, async () => api.swagger());
}

function addPolicy(api: FastifyInstance, parts: ApiParts): void {
  const response = { 200: schemas.json(schemas.status), default: schemas.json(schemas.failure) };
  api.get('/v1/status', { schema: { tags: ['policy'], summary: 'What is in force, and what is not', response } }, async () =>
    parts.status(),
  );
  api.post(
    '/v1/reconcile',
    { schema: { tags: ['policy'], summary: 'Puts in force what is in the source now, and returns when it is', response } },
    async () => parts.reconcile(),
  );
  const text = { type: 'string', maxLength: 512 };
  api.get<{ Querystring: { from: string; to: string; port: string; verify?: boolean } }>(
    '/v1/explain',
    {
      schema: {
        tags: ['policy'],
        summary: 'Which tier, policy and rule decide a flow, at both its ends',
        querystring: {
          type: 'object',
          properties: {
            from: { ...text, description: 'NAMESPACE/POD or an address' },
            to: { ...text, description: 'NAMESPACE/POD or an address' },
            port: { ...text, description: '80/tcp, 53/udp, icmp' },
            verify: { type: 'boolean', default: false, description: 'also ask the kernel, and compare' },
          },
          required: ['from', 'to', 'port'],
        },
        response: { 200: schemas.json(z.array(schemas.explanation)), default: schemas.json(schemas.failure) },
      },
    },
    async ({ query: { from, to, port, verify = false } }) => parts.explain({ from, to, port, verify }),
  );
}

function addHostFirewall(api: FastifyInstance, parts: ApiParts): void {
  const response = { 200: schemas.json(schemas.hostFirewall), default: schemas.json(schemas.failure) };
  const route = (summary: string) => ({ schema: { tags: ['host firewall'], summary, response } });
  api.get('/v1/host-firewall', route('Whether the host firewall is on, and whether a change waits for its confirmation'), async () =>
    parts.hostFirewall(),
  );
  const change = (name: 'confirm' | 'retry', summary: string): void => {
    api.post(`/v1/host-firewall/${name}`, route(summary), async () => {
      await parts.changeHostFirewall(name);
      return parts.hostFirewall();
    });
  };
  change('confirm', 'Makes the pending change lasting');
  change('retry', 'Puts a change that lapsed in force once more, until it is confirmed');
}

function addPlugins(api: FastifyInstance, parts: ApiParts): void {
  api.addContentTypeParser(['application/wasm', 'application/octet-stream'], { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body),
  );
  const plugin = schemas.json(schemas.plugin);
  const failure = schemas.json(schemas.failure);
  api.get(
    '/v1/plugins',
    { schema: { tags: ['plugins'], summary: 'The declared plugins', response: { 200: schemas.json(z.array(schemas.plugin)) } } },
    async () => parts.plugins(),
  );
  api.put<{ Params: { name: string } }>(
    '/v1/plugins/:name',
    {
      schema: {
        tags: ['plugins'],
        summary: 'Replaces the module of a plugin',
        description:
          'The body is the WebAssembly module. When the answer is 200, no verdict of the module before counts. A module that does not load leaves the one before in place.',
        params: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] },
        consumes: ['application/wasm'],
        response: { 200: plugin, 404: failure, 422: failure, default: failure },
      },
    },
    async (request) => {
      if (!Buffer.isBuffer(request.body) || !request.body.length)
        throw new EngineError('PLUGIN_INVALID', 'Cannot push plugin: the body must be a WebAssembly module, as application/wasm');
      return parts.pushPlugin(request.params.name, request.body);
    },
  );
}

/** Routes whose answer is one JSON object a line, and may go on as long as the client listens. */
function addStreams(api: FastifyInstance, parts: ApiParts): void {
  let followers = 0;
  const add = <T>(path: string, tag: string, summary: string, stream: Stream<T>): void => {
    const lastMost = { type: 'integer', minimum: 0, maximum: 4096, default: 100 };
    const description = 'keep the answer open; a line {"lost": n} says that this client was too slow for n of them';
    const querystring = { type: 'object', properties: { last: lastMost, follow: { type: 'boolean', default: false, description } } };
    const schema = { tags: [tag], summary, querystring, produces: ['application/x-ndjson'] };
    api.get<{ Querystring: { last?: number; follow?: boolean } }>(path, { schema }, async (request, reply) => {
      const { last, follow } = request.query;
      const latest = last ? stream.latest(last).map((item) => `${JSON.stringify(item)}\n`) : [];
      if (!follow) return reply.type('application/x-ndjson').send(latest.join(''));
      if (followers >= FOLLOWERS_MAX)
        return fail(reply, 429, 'API_REFUSED', `Cannot follow ${tag}: ${FOLLOWERS_MAX} clients follow already`);
      followers += 1;
      reply.hijack();
      const { raw } = reply;
      raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
      raw.write(latest.join(''));
      let lost = 0;
      const end = stream.follow((item) => {
        if (raw.writableLength > FOLLOWER_BACKLOG) {
          lost += 1;
          return;
        }
        if (lost) raw.write(`${JSON.stringify({ lost })}\n`);
        lost = 0;
        raw.write(`${JSON.stringify(item)}\n`);
      });
      raw.on('close', () => {
        followers -= 1;
        end();
      });
    });
  };
  add('/v1/flows', 'flows', 'Flows that a plugin decided or the kernel denied, one JSON object a line', parts.flows);
  add('/v1/events', 'events', 'What came in force, what could not, and what was mended, one JSON object a line', parts.events);
}
