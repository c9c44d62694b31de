/** Hellos of TLS clients, as bytes, and a server that knows who it was taken for. */

export interface Hello {
  /** As it is written, whatever it is; absent: no extension. */
  readonly serverName?: string | undefined;
  readonly protocols?: readonly string[];
  readonly encrypted?: boolean;
  /** Bytes of padding (RFC 7685). */
  readonly padding?: number;
  /** Extensions as they are, behind the others. */
  readonly more?: readonly (readonly [type: number, data: Buffer])[];
}

const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
const vector = (bytes: Buffer, lengthBytes: 1 | 2 = 2): Buffer =>
  Buffer.concat([lengthBytes === 1 ? Buffer.from([bytes.length]) : u16(bytes.length), bytes]);

/** The handshake message, without a record around it. */
export function clientHelloMessage({ serverName, protocols = [], encrypted, padding = 0, more = [] }: Hello): Buffer {
  const extensions: [number, Buffer][] = [];
  if (serverName !== undefined) extensions.push([0, vector(Buffer.concat([Buffer.from([0]), vector(Buffer.from(serverName, 'latin1'))]))]);
  if (protocols.length) extensions.push([16, vector(Buffer.concat(protocols.map((name) => vector(Buffer.from(name), 1))))]);
  if (encrypted) extensions.push([0xfe0d, Buffer.alloc(200)]);
  if (padding) extensions.push([21, Buffer.alloc(padding)]);
  const body = Buffer.concat([
    u16(0x0303),
    Buffer.alloc(32, 7),
    vector(Buffer.alloc(32, 1), 1),
    vector(Buffer.from([0x13, 0x01])),
    vector(Buffer.from([0]), 1),
    vector(Buffer.concat([...extensions, ...more].map(([type, data]) => Buffer.concat([u16(type), vector(data)])))),
  ]);
  return Buffer.concat([Buffer.from([1, body.length >> 16, (body.length >> 8) & 255, body.length & 255]), body]);
}

/** In records of at most so many bytes. */
export function inRecords(message: Buffer, recordBytes = 16_384): Buffer {
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += recordBytes)
    records.push(Buffer.concat([Buffer.from([22, 3, 1]), vector(message.subarray(at, at + recordBytes))]));
  return Buffer.concat(records);
}

export function clientHello(hello: Hello): Buffer {
  return inRecords(clientHelloMessage(hello));
}

/** Source of a TLS server on both families: port 443 answers a request with the server name that its client asked for, 444 is an echo. */
export const TLS_SERVER = `
const { execFileSync } = require('child_process'); const fs = require('fs'); const tls = require('tls');
const [directory] = process.argv.slice(1);
execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=test', '-keyout', directory + '/key.pem', '-out', directory + '/cert.pem'], { stdio: 'ignore' });
const options = { key: fs.readFileSync(directory + '/key.pem'), cert: fs.readFileSync(directory + '/cert.pem') };
tls.createServer(options, (s) => {
  s.on('error', () => {});
  s.once('data', () => { const body = s.servername || 'nobody'; s.end('HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: ' + body.length + '\\r\\n\\r\\n' + body); });
}).on('tlsClientError', () => {}).listen(443, '::');
tls.createServer(options, (s) => s.on('error', () => {}).pipe(s)).on('tlsClientError', () => {}).listen(444, '::');
`;
