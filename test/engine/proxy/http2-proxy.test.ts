/** Clients that speak HTTP/2 and backends that do, on real sockets; routing and clients are stood in for. */
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  constants,
  createServer as createHttp2,
  type ServerHttp2Stream,
} from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import ffi from 'ffi-napi';
import { afterEach, expect, test } from 'vitest';
import type { Backend } from '../../../engine/proxy/backends.ts';
import type { Client } from '../../../engine/proxy/clients.ts';
import { Http2Proxy, type Http2ProxyParts } from '../../../engine/proxy/http2-proxy.ts';
import type { Answered } from '../../../engine/proxy/request-counts.ts';
import { until } from '../../support/test-node.ts';

const libc = ffi.Library(null, { dup: ['int', ['int']] });
const CLOSE: (() => void)[] = [];
afterEach(() => {
  for (const close of CLOSE.splice(0).reverse()) close();
});

/** A descriptor of its own of a socket that Node does not read. */
function descriptorOf(socket: Socket): number {
  socket.pause().on('error', () => {});
  CLOSE.push(() => socket.destroy());
  return libc.dup((socket as unknown as { _handle: { fd: number } })._handle.fd) as number;
}

interface Stand {
  readonly client: ClientHttp2Session;
  readonly clients: Set<Client>;
  readonly noted: Answered[];
  readonly counts: { retries: number };
  readonly proxy: Http2Proxy;
}

/** A client behind the proxy, and a backend that answers as it is told to, after so many connections were refused. */
async function stand(exchange: number, answer: (stream: ServerHttp2Stream) => void, refusals = 0): Promise<Stand> {
  const clients = new Set<Client>();
  const noted: Answered[] = [];
  const counts = { retries: 0 };
  let refused = 0;
  const backend = { key: 'b', name: 'b', address: new Uint8Array(16), port: 0, active: 0, restsUntil: 0, gone: false } as Backend;
  const flow = { clientKey: 'c', sourceKey: 'c', source: new Uint8Array(16), process: true };
  const parts = {
    routing: { find: () => flow, decide: () => ({ allowed: true, cookie: '' }), choose: () => backend, noteFailure: () => {} },
    clients: { admits: () => true, add: (client: Client) => clients.add(client), remove: (client: Client) => clients.delete(client) },
    requests: { counts, note: (_flow: unknown, _verdict: unknown, each: Answered) => noted.push(each) },
  } as unknown as Http2ProxyParts;
  const server = createHttp2().on('stream', answer);
  const listening = createServer((socket) => server.emit('connection', socket));
  const front = createServer({ pauseOnConnect: true }, (socket) =>
    proxy.serve(descriptorOf(socket), Buffer.alloc(0), {} as Parameters<Http2Proxy['serve']>[2]),
  );
  const portOf = async (each: typeof front): Promise<number> => {
    await new Promise<void>((resolve) => each.listen(0, '127.0.0.1', resolve));
    CLOSE.push(() => each.close());
    return (each.address() as { port: number }).port;
  };
  const out = connect(await portOf(listening), '127.0.0.1').pause();
  await once(out, 'connect');
  const proxy = new Http2Proxy({
    ...parts,
    connect: () => {
      if (refused++ < refusals) throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
      return descriptorOf(out);
    },
    timeouts: { head: 1000, idle: 5000, exchange, connect: 2000 },
  });
  const client = connectHttp2(`http://127.0.0.1:${await portOf(front)}`);
  client.on('error', () => {});
  CLOSE.push(
    () => proxy.close(),
    () => client.destroy(),
  );
  return { client, clients, noted, counts, proxy };
}

/** Everything that an answer says, and how it ended. */
function ask({ client }: Stand): Promise<{ status: number; body: string; code: number }> {
  return new Promise((resolve) => {
    const stream = client.request({ ':path': '/' });
    let status = 0;
    let body = '';
    stream.on('response', (headers) => (status = headers[':status'] ?? 0));
    stream.on('data', (chunk: Buffer) => (body += chunk.toString()));
    stream.on('error', () => {});
    stream.on('close', () => resolve({ status, body, code: stream.rstCode ?? 0 }));
  });
}

const CANCEL = 8;

test('a stream on which nothing happens any more is broken off, and noted', async () => {
  const here = await stand(300, (stream) => {
    stream.respond({ ':status': 200 });
    stream.write('half');
  });
  expect(await ask(here)).toEqual({ status: 200, body: 'half', code: CANCEL });
  expect(here.noted).toMatchObject([{ status: 200, reason: 'nothing has come from either side' }]);
});

test('a stream on which something happens goes on for longer than that', async () => {
  const here = await stand(300, (stream) => {
    stream.respond({ ':status': 200 });
    let left = 6;
    const timer = setInterval(() => {
      left -= 1;
      stream.write('.');
      if (left) return;
      clearInterval(timer);
      stream.end();
    }, 100);
  });
  expect(await ask(here)).toEqual({ status: 200, body: '......', code: 0 });
});

test('a backend that does not answer is given up with 504', async () => {
  const here = await stand(300, () => {});
  expect(await ask(here)).toMatchObject({ status: 504 });
});

test('a backend that refuses is asked once more, and then the client is told', async () => {
  const answer = (stream: ServerHttp2Stream): void => {
    stream.respond({ ':status': 200 });
    stream.end('late');
  };
  const one = await stand(5000, answer, 1);
  expect(await ask(one)).toEqual({ status: 200, body: 'late', code: 0 });
  expect(one.counts.retries).toBe(1);
  const never = await stand(5000, answer, 2);
  expect(await ask(never)).toMatchObject({ status: 503 });
  expect(never.noted).toMatchObject([{ status: 503, reason: 'the backend cannot be reached (ECONNREFUSED)' }]);
});

test('interim answers are passed on, and an answer that is a head alone stays one', async () => {
  const here = await stand(5000, (stream) => {
    stream.additionalHeaders({ ':status': 103, link: '</style.css>' });
    stream.respond({ ':status': 200, 'grpc-status': '5' }, { endStream: true });
  });
  const stream = here.client.request({ ':path': '/' });
  const said: unknown[] = [];
  stream.on('headers', (headers) => said.push([headers[':status'], headers.link]));
  stream.on('response', (headers, flags) =>
    said.push([headers[':status'], headers['grpc-status'], flags & constants.NGHTTP2_FLAG_END_STREAM]),
  );
  stream.resume();
  await once(stream, 'close');
  expect(said).toEqual([
    [103, '</style.css>'],
    [200, '5', 1],
  ]);
});

test('a session that is drained answers what is under way, and then ends', async () => {
  const { promise: asked, resolve } = Promise.withResolvers<ServerHttp2Stream>();
  const here = await stand(5000, resolve);
  const answered = ask(here);
  const stream = await asked;
  const closed = new Promise((done) => here.client.once('close', done));
  for (const client of here.clients) client.drain();
  stream.respond({ ':status': 200 });
  stream.end('late');
  expect(await answered).toEqual({ status: 200, body: 'late', code: 0 });
  await closed;
  await until(() => here.clients.size === 0, 2000);
});
