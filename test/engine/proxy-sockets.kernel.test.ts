/** The proxy's connections in turns of native calls, on real sockets. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import ffi from 'ffi-napi';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ProxySocket } from '../../engine/kernel/proxy-socket.ts';
import { closeSockets, ProxySockets } from '../../engine/kernel/proxy-sockets.ts';
import { parseAddress } from '../../engine/policy/address.ts';

const HERE = parseAddress('127.0.0.1') as Uint8Array;
const libc = ffi.Library(null, {
  socket: ['int', ['int', 'int', 'int']],
  listen: ['int', ['int', 'int']],
  getsockname: ['int', ['int', 'pointer', 'pointer']],
});
const idle = createServer();
const taken: Socket[] = [];
const server = createServer((socket) => taken.push(socket.on('error', () => {})));
let sockets: ProxySockets;

const listen = (each: Server): Promise<void> => new Promise((resolve) => each.listen(0, '127.0.0.1', resolve));
const portOf = (each: Server): number => (each.address() as { port: number }).port;

beforeAll(async () => {
  await listen(idle);
  await listen(server);
  // Nobody connects to that one: it stands where the proxy's listener does.
  const { fd } = (idle as unknown as { _handle: { fd: number } })._handle;
  sockets = new ProxySockets(
    { handle: 0, listeners: Int32Array.of(fd, -1, -1) },
    {
      accepted: () => {},
      woke: () => {},
      failed: (error) => {
        throw error;
      },
    },
  );
});
afterAll(() => {
  for (const socket of taken) socket.destroy();
  idle.close();
  server.close();
});

/** A socket that listens on some port of every address, and that Node takes nothing from. */
function listenAlone(): { fd: number; port: number } {
  const [INET6, STREAM_NONBLOCK] = [10, 1 | 0o4000];
  const fd = libc.socket(INET6, STREAM_NONBLOCK, 0) as number;
  libc.listen(fd, 8);
  const name = Buffer.alloc(28);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(name.length);
  libc.getsockname(fd, name as never, length as never);
  return { fd, port: name.readUInt16BE(2) };
}

/** Goes on in turns, as does everything else in this thread, until it is so. */
async function turnsUntil(condition: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 10_000; !condition(); ) {
    if (performance.now() > deadline) throw new Error('not so within 10 s');
    sockets.turn(0);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function connected(): Promise<{ stream: ProxySocket; socket: Socket; events: string[] }> {
  const count = taken.length;
  const stream = sockets.connect(HERE, HERE, portOf(server));
  const events: string[] = [];
  stream.handler = {
    onData: (bytes) => events.push(`data ${bytes}`),
    onEnd: () => events.push('end'),
    onDrain: () => events.push('drain'),
    onGone: (code) => events.push(`gone ${code}`),
  };
  await turnsUntil(() => taken.length > count && stream.connected);
  return { stream, socket: taken[count] as Socket, events };
}

test('what is written comes whole and in order, however many writes one turn has', async () => {
  const [one, two] = [await connected(), await connected()];
  const received = [Buffer.alloc(0), Buffer.alloc(0)] as Buffer[];
  for (const [i, { socket }] of [one, two].entries())
    socket.on('data', (bytes) => (received[i] = Buffer.concat([received[i] as Buffer, bytes])));
  const lines = (name: string): string[] => Array.from({ length: 10_000 }, (_, i) => `${name} ${String(i).padStart(6, '0')}\n`);
  const [first, second] = [lines('a'), lines('b')];
  for (const [i, line] of first.entries()) {
    one.stream.write(Buffer.from(line));
    two.stream.write(Buffer.from(second[i] as string));
  }
  await turnsUntil(() => received.every((bytes) => bytes.length === first.join('').length));
  expect(received.map(String)).toEqual([first.join(''), second.join('')]);
  one.stream.close();
  two.stream.close();
});

test('a number that is free again is not used while events may still name it', async () => {
  const [one, two] = [await connected(), await connected()];
  const count = taken.length;
  let fresh: ProxySocket | undefined;
  const seen: string[] = [];
  // The first to be handed its event closes the other one, has that done at once, and opens another connection.
  const act = (other: ProxySocket) => (): void => {
    if (fresh) return;
    other.close();
    for (let i = 0; i < 5000; i++) one.stream.closed || one.stream.pause(i % 2 === 0);
    for (let i = 0; i < 5000; i++) two.stream.closed || two.stream.pause(i % 2 === 0);
    fresh = sockets.connect(HERE, HERE, portOf(server));
    fresh.handler = { onData: (bytes) => seen.push(String(bytes)), onEnd: () => {}, onDrain: () => {}, onGone: () => {} };
  };
  for (const [each, other] of [
    [one, two.stream],
    [two, one.stream],
  ] as const)
    each.stream.handler = { onData: act(other), onEnd: () => {}, onDrain: () => {}, onGone: () => {} };
  one.socket.write('for one');
  two.socket.write('for two');
  await new Promise((resolve) => setTimeout(resolve, 50));
  sockets.turn(100);
  sockets.turn(50);
  expect(fresh).toBeDefined();
  await turnsUntil(() => taken.length > count);
  expect(seen).toEqual([]);
  for (const stream of [one.stream, two.stream, fresh]) stream?.close();
  sockets.turn(0);
});

test('a number that is lost within a turn is not given out before the events of that turn are told', async () => {
  const [evil, victim] = [await connected(), await connected()];
  // Closed with bytes that wait to be written: its number is freed by the turn that meets the reset, behind its last bytes.
  while (!evil.stream.blocked) {
    evil.stream.write(Buffer.alloc(1 << 20));
    sockets.turn(0);
  }
  evil.stream.close();
  sockets.turn(0);
  const seen: string[] = [];
  let fresh: ProxySocket | undefined;
  victim.stream.handler = {
    onData: () => {
      fresh = sockets.connect(HERE, HERE, portOf(server));
      fresh.handler = { onData: (bytes) => seen.push(String(bytes)), onEnd: () => {}, onDrain: () => {}, onGone: () => {} };
    },
    onEnd: () => {},
    onDrain: () => {},
    onGone: () => {},
  };
  victim.socket.write('ask');
  evil.socket.write('of somebody else');
  await new Promise((resolve) => setTimeout(resolve, 20));
  evil.socket.resetAndDestroy();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await turnsUntil(() => fresh !== undefined);
  sockets.turn(0);
  expect(seen).toEqual([]);
  for (const stream of [victim.stream, fresh]) stream?.close();
  sockets.turn(0);
});

test('who does not read is told of once, and again when he does; both ends make an end', async () => {
  const { stream, socket, events } = await connected();
  const block = Buffer.alloc(1 << 20, 'x');
  let bytes = 0;
  let written = 0;
  while (!stream.blocked) {
    stream.write(block);
    written += block.length;
    sockets.turn(0);
  }
  expect(stream.write(Buffer.from('y'))).toBe(false);
  socket.on('data', (chunk) => (bytes += chunk.length));
  await turnsUntil(() => bytes === written + 1);
  expect(events).toEqual(['drain']);
  expect(stream.blocked).toBe(false);
  stream.end();
  socket.end();
  await turnsUntil(() => events.length > 1);
  await turnsUntil(() => events.at(-1) === 'gone ');
  expect(events).toEqual(['drain', 'end', 'gone ']);
});

test('one that nobody listens to is gone with the reason', async () => {
  const gone = createServer();
  await listen(gone);
  const port = portOf(gone);
  await new Promise((resolve) => gone.close(resolve));
  const stream = sockets.connect(HERE, HERE, port);
  let code: string | undefined;
  stream.handler = { onData: () => {}, onEnd: () => {}, onDrain: () => {}, onGone: (why) => (code = why) };
  await turnsUntil(() => code !== undefined);
  expect(code).toBe('ECONNREFUSED');
});

test('one set of sockets knows nothing of another; closed, it resets whoever it served', async () => {
  const { fd, port } = listenAlone();
  const accepted: ProxySocket[] = [];
  const failed = (error: Error): void => {
    throw error;
  };
  const others = new ProxySockets(
    { handle: 0, listeners: Int32Array.of(fd, -1, -1) },
    { accepted: (socket) => accepted.push(socket), woke: () => {}, failed },
  );
  const { stream, socket } = await connected();
  const client = connect(port, '127.0.0.1');
  let code: string | undefined;
  client.on('error', (error: NodeJS.ErrnoException) => (code = error.code));
  for (const deadline = performance.now() + 10_000; !accepted.length && performance.now() < deadline; ) {
    others.turn(0);
    await new Promise((resolve) => setImmediate(resolve));
  }
  accepted[0]?.write(Buffer.from('said'));
  others.turn(0);
  expect(String((await once(client, 'data'))[0])).toBe('said');
  closeSockets(others.handle);
  await turnsUntil(() => code !== undefined);
  expect(code).toBe('ECONNRESET');
  let received = '';
  socket.on('data', (bytes) => (received += bytes));
  stream.write(Buffer.from('still here'));
  await turnsUntil(() => received === 'still here');
  stream.close();
});
