/** The life of plugins over HTTP: push, promote, roll back, forget, look. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { EngineError } from '../errors.ts';
import type { PushMode } from '../plugins/registry.ts';
import * as schemas from './schemas.ts';

type Plugin = z.infer<typeof schemas.plugin>;

export interface PluginParts {
  readonly plugins: () => Plugin[];
  /** @throws EngineError `PLUGIN_UNKNOWN` */
  readonly plugin: (name: string) => Plugin;
  readonly pushPlugin: (name: string, module: Uint8Array, mode: PushMode, weight: number) => Promise<z.infer<typeof schemas.pushed>>;
  readonly changePlugin: (name: string, change: 'promote' | 'rollback' | 'remove') => Promise<Plugin>;
  readonly moduleBytesMax: number;
}

const WEIGHT = 10;

export function addPlugins(api: FastifyInstance, parts: PluginParts): void {
  api.addContentTypeParser(['application/wasm', 'application/octet-stream'], { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body),
  );
  const plugin = schemas.json(schemas.plugin);
  const failure = schemas.json(schemas.failure);
  const named = { params: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] }, tags: ['plugins'] };
  const response = { 200: plugin, 404: failure, 409: failure, 422: failure, default: failure };
  api.get(
    '/v1/plugins',
    { schema: { tags: ['plugins'], summary: 'The declared plugins', response: { 200: schemas.json(z.array(schemas.plugin)) } } },
    async () => parts.plugins(),
  );
  api.get<{ Params: { name: string } }>(
    '/v1/plugins/:name',
    { schema: { ...named, summary: 'One plugin, with its versions and their history', response } },
    async ({ params }) => parts.plugin(params.name),
  );
  addPush(api, parts, named);
  const change = (name: 'promote' | 'rollback', summary: string): void => {
    api.post<{ Params: { name: string } }>(`/v1/plugins/:name/${name}`, { schema: { ...named, summary, response } }, async ({ params }) =>
      parts.changePlugin(params.name, name),
    );
  };
  change('promote', 'Puts the version that runs as shadow or canary in force');
  change('rollback', 'Takes that version away; without one, puts the version before in force again');
  api.delete<{ Params: { name: string } }>(
    '/v1/plugins/:name',
    { schema: { ...named, summary: 'Forgets what was pushed: the declared file is in force again, or nothing', response } },
    async ({ params }) => parts.changePlugin(params.name, 'remove'),
  );
}

function addPush(api: FastifyInstance, parts: PluginParts, named: object): void {
  const failure = schemas.json(schemas.failure);
  const querystring = {
    type: 'object',
    properties: {
      mode: {
        type: 'string',
        enum: ['enforce', 'shadow', 'canary'],
        default: 'enforce',
        description: 'enforce: in force at once; shadow: evaluated and compared, never enforced; canary: decides its share of the flows',
      },
      weight: { type: 'integer', minimum: 1, maximum: 99, description: `of 100 flows, ${WEIGHT} by default; only with mode=canary` },
    },
    additionalProperties: false,
  };
  api.put<{ Params: { name: string }; Querystring: { mode?: PushMode; weight?: number } }>(
    '/v1/plugins/:name',
    {
      schema: {
        ...named,
        summary: 'Takes a module for a plugin',
        description:
          'The body is the WebAssembly module. When the answer to mode=enforce is 200, no verdict of the module before counts. A module that does not load leaves the one before in place. The answer says what the module reads, which capabilities it wants, and what differs from the version in force.',
        querystring,
        consumes: ['application/wasm'],
        response: { 200: schemas.json(schemas.pushed), 404: failure, 422: failure, default: failure },
      },
    },
    async ({ params, query, body }) => {
      if (!Buffer.isBuffer(body) || !body.length)
        throw new EngineError('PLUGIN_INVALID', 'Cannot push plugin: the body must be a WebAssembly module, as application/wasm');
      const { mode = 'enforce', weight } = query;
      if (weight !== undefined && mode !== 'canary')
        throw new EngineError('CONFIG_INVALID', `Cannot push plugin ${params.name} with weight=${weight}: only mode=canary has one`);
      return parts.pushPlugin(params.name, body, mode, weight ?? WEIGHT);
    },
  );
}
