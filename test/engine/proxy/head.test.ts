/** Heads of HTTP/1: how they are read, what is refused, what of them goes on. */
import { describe, expect, test } from 'vitest';
import { CHUNKED, readRequest, readResponse, UNTIL_CLOSE } from '../../../engine/proxy/head.ts';

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
const request = (text: string) => readRequest(bytes(text), 0, text.length);
const response = (text: string, method = 'GET', keeps = true) => readResponse(bytes(text), 0, text.length, method, keeps);
const get = (headers = '', line = 'GET / HTTP/1.1'): string => `${line}\r\nHost: shop.example\r\n${headers}\r\n`;

describe('readRequest()', () => {
  test('reads what decisions go by', () => {
    expect(request(get('Cookie: a=b; canary=v2\r\nX-Empty:\r\n', 'PUT /cart/1?x=y?z HTTP/1.1'))).toMatchObject({
      method: 'PUT',
      host: 'shop.example',
      path: '/cart/1',
      query: 'x=y?z',
      headers: ['host', 'shop.example', 'cookie', 'a=b; canary=v2', 'x-empty', ''],
      body: 0,
      keepAlive: true,
      old: false,
      upgrade: false,
    });
    expect(request(get('Content-Length: 12\r\n')).body).toBe(12);
    expect(request(get('Transfer-Encoding: Chunked\r\n')).body).toBe(CHUNKED);
    expect(request('GET / HTTP/1.0\r\n\r\n')).toMatchObject({ keepAlive: false, old: true, host: '' });
    expect(request('GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n').keepAlive).toBe(true);
    expect(request(get('Connection: close\r\n')).keepAlive).toBe(false);
    expect(request('GET http://shop.example/a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n')).toMatchObject({ path: '/a', query: 'b' });
    expect(request('GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n').host).toBe('[::1]');
  });

  test('passes a head on as it came, without what is about one connection', () => {
    const plain = get('Accept: */*\r\n');
    expect(request(plain).rewritten).toBeUndefined();
    expect(
      request(
        get('Connection: keep-alive, x\r\nAccept: */*\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n'),
      ).rewritten?.toString(),
    ).toBe(plain);
    // True of the next connection, too.
    expect(request(get('Connection: Keep-Alive\r\n')).rewritten).toBeUndefined();
    for (const other of [
      'Connection: keep-alive\r\nConnection: keep-alive\r\n',
      'Connection: close\r\n',
      'Connection: keep-alive\r\nTE: trailers\r\n',
    ])
      expect(request(get(other)).rewritten?.toString(), other).toBe(get());
    expect(request('GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n').rewritten?.toString()).toBe('GET / HTTP/1.0\r\n\r\n');
    const upgrade = get('Connection: Upgrade\r\nUpgrade: websocket\r\n');
    expect(request(upgrade)).toMatchObject({ upgrade: true });
    expect(request(upgrade).rewritten).toBeUndefined();
  });

  test.each([
    ['a folded header', get('X: a\r\n b\r\n')],
    ['a space before the colon', get('X : a\r\n')],
    ['line feeds alone', 'GET / HTTP/1.1\nHost: x\n\n'],
    ['a carriage return in a value', get('X: a\rb\r\n')],
    ['a line feed in a value', get('X: a\nY: b\r\n')],
    ['a control character', get('X: a\x01b\r\n')],
    ['a NUL', get('X: a\0b\r\n')],
    ['a control character in the path', get('', 'GET /\x01 HTTP/1.1')],
    ['bytes above ASCII in the path', get('', 'GET /\xe4 HTTP/1.1')],
    ['two spaces', get('', 'GET  / HTTP/1.1')],
    ['a space in the path', get('', 'GET /a b HTTP/1.1')],
    ['a fragment', get('', 'GET /#a HTTP/1.1')],
    ['a path that is none', get('', 'GET a HTTP/1.1')],
    ['an unknown method', get('', 'SNEAK / HTTP/1.1')],
    ['a method in lower case', get('', 'get / HTTP/1.1')],
    ['CONNECT', get('', 'CONNECT x:1 HTTP/1.1')],
    ['HTTP/0.9', 'GET /\r\n\r\n'],
    ['HTTP/2.0', get('', 'GET / HTTP/2.0')],
    ['HTTP/1.2', get('', 'GET / HTTP/1.2')],
    ['no host', 'GET / HTTP/1.1\r\n\r\n'],
    ['two hosts', get('Host: y\r\n')],
    ['a host that is a list', 'GET / HTTP/1.1\r\nHost: a, b\r\n\r\n'],
    ['a host with a path', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n'],
    ['a target of another host', 'GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n'],
    ['two equal lengths', get('Content-Length: 1\r\nContent-Length: 1\r\n')],
    ['a list of lengths', get('Content-Length: 1, 1\r\n')],
    ['a signed length', get('Content-Length: +1\r\n')],
    ['a length in hexadecimal', get('Content-Length: 0x1\r\n')],
    ['a length that no number holds', get(`Content-Length: ${'9'.repeat(30)}\r\n`)],
    ['an empty length', get('Content-Length:\r\n')],
    ['a length beside chunks', get('Content-Length: 1\r\nTransfer-Encoding: chunked\r\n')],
    ['chunks beside a length', get('Transfer-Encoding: chunked\r\nContent-Length: 1\r\n')],
    ['another encoding', get('Transfer-Encoding: gzip\r\n')],
    ['another encoding before chunks', get('Transfer-Encoding: gzip, chunked\r\n')],
    ['chunks twice', get('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n')],
    ['an encoding that looks like chunks', get('Transfer-Encoding: xchunked\r\n')],
    ['an encoding with a vertical tab', get('Transfer-Encoding: \x0bchunked\r\n')],
    ['chunks in HTTP/1.0', 'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['too many headers', get(Array.from({ length: 200 }, (_, i) => `X-${i}: 1\r\n`).join(''))],
    ['a no-break space around the host', 'GET / HTTP/1.1\r\nHost: \xa0x\r\n\r\n'],
    ['a header without a name', get(': a\r\n')],
    ['a header without a colon', get('abc\r\n')],
  ])('refuses %s', (_, text) => {
    expect(() => request(text)).toThrow();
  });

  test('gives a head or refuses, whatever bytes it is given, and never reads behind them', () => {
    let seed = 1;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    const base = get('Cookie: a=b\r\nContent-Length: 3\r\nX: y\r\n', 'POST /a?b HTTP/1.1');
    let refused = 0;
    for (let i = 0; i < 5000; i++) {
      const damaged = bytes(base);
      for (let n = random(4); n >= 0; n--) damaged[random(damaged.length)] = random(256);
      try {
        const head = readRequest(damaged, 0, damaged.length);
        expect(head.rewritten?.length ?? 0).toBeLessThanOrEqual(damaged.length);
        expect(head.path).toMatch(/^\//);
      } catch (error) {
        expect((error as Error).name).toBe('Error');
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(1000);
  });
});

describe('readResponse()', () => {
  test.each([
    ['a length', 'Content-Length: 5\r\n', 'GET', 5, true],
    ['equal lengths', 'Content-Length: 5\r\n', 'HEAD', 0, true],
    ['chunks', 'Transfer-Encoding: chunked\r\n', 'GET', CHUNKED, true],
    ['neither', '', 'GET', UNTIL_CLOSE, false],
    ['a close', 'Content-Length: 5\r\nConnection: close\r\n', 'GET', 5, false],
  ])('knows the framing of %s', (_, headers, method, body, keepAlive) => {
    expect(response(`HTTP/1.1 200 OK\r\n${headers}\r\n`, method)).toMatchObject({ status: 200, body, keepAlive });
  });

  test('knows answers without a body, and keeps what is about one connection to itself', () => {
    expect(response('HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n').body).toBe(0);
    expect(response('HTTP/1.1 204 No Content\r\n\r\n').body).toBe(0);
    expect(
      response('HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n').rewritten?.toString(),
    ).toBe('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    const kept = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n';
    expect(response(kept).rewritten).toBeUndefined();
    expect(response(kept, 'GET', false).rewritten?.toString()).toBe('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    expect(response(kept.replace('1.1', '1.0')).rewritten).toBeDefined();
    expect(() => response('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n')).toThrow();
    expect(() => response('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n')).toThrow();
    expect(() => response('ICY 200 OK\r\n\r\n')).toThrow();
    expect(() => response('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\xa0\r\n\r\n')).toThrow();
  });
});
