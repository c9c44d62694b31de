/** The HTTP API: health, metrics, status, plugins, flows, and the OpenAPI document that describes them. */
import swagger from '@fastify/swagger';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import type { Registry } from 'prom-client';
import { z } from 'zod';
import type { HostPort } from '../config.ts';
import type { ApiAccess } from '../config-file.ts';
import { EngineError, type ErrorCode, messageOf } from '../errors.ts';
import type { ExplainedFlow, ExplainQuery, RequestQuery } from '../explain/explanation.ts';
import type { NameView } from '../explain/known-names-view.ts';
import type { Logger } from '../log.ts';
import { guardAccess } from './access.ts';
import { addFeeds, type FeedParts } from './feed-routes.ts';
import { addPlugins, type PluginParts } from './plugin-routes.ts';
import * as schemas from './schemas.ts';

export interface ApiParts extends PluginParts, FeedParts {
  readonly version: string;
  readonly ready: () => boolean;
  readonly status: () => z.infer<typeof schemas.status>;
  /** Puts in force what is in the source now. */
  readonly reconcile: () => Promise<z.infer<typeof schemas.status>>;
  readonly explain: (query: ExplainQuery) => Promise<ExplainedFlow[]>;
  readonly names: () => NameView[];
  readonly hostFirewall: () => z.infer<typeof schemas.hostFirewall>;
  readonly changeHostFirewall: (change: 'confirm' | 'retry') => Promise<void>;
  readonly metrics: Registry;
  readonly access: ApiAccess;
  readonly listen: HostPort;
  readonly log: Logger;
}

/** The status of each error that is the client's; 500 is the engine's. */
const STATUS_OF: Readonly<Partial<Record<ErrorCode, number>>> = {
  PLUGIN_UNKNOWN: 404,
  PLUGIN_INVALID: 422,
  CONFIG_INVALID: 400,
  NOTHING_PENDING: 409,
};

export async function createApi(parts: ApiParts): Promise<FastifyInstance> {
  const { tls } = parts.access;
  // Who has a token needs no certificate: whether one is enough is decided where roles are.
  const https = tls && { cert: tls.cert, key: tls.key, ...(tls.ca && { ca: tls.ca, requestCert: true, rejectUnauthorized: false }) };
  const options = { bodyLimit: parts.moduleBytesMax, forceCloseConnections: true };
  const api = (https ? Fastify({ ...options, https }) : Fastify(options)) as unknown as FastifyInstance;
  await api.register(swagger, {
    openapi: {
      info: { title: 'Sluice', version: parts.version, description: 'The API of one node’s engine. Errors are {code, message}.' },
    },
  });
  guardAccess(api, parts.access, parts.listen.host, fail);
  answerErrors(api, parts.log);
  addHealth(api, parts);
  addPolicy(api, parts);
  addHostFirewall(api, parts);
  addPlugins(api, parts);
  addFeeds(api, parts, fail);
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

function answerErrors(api: FastifyInstance, log: Logger): void {
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
  api.get(
    '/v1/names',
    {
      schema: {
        tags: ['policy'],
        summary: 'Which addresses are known by domain names, to whom, until when, and for which rules',
        response: { 200: schemas.json(z.array(schemas.knownName)), default: schemas.json(schemas.failure) },
      },
    },
    async () => parts.names(),
  );
  const text = { type: 'string', maxLength: 512 };
  api.get<{ Querystring: ExplainQuerystring }>(
    '/v1/explain',
    {
      schema: {
        tags: ['policy'],
        summary: 'Which tier, policy and rule decide a flow, at both its ends',
        querystring: {
          type: 'object',
          properties: {
            from: { ...text, description: 'NAMESPACE/POD or an address' },
            to: { ...text, description: 'NAMESPACE/POD, an address or a domain name' },
            port: { ...text, description: '80/tcp, 53/udp, icmp' },
            verify: { type: 'boolean', default: false, description: 'also ask the kernel, and compare' },
            method: { ...text, description: 'of a request on that flow: any of these has it explained, too' },
            host: { ...text, description: 'of the request; the address where it is absent' },
            path: { type: 'string', maxLength: 8192, description: 'of the request, with its query; / where it is absent' },
            header: { type: 'array', maxItems: 64, items: { type: 'string', maxLength: 8192 }, description: 'of the request: name: value' },
            cookie: { type: 'array', maxItems: 64, items: { type: 'string', maxLength: 8192 }, description: 'of the request: name=value' },
          },
          required: ['from', 'to', 'port'],
        },
        response: { 200: schemas.json(z.array(schemas.explanation)), default: schemas.json(schemas.failure) },
      },
    },
    async ({ query: { from, to, port, verify = false, ...request } }) =>
      parts.explain({ from, to, port, verify, ...(Object.keys(request).length && { request: requestOf(request) }) }),
  );
}

interface ExplainQuerystring {
  readonly from: string;
  readonly to: string;
  readonly port: string;
  readonly verify?: boolean;
  readonly method?: string;
  readonly host?: string;
  readonly path?: string;
  readonly header?: readonly string[];
  readonly cookie?: readonly string[];
}

function requestOf({
  method = 'GET',
  host = '',
  path = '/',
  header = [],
  cookie = [],
}: Omit<ExplainQuerystring, 'from' | 'to' | 'port'>): RequestQuery {
  return { method: method.toUpperCase(), host, path, headers: header, cookies: cookie };
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
