/** Requests of HTTP/2 as they are decided: read as HTTP/1 reads them, and refused where it refuses them. */
import type { IncomingHttpHeaders } from 'node:http2';
import { describe, expect, test } from 'vitest';
import { readRequest } from '../../../engine/proxy/head.ts';
import { requestOf } from '../../../engine/proxy/http2-request.ts';

const headers = (path: string, authority: string, more: IncomingHttpHeaders = {}): IncomingHttpHeaders => ({
  ':method': 'GET',
  ':scheme': 'http',
  ':path': path,
  ':authority': authority,
  ...more,
});

describe('requestOf()', () => {
  test('reads what decisions go by', () => {
    expect(requestOf(headers('/cart/1?x=y?z', 'shop.example:8080', { cookie: 'a=b', 'x-list': ['1', '2'] }))).toEqual({
      method: 'GET',
      host: 'shop.example',
      path: '/cart/1',
      query: 'x=y?z',
      headers: ['cookie', 'a=b', 'x-list', '1', 'x-list', '2'],
    });
    expect(requestOf({ ':method': 'GET', ':path': '/', host: '[::1]:80' })?.host).toBe('[::1]');
  });

  const PATHS = [
    '/',
    '/a?b?c',
    '/%zz',
    '/a"<>\\^`{|}',
    '/admin#x',
    '/admin?a#x',
    '#',
    '/a b',
    '/a\tb',
    '/\xe4',
    '/\x01',
    '/\x7f',
    '',
    'a',
    '?a',
  ];
  const HOSTS = [
    'shop.example',
    'shop.example:80',
    '[fd00::1]:80',
    '',
    'a, b',
    'a/b',
    'a@b',
    'a#b',
    'a?b',
    'a:b',
    'a:123456',
    '[a]',
    'a b',
    '\xa0x',
  ];

  test.each([...PATHS.map((path) => ({ path, host: 'shop.example' })), ...HOSTS.map((host) => ({ path: '/', host }))])(
    'reads the path "$path" of the host "$host" as HTTP/1 does, or refuses both',
    ({ path, host }) => {
      const one = (): object | undefined => {
        const text = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
        try {
          const head = readRequest(Buffer.from(text, 'latin1'), 0, text.length);
          return { path: head.path, query: head.query, host: head.host };
        } catch {
          return undefined;
        }
      };
      const two = requestOf(headers(path, host));
      expect(two && { path: two.path, query: two.query, host: two.host }).toEqual(one());
    },
  );

  test.each([
    ['a fragment in the path', headers('/admin#x', 'shop.example')],
    ['an authority that is a list', headers('/', 'a, b')],
    ['a Host of another one', headers('/', 'a', { host: 'b' })],
    ['an empty Host beside an authority', headers('/', 'a', { host: '' })],
    ['neither', { ':method': 'GET', ':path': '/' }],
    ['no path', { ':method': 'GET', ':authority': 'a' }],
    ['no method', { ':path': '/', ':authority': 'a' }],
  ])('refuses %s', (_, wrong) => {
    expect(requestOf(wrong as IncomingHttpHeaders)).toBeUndefined();
  });
});
