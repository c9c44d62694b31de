/** A client's connection in HTTP/1, event by event, without a kernel. */
import { describe, expect, test } from 'vitest';
import { ALLOWED, ProxyStand } from '../../support/proxy-stand.ts';

const GET = 'GET /a HTTP/1.1\r\nHost: shop\r\n\r\n';
const post = (length: number): string => `POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: ${length}\r\n\r\n`;
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);

describe('requests, one after the other', () => {
  test('go on as they came, and so do their answers', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(GET);
    expect(client.state).toBe('waiting');
    expect(stand.upstream.written).toBe(GET);
    expect([...client.backends()].map(({ name }) => name)).toEqual(['one']);
    stand.upstream.say(OK);
    expect(socket.written).toBe(OK);
    expect(client.state).toBe('reading');
    expect([...client.backends()]).toEqual([]);
    expect(stand.noted).toMatchObject([
      { method: 'GET', path: '/a', status: 200, backend: 'one', bytesIn: GET.length, bytesOut: OK.length },
    ]);
  });

  test('share a connection to their backend', () => {
    const stand = new ProxyStand();
    const { socket } = stand.connect();
    for (let i = 0; i < 3; i++) {
      socket.say(GET);
      stand.upstream.say(OK);
    }
    expect(stand.upstreams).toHaveLength(1);
    expect(stand.noted).toHaveLength(3);
    expect(stand.backends[0]?.active).toBe(0);
  });

  test('that come together are answered in turn', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(`${GET}${post(3)}abc${GET}`);
    expect(stand.upstream.written).toBe(GET);
    stand.upstream.say(OK);
    expect(stand.upstream.written).toBe(`${post(3)}abc`);
    stand.upstream.say(OK);
    expect(stand.upstream.written).toBe(GET);
    stand.upstream.say(OK);
    expect(client.state).toBe('reading');
    expect(socket.written).toBe(OK.repeat(3));
  });

  test('that come byte by byte are the same, and their answers', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    const request = `\r\n${post(5)}hello`;
    for (const byte of request) socket.say(byte);
    expect(stand.upstream.written).toBe(request.slice(2));
    expect(client.state).toBe('waiting');
    for (const byte of OK) stand.upstream.say(byte);
    expect(socket.written).toBe(OK);
    expect(client.state).toBe('reading');
  });

  test('with a body of chunks end where the chunks say', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    const head = 'POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n';
    socket.say(`${head}3\r\nabc`);
    expect(client.state).toBe('sending');
    socket.say(`\r\n0\r\n\r\n${GET}`);
    expect(client.state).toBe('waiting');
    expect(stand.upstream.written).toBe(`${head}3\r\nabc\r\n0\r\n\r\n`);
  });

  test('get the cookie of their verdict with the answer', () => {
    const stand = new ProxyStand();
    stand.verdict = () => ({ ...ALLOWED, cookie: 'a=b' });
    const { socket } = stand.connect();
    socket.say(GET);
    stand.upstream.say(OK);
    expect(socket.written).toBe('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nset-cookie: a=b\r\n\r\nok');
  });

  test('that are denied are answered here, and the next one is read', () => {
    const stand = new ProxyStand();
    stand.verdict = ({ path }) => (path === '/a' ? { ...ALLOWED, allowed: false, status: 403, body: 'no\n', reason: 'not you' } : ALLOWED);
    const { client, socket } = stand.connect();
    socket.say(`${GET}${post(1)}x`);
    expect(socket.written).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n(.*\r\n)*x-sluice-reason: not you\r\n(.*\r\n)*\r\nno\n$/);
    expect(client.state).toBe('waiting');
    expect(stand.upstream.written).toBe(`${post(1)}x`);
  });

  test('that are denied before their body is there end the connection', () => {
    const stand = new ProxyStand();
    stand.verdict = () => ({ ...ALLOWED, allowed: false, status: 403, body: '', reason: 'no' });
    const { client, socket } = stand.connect();
    socket.say(`${post(100)}some`);
    expect(client.state).toBe('leaving');
    expect(socket.written).toContain('connection: close');
    expect(socket.asked).toEqual(['end']);
  });

  test('wait while one is under way, and beyond a bound are not read', () => {
    const stand = new ProxyStand();
    const { socket } = stand.connect();
    socket.say(GET);
    socket.say('x'.repeat(64 * 1024));
    expect(socket.paused).toBe(false);
    socket.say('x');
    expect(socket.paused).toBe(true);
    stand.upstream.say(OK);
    expect(socket.paused).toBe(false);
  });
});

describe('a request that is none', () => {
  test.each([
    ['is no HTTP', 'nonsense\r\n\r\n', 400],
    ['has a head that is too long', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(33_000)}`, 431],
    ['has broken chunks', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 400],
  ])('is refused where it %s, and the connection ends', (_, text, status) => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(text);
    expect(statusOf(socket.written)).toBe(status);
    expect(client.state).toBe('leaving');
    expect(stand.upstreams).toHaveLength(0);
    expect(stand.requests.counts.malformed).toBe(1);
    expect(stand.noted).toMatchObject([{ status, method: '' }]);
  });

  test('is refused in the middle of its body, too, and its backend hears no more', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n');
    socket.say('zz\r\n');
    expect(statusOf(socket.written)).toBe(400);
    expect(client.state).toBe('leaving');
    expect(stand.upstream.asked).toEqual(['close']);
    expect(stand.backends[0]?.active).toBe(0);
  });

  test('goes to whoever speaks HTTP/2, as soon as that is sure', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.descriptor = 17;
    socket.say('PRI * HTTP');
    expect(stand.handedOver).toEqual([]);
    socket.say('/2.0\r\n\r\nSM\r\n\r\nmore');
    expect(stand.handedOver).toEqual([{ fd: 17, first: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore' }]);
    expect(client.state).toBe('gone');
    expect(stand.clients.size).toBe(0);
  });
});

describe('time', () => {
  test('is limited for a head, from its first byte', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    stand.pass(9);
    socket.say('GET');
    stand.pass(9);
    socket.say(' /');
    expect(client.state).toBe('reading');
    stand.pass(2);
    expect(statusOf(socket.written)).toBe(408);
    expect(stand.requests.counts.timeouts).toBe(1);
  });

  test('is limited between requests: nobody is told', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(GET);
    stand.upstream.say(OK);
    expect(socket.written).toBe(OK);
    stand.pass(75);
    expect(client.state).toBe('reading');
    stand.pass(1);
    expect(client.state).toBe('gone');
    expect(socket.written).toBe('');
    expect(socket.asked).toEqual(['reset']);
  });

  test('is limited for leaving; a client that reads slowly has more of it', () => {
    const stand = new ProxyStand();
    const [quick, slow] = [stand.connect(), stand.connect()];
    for (const { socket } of [quick, slow]) socket.say('nonsense\r\n\r\n');
    slow.socket.blocked = true;
    stand.pass(11);
    expect([quick.client.state, slow.client.state]).toEqual(['gone', 'leaving']);
    expect(quick.socket.asked.at(-1)).toBe('close');
    stand.pass(60);
    expect(slow.client.state).toBe('gone');
    expect(slow.socket.asked.at(-1)).toBe('reset');
  });
});

describe('the end', () => {
  test('of a client that waits for nothing is answered with an end', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.sayEnd();
    expect(client.state).toBe('leaving');
    socket.vanish();
    expect(client.state).toBe('gone');
    expect(stand.clients.size).toBe(0);
  });

  test('of what a client says does not take its answer away', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(GET);
    socket.sayEnd();
    expect(client.state).toBe('waiting');
    stand.upstream.say(OK);
    expect(socket.written).toBe(OK);
    expect(client.state).toBe('leaving');
  });

  test('in the middle of a body breaks the request off', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(`${post(10)}abc`);
    socket.sayEnd();
    expect(client.state).toBe('gone');
    expect(stand.upstream.asked).toEqual(['close']);
    expect(stand.noted).toMatchObject([{ status: 499 }]);
  });

  test('of a client that has gone is noted with its request, and the backend is free', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(GET);
    socket.vanish('ECONNRESET');
    expect(client.state).toBe('gone');
    expect(stand.noted).toMatchObject([{ status: 499, reason: 'the client broke off' }]);
    expect(stand.backends[0]?.active).toBe(0);
  });

  test('comes with the answer under way when the engine stops, and says so', () => {
    const stand = new ProxyStand();
    const [busy, idle] = [stand.connect(), stand.connect()];
    busy.socket.say(GET);
    for (const client of [...stand.clients]) client.drain();
    expect([busy.client.state, idle.client.state]).toEqual(['waiting', 'leaving']);
    stand.upstream.say(OK);
    expect(busy.socket.written).toBe('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok');
    expect(busy.client.state).toBe('leaving');
  });

  test('after an answer that came early: so much of the request is still read', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(`${post(10_000_000)}abc`);
    stand.upstream.say('HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n');
    expect(client.state).toBe('leaving');
    expect(stand.upstream.asked).toEqual(['close']);
    socket.say('x'.repeat(1_000_000));
    expect(client.state).toBe('leaving');
    socket.say('x'.repeat(100_000));
    expect(client.state).toBe('gone');
    expect(socket.asked.at(-1)).toBe('reset');
  });
});

describe('a tunnel', () => {
  const UPGRADE = 'GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';

  test('carries bytes both ways after a backend has switched, and ends with either side', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(`${UPGRADE}early`);
    stand.upstream.say(`${SWITCH}hello`);
    expect(client.state).toBe('tunnel');
    expect(socket.written).toBe(`${SWITCH}hello`);
    expect(stand.upstream.written).toBe(`${UPGRADE}early`);
    socket.say('there');
    stand.upstream.say('here');
    expect([stand.upstream.written, socket.written]).toEqual(['there', 'here']);
    expect([...client.backends()].map(({ name }) => name)).toEqual(['one']);
    stand.pass(1_000_000);
    expect(client.state).toBe('tunnel');
    const [upstream] = stand.upstreams;
    upstream?.vanish('ECONNRESET');
    expect(client.state).toBe('gone');
    expect(socket.closed).toBe(true);
    expect(stand.noted).toMatchObject([{ status: 101 }]);
    expect(stand.backends[0]?.active).toBe(0);
  });

  test('is none where the client did not ask for it', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(GET);
    stand.upstream.say(SWITCH);
    expect(statusOf(socket.written)).toBe(502);
    expect(client.state).toBe('reading');
  });

  test('ends at once when the engine stops', () => {
    const stand = new ProxyStand();
    const { client, socket } = stand.connect();
    socket.say(UPGRADE);
    stand.upstream.say(SWITCH);
    client.drain();
    expect(client.state).toBe('gone');
    expect(socket.asked.at(-1)).toBe('reset');
  });
});
