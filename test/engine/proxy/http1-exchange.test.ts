/** A request and its answer where backends fail, dawdle or say nonsense: who else is asked, and what the client is told. */
import { describe, expect, test } from 'vitest';
import { backendOf, ProxyStand } from '../../support/proxy-stand.ts';

const GET = 'GET / HTTP/1.1\r\nHost: shop\r\n\r\n';
const POST = 'POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi';
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const summaryOf = (answer: string): string => {
  const [, status] = /^HTTP\/1\.1 (\d+)/.exec(answer) ?? [];
  const [, reason] = /x-sluice-reason: (.*)\r/.exec(answer) ?? [];
  return `${status} ${reason}`;
};

/** Two backends, and a client whose request is under way. */
function asked(request: string, connects = true) {
  const stand = new ProxyStand();
  stand.backends = [backendOf('one'), backendOf('two')];
  stand.connects = connects;
  return { stand, ...stand.connect(), ask: request };
}

describe('another backend is asked', () => {
  test.each([
    { name: 'when the first refuses, whatever the request', request: POST, code: 'ECONNREFUSED', other: true },
    { name: 'when the first breaks off, where twice does no harm', request: GET, code: 'ECONNRESET', other: false },
  ])('$name', ({ request, code, other }) => {
    const { stand, socket, client } = asked(request);
    socket.say(request);
    const [first] = stand.upstreams;
    expect(first?.written).toBe(request);
    first?.vanish(code);
    expect(stand.upstreams).toHaveLength(2);
    expect(stand.upstream.written).toBe(request);
    expect(stand.failed).toEqual(other ? ['one'] : []);
    expect([...client.backends()].map(({ name }) => name)).toEqual([other ? 'two' : 'one']);
    expect(stand.requests.counts.retries).toBe(1);
    stand.upstream.say(OK);
    expect(socket.written).toBe(OK);
    expect(stand.backends.map(({ active }) => active)).toEqual([0, 0]);
  });

  test('when the first does not accept in time', () => {
    const { stand, socket } = asked(GET, false);
    socket.say(GET);
    stand.pass(3);
    expect(stand.upstreams).toHaveLength(2);
    expect(stand.upstreams[0]?.asked).toEqual(['close']);
    expect(stand.failed).toEqual(['one']);
  });

  test('with all of a body that came meanwhile', () => {
    const { stand, socket } = asked(POST);
    socket.say('PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nabc');
    socket.say('def');
    stand.upstreams[0]?.vanish('ECONNREFUSED');
    socket.say('ghi');
    expect(stand.upstream.written).toBe('PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nabcdefghi');
  });
});

describe('the client is told', () => {
  test.each([
    {
      name: 'when both refuse',
      request: GET,
      codes: ['ECONNREFUSED', 'EHOSTUNREACH'],
      want: '503 the backend cannot be reached (EHOSTUNREACH)',
    },
    { name: 'when both break off', request: GET, codes: ['ECONNRESET', ''], want: '502 the backend broke off' },
    {
      name: 'when what may be done already is not to be done twice',
      request: POST,
      codes: ['ECONNRESET'],
      want: '502 the backend broke off',
    },
  ])('$name', ({ request, codes, want }) => {
    const { stand, socket, client } = asked(request);
    socket.say(request);
    for (const code of codes) stand.upstream.vanish(code);
    expect(summaryOf(socket.written)).toBe(want);
    expect(client.state).toBe('reading');
    expect(stand.backends.map(({ active }) => active)).toEqual([0, 0]);
  });

  test('when there is no backend, or no socket', () => {
    const { stand, socket } = asked(GET);
    stand.backends = [];
    socket.say(GET);
    expect(summaryOf(socket.written)).toBe('503 there is no backend that is ready and allowed');
    stand.backends = [backendOf('one')];
    stand.problem = new Error('no ports left');
    socket.say(GET);
    expect(summaryOf(socket.written)).toBe('503 no connection can be made: no ports left');
  });

  test('when the only backend does not accept: nobody waits twice for it', () => {
    const { stand, socket } = asked(GET, false);
    stand.backends = [backendOf('one')];
    socket.say(GET);
    stand.pass(3);
    expect(stand.upstreams).toHaveLength(1);
    expect(summaryOf(socket.written)).toBe('503 the backend cannot be reached (ETIMEDOUT)');
  });

  test('when too much was sent to send it again', () => {
    const { stand, socket, client } = asked(GET);
    socket.say(`PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\n`);
    socket.say('x'.repeat(70_000));
    stand.upstream.vanish('ECONNREFUSED');
    expect(stand.upstreams).toHaveLength(1);
    expect(summaryOf(socket.written)).toBe('503 the backend cannot be reached (ECONNREFUSED)');
    expect(client.state).toBe('leaving');
  });

  test('when nothing is answered for too long; whatever happens begins the time anew', () => {
    const { stand, socket, client } = asked(GET);
    socket.say('POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\nabc');
    stand.pass(60);
    socket.say('def');
    stand.pass(60);
    expect(client.state).toBe('sending');
    stand.pass(1);
    expect(summaryOf(socket.written)).toBe('504 the backend does not answer');
    expect(client.state).toBe('leaving');
    expect(stand.upstream.asked).toEqual(['close']);
  });

  test.each([
    ['is no HTTP', 'ICY 200 OK\r\n\r\n'],
    ['has no end of its head', `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(33_000)}`],
  ])('when an answer %s', (_, answer) => {
    const { stand, socket } = asked(GET);
    socket.say(GET);
    stand.upstream.say(answer);
    expect(summaryOf(socket.written)).toMatch(/^502 the backend's answer is no HTTP: /);
    expect(stand.upstreams[0]?.asked).toEqual(['close']);
  });
});

describe('an answer', () => {
  test('that breaks off breaks the connection off: it must not look complete', () => {
    const { stand, socket, client } = asked(GET);
    socket.say(GET);
    stand.upstream.say('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf');
    stand.upstream.vanish('ECONNRESET');
    expect(client.state).toBe('gone');
    expect(socket.asked.at(-1)).toBe('reset');
    expect(stand.noted).toMatchObject([{ status: 200, reason: 'the backend broke off' }]);
  });

  test('without a length ends with the connection of its backend, and the client with it', () => {
    const { stand, socket, client } = asked(GET);
    socket.say(GET);
    stand.upstream.say('HTTP/1.1 200 OK\r\n\r\nsome');
    stand.upstream.say(' more');
    stand.upstream.sayEnd();
    expect(socket.written).toBe('HTTP/1.1 200 OK\r\n\r\nsome more');
    expect(client.state).toBe('leaving');
  });

  test('with something behind it is the last of its connection', () => {
    const { stand, socket } = asked(GET);
    socket.say(GET);
    stand.upstream.say(`${OK}HTTP/1.1 200 OK`);
    expect(socket.written).toBe(OK);
    expect(stand.upstreams[0]?.asked).toEqual(['close']);
    socket.say(GET);
    expect(stand.upstreams).toHaveLength(2);
  });

  test('after interim ones is passed on with them, but not to HTTP/1.0', () => {
    const early = 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n';
    const { stand, socket } = asked(GET);
    socket.say(GET);
    stand.upstream.say(`${early}${OK}`);
    expect(socket.written).toBe(`${early}${OK}`);
    const old = stand.connect();
    old.socket.say('GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n');
    stand.upstream.say(`${early}${OK}`);
    expect(old.socket.written).toBe(OK);
  });

  test('waits for a client that does not take it, and a request for its backend', () => {
    const { stand, socket } = asked(POST);
    socket.say('POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 6\r\n\r\nabc');
    stand.upstream.blocked = true;
    socket.say('def');
    expect(socket.paused).toBe(true);
    stand.upstream.drain();
    expect(socket.paused).toBe(false);
    socket.blocked = true;
    stand.upstream.say('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n');
    expect(stand.upstream.paused).toBe(true);
    socket.drain();
    expect(stand.upstream.paused).toBe(false);
  });
});
