/** Where the bodies of HTTP/1 end. */
import { describe, expect, test } from 'vitest';
import { Body } from '../../../engine/proxy/body.ts';
import { CHUNKED, UNTIL_CLOSE } from '../../../engine/proxy/head.ts';

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

describe('Body', () => {
  test('ends where its framing says, however it is cut', () => {
    const text = '4;x=y\r\nWiki\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: 1\r\n\r\nGET / HTTP/1.1\r\n';
    const end = text.indexOf('GET');
    for (const step of [1, 2, 3, 7, 1000]) {
      const body = new Body(CHUNKED);
      let taken = 0;
      for (let at = 0; at < text.length && !body.complete; at += step) taken += body.take(bytes(text.slice(at, at + step)), 0);
      expect(taken, `in steps of ${step}`).toBe(end);
      expect(body.complete).toBe(true);
    }
    const counted = new Body(5);
    expect([counted.take(bytes('abc'), 0), counted.take(bytes('defg'), 0), counted.complete]).toEqual([3, 2, true]);
    const open = new Body(UNTIL_CLOSE);
    expect([open.take(bytes('abc'), 0), open.complete]).toEqual([3, false]);
    expect(new Body(0).complete).toBe(true);
  });

  test.each(['x\r\n', '4\r\nWikiX\r\n', '-1\r\n', '4\nWiki\r\n', '0x4\r\nWiki\r\n', 'ffffffffffffffffff\r\n', '4 \r\nWiki\r\n'])(
    'refuses chunks such as %j',
    (text) => {
      const body = new Body(CHUNKED);
      expect(() => body.take(bytes(text), 0)).toThrow();
      body.close();
    },
  );
});
