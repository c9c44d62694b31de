/**
 * HTTP/1 as clients might say it, well or badly, and what comes back until the connection ends or is quiet: through the proxy, with nginx
 * behind it that answers 200 to everything it takes; and from nginx asked directly, where that says something else.
 */
export interface HttpCase {
  readonly name: string;
  readonly bytes: string;
  readonly proxy: Answers;
  /** Statuses. */
  readonly nginx?: readonly number[];
  /** Why the proxy does otherwise. */
  readonly why?: string;
}

export interface Answers {
  /** In their order. */
  readonly statuses: readonly number[];
  /** The proxy answers itself: nothing has reached the server. */
  readonly refused: boolean;
}

const answered = (...statuses: number[]): Answers => ({ statuses, refused: false });
const refused = (status: number): Answers => ({ statuses: [status], refused: true });
const NOTHING: Answers = { statuses: [], refused: false };
const get = (headers: string, line = 'GET / HTTP/1.1'): string => `${line}\r\nHost: shop.example\r\n${headers}\r\n`;
const post = (headers: string, body: string): string => get(headers, 'POST / HTTP/1.1') + body;
const NEXT = get('');

export const HTTP_MESSAGES: readonly HttpCase[] = [
  { name: 'a request', bytes: get(''), proxy: answered(200) },
  { name: 'two, one behind the other', bytes: NEXT + NEXT, proxy: answered(200, 200) },
  { name: 'empty lines in front', bytes: `\r\n\r\n${NEXT}`, proxy: answered(200) },
  { name: 'HTTP/1.0', bytes: 'GET / HTTP/1.0\r\n\r\n', proxy: answered(200) },
  {
    name: 'HTTP/1.0 that keeps the connection',
    bytes: `GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n${NEXT}`,
    proxy: answered(200, 200),
  },
  { name: 'a close', bytes: get('Connection: close\r\n') + NEXT, proxy: answered(200) },
  { name: 'a body by length', bytes: post('Content-Length: 5\r\n', `abcde${NEXT}`), proxy: answered(200, 200) },
  { name: 'a body in chunks', bytes: post('Transfer-Encoding: chunked\r\n', `5\r\nabcde\r\n0\r\n\r\n${NEXT}`), proxy: answered(200, 200) },
  {
    name: 'chunks with an extension',
    bytes: post('Transfer-Encoding: chunked\r\n', `5;a=b\r\nabcde\r\n0\r\n\r\n${NEXT}`),
    proxy: answered(200, 200),
  },
  { name: 'chunks with trailers', bytes: post('Transfer-Encoding: chunked\r\n', `0\r\nX: y\r\n\r\n${NEXT}`), proxy: answered(200, 200) },
  { name: 'a long list of headers', bytes: get(Array.from({ length: 90 }, (_, i) => `X-${i}: ${i}\r\n`).join('')), proxy: answered(200) },
  { name: 'a target with a host', bytes: 'GET http://shop.example/a HTTP/1.1\r\nHost: shop.example\r\n\r\n', proxy: answered(200) },
  { name: 'an unusual method', bytes: get('', 'PROPFIND / HTTP/1.1'), proxy: answered(200) },
  { name: 'OPTIONS of everything', bytes: get('', 'OPTIONS * HTTP/1.1'), proxy: answered(400), why: 'nginx behind the proxy does' },
  { name: 'a header without a value', bytes: get('X:\r\n'), proxy: answered(200) },
  { name: 'a header with spaces around its value', bytes: get('X: \t a \t \r\n'), proxy: answered(200) },
  { name: 'bytes above ASCII in a value', bytes: get('X: \xe4\xff\r\n'), proxy: answered(200) },
  { name: 'a percent sign in the path', bytes: get('', 'GET /%zz HTTP/1.1'), proxy: answered(400), why: 'nginx behind the proxy does' },
  { name: 'HTTP/1.2', bytes: get('', 'GET / HTTP/1.2'), proxy: refused(400), nginx: [200], why: 'nobody knows what it would be' },
  { name: 'HTTP/0.9', bytes: 'GET /\r\n\r\n', proxy: refused(400), nginx: [], why: 'nginx answers in HTTP/0.9, without a head' },
  { name: 'HTTP/2.0 in one line', bytes: get('', 'GET / HTTP/2.0'), proxy: refused(400), nginx: [505] },
  { name: 'no HTTP at all', bytes: 'hello\r\n\r\n', proxy: refused(400) },
  { name: 'the name in lower case', bytes: get('', 'GET / http/1.1'), proxy: refused(400) },
  { name: 'a method in lower case', bytes: get('', 'get / HTTP/1.1'), proxy: refused(400) },
  {
    name: 'an unknown method',
    bytes: get('', 'FROB / HTTP/1.1'),
    proxy: refused(400),
    nginx: [200],
    why: 'llhttp knows the registered ones',
  },
  {
    name: 'line feeds alone',
    bytes: 'GET / HTTP/1.1\nHost: x\n\n',
    proxy: NOTHING,
    nginx: [200],
    why: 'RFC 9112, 2.2 lets a server take them; the proxy waits for the end of the head',
  },
  {
    name: 'a line feed alone between headers',
    bytes: get('X: a\nY: b\r\n'),
    proxy: refused(400),
    nginx: [200],
    why: 'two readers could see two headers or one',
  },
  { name: 'a carriage return alone in a value', bytes: get('X: a\rb\r\n'), proxy: refused(400) },
  { name: 'a folded header', bytes: get('X: a\r\n b\r\n'), proxy: refused(400) },
  { name: 'a space in front of the first header', bytes: 'GET / HTTP/1.1\r\n Host: x\r\n\r\n', proxy: refused(400) },
  { name: 'a space before the colon', bytes: get('X : a\r\n'), proxy: refused(400) },
  { name: 'a space in a name', bytes: get('X Y: a\r\n'), proxy: refused(400) },
  { name: 'a header without a name', bytes: get(': a\r\n'), proxy: refused(400) },
  { name: 'a header without a colon', bytes: get('abc\r\n'), proxy: refused(400), nginx: [200], why: 'nginx leaves it out' },
  { name: 'a control character in a value', bytes: get('X: a\x01b\r\n'), proxy: refused(400), nginx: [200], why: 'RFC 9110, 5.5' },
  { name: 'a NUL in a value', bytes: get('X: a\0b\r\n'), proxy: refused(400) },
  { name: 'a NUL in the path', bytes: get('', 'GET /\0 HTTP/1.1'), proxy: refused(400) },
  { name: 'a control character in the path', bytes: get('', 'GET /\x01 HTTP/1.1'), proxy: refused(400) },
  { name: 'bytes above ASCII in the path', bytes: get('', 'GET /\xe4 HTTP/1.1'), proxy: refused(400), nginx: [200], why: 'RFC 9112, 3.2' },
  { name: 'a space in the path', bytes: get('', 'GET /a b HTTP/1.1'), proxy: refused(400) },
  {
    name: 'two spaces in the first line',
    bytes: get('', 'GET  / HTTP/1.1'),
    proxy: refused(400),
    nginx: [200],
    why: 'two readers could see two targets',
  },
  { name: 'a tab in the first line', bytes: get('', 'GET\t/ HTTP/1.1'), proxy: refused(400) },
  {
    name: 'a space at the end of the first line',
    bytes: get('', 'GET / HTTP/1.1 '),
    proxy: refused(400),
    nginx: [200],
    why: 'two readers could see two versions',
  },
  {
    name: 'a fragment',
    bytes: get('', 'GET /#a HTTP/1.1'),
    proxy: refused(400),
    nginx: [200],
    why: 'a fragment is not sent (RFC 9112, 3.2)',
  },
  { name: 'a path without a slash', bytes: get('', 'GET a HTTP/1.1'), proxy: refused(400) },
  { name: 'CONNECT', bytes: 'CONNECT v1:80 HTTP/1.1\r\nHost: v1:80\r\n\r\n', proxy: refused(400) },
  { name: 'no host', bytes: 'GET / HTTP/1.1\r\n\r\n', proxy: refused(400) },
  { name: 'two hosts', bytes: get('Host: y\r\n'), proxy: refused(400) },
  { name: 'two hosts that are the same', bytes: get('Host: shop.example\r\n'), proxy: refused(400) },
  { name: 'a host that is none', bytes: 'GET / HTTP/1.1\r\nHost: a b\r\n\r\n', proxy: refused(400) },
  {
    name: 'a no-break space before a host',
    bytes: 'GET / HTTP/1.1\r\nHost: \xa0shop\r\n\r\n',
    proxy: refused(400),
    nginx: [200],
    why: 'two readers could see two hosts',
  },
  {
    name: 'a no-break space behind a host',
    bytes: 'GET / HTTP/1.1\r\nHost: shop\xa0\r\n\r\n',
    proxy: refused(400),
    nginx: [200],
    why: 'two readers could see two hosts',
  },
  { name: 'a host with a path', bytes: 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n', proxy: refused(400) },
  { name: 'a host with a user', bytes: 'GET / HTTP/1.1\r\nHost: a@b\r\n\r\n', proxy: refused(400), nginx: [200], why: 'RFC 9110, 4.2.4' },
  {
    name: 'a target of another host',
    bytes: 'GET http://other/ HTTP/1.1\r\nHost: x\r\n\r\n',
    proxy: refused(400),
    nginx: [200],
    why: 'two readers could see two hosts',
  },
  {
    name: 'a length and chunks',
    bytes: post('Content-Length: 3\r\nTransfer-Encoding: chunked\r\n', `0\r\n\r\n${NEXT}`),
    proxy: refused(400),
  },
  {
    name: 'chunks and a length',
    bytes: post('Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', `0\r\n\r\n${NEXT}`),
    proxy: refused(400),
  },
  { name: 'two lengths', bytes: post('Content-Length: 3\r\nContent-Length: 4\r\n', `abcd${NEXT}`), proxy: refused(400) },
  { name: 'two equal lengths', bytes: post('Content-Length: 3\r\nContent-Length: 3\r\n', `abc${NEXT}`), proxy: refused(400) },
  { name: 'two lengths in one line', bytes: post('Content-Length: 3, 3\r\n', `abc${NEXT}`), proxy: refused(400) },
  { name: 'a length with a sign', bytes: post('Content-Length: +3\r\n', `abc${NEXT}`), proxy: refused(400) },
  { name: 'a length below zero', bytes: post('Content-Length: -3\r\n', `abc${NEXT}`), proxy: refused(400) },
  { name: 'a length in hex', bytes: post('Content-Length: 0x3\r\n', `abc${NEXT}`), proxy: refused(400) },
  { name: 'a length with a space', bytes: post('Content-Length: 1 2\r\n', `abc${NEXT}`), proxy: refused(400) },
  { name: 'a length of nothing', bytes: post('Content-Length:\r\n', NEXT), proxy: refused(400) },
  { name: 'a length of 40 digits', bytes: post(`Content-Length: ${'9'.repeat(40)}\r\n`, 'abc'), proxy: refused(400) },
  { name: 'another transfer encoding', bytes: post('Transfer-Encoding: gzip\r\n', NEXT), proxy: refused(400), nginx: [501] },
  {
    name: 'chunked, and another one',
    bytes: post('Transfer-Encoding: chunked, gzip\r\n', `0\r\n\r\n${NEXT}`),
    proxy: refused(400),
    nginx: [501],
  },
  {
    name: 'another one, and chunked',
    bytes: post('Transfer-Encoding: gzip, chunked\r\n', `0\r\n\r\n${NEXT}`),
    proxy: refused(400),
    nginx: [501],
  },
  {
    name: 'chunked twice',
    bytes: post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', `0\r\n\r\n${NEXT}`),
    proxy: refused(400),
  },
  {
    name: 'an encoding that looks like chunked',
    bytes: post('Transfer-Encoding: xchunked\r\n', `0\r\n\r\n${NEXT}`),
    proxy: refused(400),
    nginx: [501],
  },
  {
    name: 'chunked with a vertical tab',
    bytes: post('Transfer-Encoding: \x0bchunked\r\n', `0\r\n\r\n${NEXT}`),
    proxy: refused(400),
    nginx: [501],
  },
  {
    name: 'chunked with a space before the colon',
    bytes: post('Transfer-Encoding : chunked\r\n', `0\r\n\r\n${NEXT}`),
    proxy: refused(400),
  },
  { name: 'chunks in HTTP/1.0', bytes: 'POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', proxy: refused(400) },
  { name: 'a chunk that is too long', bytes: post('Transfer-Encoding: chunked\r\n', `3\r\nabcd\r\n0\r\n\r\n${NEXT}`), proxy: refused(400) },
  { name: 'a chunk size that is none', bytes: post('Transfer-Encoding: chunked\r\n', `g\r\nabc\r\n0\r\n\r\n${NEXT}`), proxy: refused(400) },
  { name: 'a chunk size with a sign', bytes: post('Transfer-Encoding: chunked\r\n', `+3\r\nabc\r\n0\r\n\r\n${NEXT}`), proxy: refused(400) },
  { name: 'a chunk size with 0x', bytes: post('Transfer-Encoding: chunked\r\n', `0x3\r\nabc\r\n0\r\n\r\n${NEXT}`), proxy: refused(400) },
  { name: 'a chunk size of 20 digits', bytes: post('Transfer-Encoding: chunked\r\n', `${'f'.repeat(20)}\r\nabc\r\n`), proxy: refused(400) },
  {
    name: 'chunks that end with line feeds',
    bytes: post('Transfer-Encoding: chunked\r\n', `3\nabc\n0\n\n${NEXT}`),
    proxy: refused(400),
    nginx: [200, 200],
    why: 'two readers could see two bodies',
  },
  {
    name: 'a line feed in a chunk extension',
    bytes: post('Transfer-Encoding: chunked\r\n', `3;\nabc\r\n0\r\n\r\n${NEXT}`),
    proxy: refused(400),
    nginx: [200, 200],
    why: 'two readers could see two bodies',
  },
  { name: 'a head of 40 KB', bytes: get(`X: ${'a'.repeat(40_000)}\r\n`), proxy: refused(431), nginx: [400] },
  { name: 'a path of 40 KB', bytes: get('', `GET /${'a'.repeat(40_000)} HTTP/1.1`), proxy: refused(431), nginx: [414] },
  {
    name: 'three hundred headers',
    bytes: get(Array.from({ length: 300 }, (_, i) => `X-${i}: ${i}\r\n`).join('')),
    proxy: refused(400),
    nginx: [200],
    why: 'nginx counts bytes, the proxy lines, too',
  },
];
