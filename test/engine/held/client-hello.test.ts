/** Reading the hello of TLS clients: as real ones send it, cut anywhere, and as nobody should. */

import { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { HELLO_BYTES_MAX, readClientHello } from '../../../engine/held/client-hello.ts';
import { refuseHello } from '../../../engine/held/server-names.ts';
import { clientHello, clientHelloMessage, inRecords } from '../../support/tls.ts';

const vector = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
/** The hello of this Node's own client. */
function realHello(options: object): Promise<Buffer> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    const wire = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        parts.push(chunk);
        done();
      },
    });
    const socket = connect({ socket: wire, ...options });
    socket.on('error', () => {});
    setTimeout(() => {
      resolve(Buffer.concat(parts));
      socket.destroy();
    }, 50);
  });
}

describe('readClientHello()', () => {
  test('reads what a real client says, post-quantum key shares included', async () => {
    const bytes = await realHello({ servername: 'API.Example.com', ALPNProtocols: ['h2', 'http/1.1'] });
    expect(bytes.length).toBeGreaterThan(1200);
    expect(readClientHello(bytes)).toEqual({ serverName: 'api.example.com', applicationProtocols: ['h2', 'http/1.1'], encrypted: false });
    expect(readClientHello(await realHello({}))).toMatchObject({ serverName: '', applicationProtocols: [] });
  });

  test('wants more until it is complete, wherever it is cut, and in records of any length', () => {
    const message = clientHelloMessage({ serverName: 'a.test', protocols: ['h2'], padding: 300 });
    for (const recordBytes of [1, 7, 100, 16_384]) {
      const bytes = inRecords(message, recordBytes);
      for (let length = 0; length < bytes.length; length++) expect(readClientHello(bytes.subarray(0, length)), `${length}`).toBe('more');
      expect(readClientHello(bytes)).toMatchObject({ serverName: 'a.test' });
      expect(readClientHello(Buffer.concat([bytes, Buffer.from('what comes behind')]))).toMatchObject({ serverName: 'a.test' });
    }
  });

  test('takes 16 KiB, and not more', () => {
    const room = HELLO_BYTES_MAX - clientHelloMessage({ serverName: 'a.test', padding: 1 }).length + 1;
    expect(readClientHello(clientHello({ serverName: 'a.test', padding: room }))).toMatchObject({ serverName: 'a.test' });
    const more = inRecords(clientHelloMessage({ serverName: 'a.test', padding: room + 1 })).subarray(0, 100);
    expect(readClientHello(more)).toEqual({ problem: expect.stringContaining('more than 16384 bytes') });
  });

  test.each<{ name: string; bytes: Buffer; problem: string }>([
    { name: 'HTTP', bytes: Buffer.from('GET / HTTP/1.1\r\n'), problem: 'not TLS' },
    { name: 'SSH', bytes: Buffer.from('SSH-2.0-x'), problem: 'not TLS' },
    { name: 'an alert', bytes: Buffer.from([21, 3, 3, 0, 2, 1, 0]), problem: 'not TLS' },
    { name: 'SSL 2', bytes: Buffer.from([0x80, 0x2e, 1, 3, 1]), problem: 'not TLS' },
    { name: 'another handshake message', bytes: Buffer.from([22, 3, 1, 0, 1, 2]), problem: 'not a TLS client hello' },
    { name: 'an empty record', bytes: Buffer.from([22, 3, 1, 0, 0]), problem: 'a record of a length' },
    { name: 'a record that is too long', bytes: Buffer.from([22, 3, 1, 0x40, 1]), problem: 'a record of a length' },
    {
      name: 'another record in between',
      bytes: Buffer.concat([inRecords(clientHelloMessage({}), 50).subarray(0, 55), Buffer.from([20, 3, 1])]),
      problem: 'not TLS',
    },
    {
      name: 'two server name extensions',
      bytes: clientHello({ serverName: 'good.test', more: [[0, Buffer.alloc(0)]] }),
      problem: 'extension 0 twice',
    },
    {
      name: 'two server names',
      bytes: clientHello({ more: [[0, vector(Buffer.concat([Buffer.from([0, 0, 1, 0x61]), Buffer.from([0, 0, 1, 0x62])]))]] }),
      problem: 'more than one server name',
    },
    {
      name: 'a name of another type',
      bytes: clientHello({ more: [[0, vector(Buffer.from([1, 0, 1, 0x61]))]] }),
      problem: 'more than one server name',
    },
    { name: 'a zero byte in the name', bytes: clientHello({ serverName: 'good.test\0.evil.test' }), problem: 'no host name' },
    { name: 'an empty name', bytes: clientHello({ serverName: '' }), problem: 'no host name' },
    { name: 'a name with a dot at the end', bytes: clientHello({ serverName: 'good.test.' }), problem: 'no host name' },
    { name: 'a name of 254 bytes', bytes: clientHello({ serverName: `${'a.'.repeat(126)}aa` }), problem: 'no host name' },
    { name: 'a label of 64 bytes', bytes: clientHello({ serverName: `${'a'.repeat(64)}.test` }), problem: 'no host name' },
    { name: 'a name beyond ASCII', bytes: clientHello({ serverName: 'b\u00fccher.test' }), problem: 'no host name' },
    { name: 'an extension that ends too early', bytes: clientHello({ more: [[16, Buffer.from([0, 9, 1])]] }), problem: 'ends too early' },
    { name: 'a protocol without a name', bytes: clientHello({ more: [[16, vector(Buffer.from([0]))]] }), problem: 'without a name' },
  ])('$name is no hello', ({ bytes, problem }) => {
    expect(readClientHello(bytes)).toEqual({ problem: expect.stringContaining(problem) });
  });

  test('bytes behind the extensions are no part of a hello', () => {
    const message = clientHelloMessage({ serverName: 'a.test' });
    const longer = Buffer.concat([message, Buffer.from([0, 1])]);
    longer.writeUIntBE(message.length - 4 + 2, 1, 3);
    expect(readClientHello(inRecords(longer))).toEqual({ problem: expect.stringContaining('bytes behind its extensions') });
  });

  test('a hello without extensions names nobody', () => {
    const message = clientHelloMessage({});
    const without = Buffer.from(message.subarray(0, message.length - 2));
    without.writeUIntBE(without.length - 4, 1, 3);
    expect(readClientHello(inRecords(without))).toEqual({ serverName: '', applicationProtocols: [], encrypted: false });
  });

  test('damaged in any one byte it is read, wanted more of, or refused: never an error', () => {
    const bytes = clientHello({ serverName: 'api.example.com', protocols: ['h2', 'http/1.1'], encrypted: true, padding: 30 });
    for (let at = 0; at < bytes.length; at++)
      for (const value of [0, 1, 0x7f, 0xff]) {
        const damaged = Buffer.from(bytes);
        damaged[at] = value;
        const reading = readClientHello(damaged);
        expect(reading === 'more' || 'problem' in reading || typeof reading.serverName === 'string').toBe(true);
      }
  });
});

describe('refuseHello()', () => {
  const list = { patterns: ['api.example.com', '*.cdn.example'], allowMissing: false, allowEncrypted: false };
  const hello = (serverName: string, encryptedHello = false) => ({ serverName, encryptedHello });
  test.each<{ server: ReturnType<typeof hello>; change?: object; refused?: string }>([
    { server: hello('api.example.com') },
    { server: hello('a.b.cdn.example') },
    { server: hello('cdn.example'), refused: 'server name cdn.example is not in' },
    { server: hello('xapi.example.com'), refused: 'is not in' },
    { server: hello('api.example.com.evil.test'), refused: 'is not in' },
    { server: hello(''), refused: 'names no server' },
    { server: hello(''), change: { allowMissing: true } },
    { server: hello('api.example.com', true), refused: 'encrypted' },
    { server: hello('api.example.com', true), change: { allowEncrypted: true } },
    { server: hello('evil.test', true), change: { allowEncrypted: true }, refused: 'is not in' },
  ])('$server.serverName encrypted: $server.encryptedHello, $change: $refused', ({ server, change, refused }) => {
    const refusal = refuseHello({ ...list, ...change }, server);
    if (refused) expect(refusal).toContain(refused);
    else expect(refusal).toBeUndefined();
  });
});
