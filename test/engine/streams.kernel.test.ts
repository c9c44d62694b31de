/** The proxy's connections in turns of native calls, on real sockets. */
import { createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Stream, Streams } from '../../engine/kernel/streams.ts';
import { parseAddress } from '../../engine/policy/address.ts';

const HERE = parseAddress('127.0.0.1') as Uint8Array;
const idle = createServer();
const taken: Socket[] = [];
const server = createServer((socket) => taken.push(socket.on('error', () => {})));
let streams: Streams;

const listen = (each: Server): Promise<void> => new Promise((resolve) => each.listen(0, '127.0.0.1', resolve));
const portOf = (each: Server): number => (each.address() as { port: number }).port;

beforeAll(async () => {
  await listen(idle);
  await listen(server);
  // Nobody connects to that one: it stands where the proxy's listener does.
  const { fd } = (idle as unknown as { _handle: { fd: number } })._handle;
  streams = new Streams(Int32Array.of(fd, -1, -1), () => {}, {
    woke: () => {},
    failed: (error) => {
      throw error;
    },
  });
});
afterAll(() => {
  for (const socket of taken) socket.destroy();
  idle.close();
  server.close();
});

/** Goes on in turns, as does everything else in this thread, until it is so. */
async function turnsUntil(condition: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 10_000; !condition(); ) {
    if (performance.now() > deadline) throw new Error('not so within 10 s');
    streams.turn(0);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function connected(): Promise<{ stream: Stream; socket: Socket; events: string[] }> {
  const count = taken.length;
  const stream = streams.connect(HERE, HERE, portOf(server));
  const events: string[] = [];
  stream.user = {
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
  let fresh: Stream | undefined;
  const seen: string[] = [];
  // The first to be handed its event closes the other one, has that done at once, and opens another connection.
  const act = (other: Stream) => (): void => {
    if (fresh) return;
    other.close();
    for (let i = 0; i < 5000; i++) one.stream.closed || one.stream.pause(i % 2 === 0);
    for (let i = 0; i < 5000; i++) two.stream.closed || two.stream.pause(i % 2 === 0);
    fresh = streams.connect(HERE, HERE, portOf(server));
    fresh.user = { onData: (bytes) => seen.push(String(bytes)), onEnd: () => {}, onDrain: () => {}, onGone: () => {} };
  };
  for (const [each, other] of [
    [one, two.stream],
    [two, one.stream],
  ] as const)
    each.stream.user = { onData: act(other), onEnd: () => {}, onDrain: () => {}, onGone: () => {} };
  one.socket.write('for one');
  two.socket.write('for two');
  await new Promise((resolve) => setTimeout(resolve, 50));
  streams.turn(100);
  streams.turn(50);
  expect(fresh).toBeDefined();
  await turnsUntil(() => taken.length > count);
  expect(seen).toEqual([]);
  for (const stream of [one.stream, two.stream, fresh]) stream?.close();
  streams.turn(0);
});

test('who does not read is told of once, and again when he does; both ends make an end', async () => {
  const { stream, socket, events } = await connected();
  const block = Buffer.alloc(1 << 20, 'x');
  let bytes = 0;
  let written = 0;
  while (!stream.blocked) {
    stream.write(block);
    written += block.length;
    streams.turn(0);
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
  const stream = streams.connect(HERE, HERE, port);
  let code: string | undefined;
  stream.user = { onData: () => {}, onEnd: () => {}, onDrain: () => {}, onGone: (why) => (code = why) };
  await turnsUntil(() => code !== undefined);
  expect(code).toBe('ECONNREFUSED');
});
