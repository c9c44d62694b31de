/** Flows and events over HTTP: what is filtered, what is followed, and what a client that reads too slowly is told. */
import { connect, type Socket } from 'node:net';
import { Registry } from 'prom-client';
import { afterEach, describe, expect, test } from 'vitest';
import { type ApiParts, createApi, listen } from '../../../engine/api/api.ts';
import { NO_CONFIG_FILE } from '../../../engine/config-file.ts';
import { createLogger } from '../../../engine/log.ts';
import { Feed } from '../../../engine/observe/feed.ts';
import { FLOW_FIELDS, type FlowView } from '../../../engine/observe/flow-fields.ts';
import { FILTER_NAMES } from '../../../engine/observe/flow-filter.ts';
import { decided, denied } from '../../support/flows.ts';
import { until } from '../../support/test-node.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start() {
  const flows = new Feed<FlowView>(4096);
  const events = new Feed<never>(10);
  const parts = { version: '0', ready: () => true, metrics: new Registry(), flows, events, moduleBytesMax: 1000 };
  const options = { access: NO_CONFIG_FILE.access, listen: { host: '127.0.0.1', port: 0 }, log: createLogger('silent') };
  const api = await createApi({ ...parts, ...options } as unknown as ApiParts);
  closing.push(() => api.close());
  return { flows, events, api };
}

const get = async (api: Awaited<ReturnType<typeof start>>['api'], url: string) => api.inject({ url, headers: { host: '127.0.0.1' } });
const lines = (body: string): FlowView[] =>
  body
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));

describe('GET /v1/flows', () => {
  test.each([
    { query: '', want: [53, 443, 80, 5432] },
    { query: '?last=2', want: [80, 5432] },
    { query: '?verdict=deny', want: [53, 443, 80] },
    { query: '?verdict=deny&last=1', want: [80] },
    { query: '?port=443&port=53', want: [53, 443] },
    { query: '?port=443,80&verdict=deny', want: [443, 80] },
    { query: '?reason=policy&pod=shop/web&direction=egress&since=1h', want: [53, 443, 80] },
    { query: '?last=0', want: [] },
  ])('$query', async ({ query, want }) => {
    const { api, flows } = await start();
    for (const destinationPort of [53, 443, 80]) flows.add(denied({ destinationPort }));
    flows.add(decided());
    const { body, statusCode, headers } = await get(api, `/v1/flows${query}`);
    expect(statusCode).toBe(200);
    expect(headers['content-type']).toContain('application/x-ndjson');
    expect(lines(body).map(({ destination }) => destination.port)).toEqual(want);
  });

  test.each([
    { query: 'verdit=deny', says: 'Cannot show flows by "verdit": must be one of last, follow, verdict, reason' },
    { query: 'verdict=maybe', says: 'Cannot filter flows by verdict "maybe": must be allow or deny' },
    { query: 'since=never', says: 'must be a duration such as 5m' },
    { query: 'last=100000', says: 'querystring/last must be <= 4096' },
    { query: 'pod=', says: 'must NOT have fewer than 1 characters' },
  ])('refuses $query', async ({ query, says }) => {
    const { api } = await start();
    const { statusCode, body } = await get(api, `/v1/flows?${query}`);
    expect(statusCode).toBe(400);
    expect(JSON.parse(body)).toEqual({ code: 'CONFIG_INVALID', message: expect.stringContaining(says) });
  });

  test('is described by /openapi.json: every field of a flow, and every filter', async () => {
    const { api } = await start();
    const { paths } = JSON.parse((await get(api, '/openapi.json')).body);
    const { parameters, responses } = paths['/v1/flows'].get;
    expect(parameters.map(({ name }: { name: string }) => name)).toEqual(['last', 'follow', ...FILTER_NAMES]);
    const { properties } = responses['200'].content['application/x-ndjson'].schema;
    expect(Object.keys(properties)).toEqual(Object.keys(FLOW_FIELDS));
    expect(properties.heldUs.description).toBe('from hold to verdict; 0 when nothing was held');
  });

  test('events have no filters', async () => {
    const { api } = await start();
    expect((await get(api, '/v1/events?verdict=deny')).statusCode).toBe(400);
    expect((await get(api, '/v1/events?last=3')).statusCode).toBe(200);
  });
});

/** A client that reads when it is let. */
async function follow(url: string, path: string): Promise<{ socket: Socket; text: () => string }> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
  closing.push(() => socket.destroy());
  return { socket, text: () => text };
}

/** The body's lines, chunked as it comes. */
const followed = (text: string): unknown[] =>
  text
    .split(/\r\n|\n/)
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line));

describe('a client that follows', () => {
  test('has what was, then each that it wants, and is an outlet as long as it is there', async () => {
    const { api, flows } = await start();
    flows.add(denied({ destinationPort: 1 }));
    const { socket, text } = await follow(await listen(api, { host: '127.0.0.1', port: 0 }), '/v1/flows?follow=true&verdict=deny');
    await until(() => flows.outlets.length === 1, 3000);
    flows.add(denied({ destinationPort: 2 }));
    flows.add(decided());
    flows.add(denied({ destinationPort: 3 }));
    await until(() => followed(text()).length === 3, 3000);
    expect((followed(text()) as FlowView[]).map(({ destination }) => destination.port)).toEqual([1, 2, 3]);
    expect(flows.outlets).toEqual([expect.objectContaining({ kind: 'api', name: expect.stringMatching(/^127\.0\.0\.1:\d+$/), lost: 0 })]);
    socket.destroy();
    await until(() => flows.outlets.length === 0, 3000);
    expect(flows.totals().get('api')).toMatchObject({ outlets: 0, delivered: 2, lost: 0 });
  });

  test('too slowly is told how many it missed, and where; the engine holds a bounded number for it', async () => {
    const { api, flows } = await start();
    const { socket, text } = await follow(await listen(api, { host: '127.0.0.1', port: 0 }), '/v1/flows?follow=true&last=0');
    await until(() => flows.outlets.length === 1, 3000);
    socket.pause();
    const flow = denied();
    let added = 0;
    await until(() => {
      for (let i = 0; i < 2000; i++, added++) flows.add({ ...flow, ttlMs: added });
      expect(flows.outlets[0]?.queued).toBeLessThanOrEqual(4096);
      return (flows.outlets[0]?.lost ?? 0) > 5000;
    }, 15_000);
    socket.resume();
    await until(() => flows.outlets[0]?.queued === 0, 15_000);
    flows.add({ ...flow, ttlMs: added++ });
    await until(() => text().includes(`"ttlMs":${added - 1},`), 15_000);
    let next = 0;
    for (const item of followed(text()) as (FlowView & { lost?: number })[]) {
      if (item.lost !== undefined) next += item.lost;
      else if (item.ttlMs === next) next += 1;
      else throw new Error(`${item.ttlMs} came where ${next} should have come`);
    }
    expect(next).toBe(added);
  });
});
