/** Flows and events, as they happen. */
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { z } from 'zod';
import type * as schemas from './schemas.ts';

/** Something that goes on happening: the latest of it, and each one from now on. */
export interface Stream<T> {
  latest(count: number): T[];
  follow(tell: (item: T) => void): () => void;
}

export interface StreamParts {
  readonly flows: Stream<z.infer<typeof schemas.flow>>;
  readonly events: Stream<z.infer<typeof schemas.event>>;
}

type Fail = (reply: FastifyReply, status: number, code: string, message: string) => FastifyReply;

/** Unsent bytes after which a follower that reads too slowly misses flows. */
const FOLLOWER_BACKLOG = 1 << 20;
const FOLLOWERS_MAX = 32;

/** Routes whose answer is one JSON object a line, and may go on as long as the client listens. */
export function addStreams(api: FastifyInstance, parts: StreamParts, fail: Fail): void {
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
