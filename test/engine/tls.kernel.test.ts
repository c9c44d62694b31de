/** The hello of TLS read on the way: real clients, real servers, whatever the hello looks like on the wire. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { barePod, webPod, withAddresses } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';
import { clientHello, clientHelloMessage, inRecords, TLS_SERVER } from '../support/tls.ts';

const SERVER = '10.91.250.1';
const SERVER_IPV6 = 'fd91:250::1';

const policy = (rule: string): string => `apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: names, namespace: shop }
spec:
  podSelector: { matchLabels: { app: client } }
  egress: [${rule}]
`;
const LIST = '{ serverNames: { names: [api.example.com, "*.cdn.example"] } }';

describe.skipIf(inject('missing'))('server names', () => {
  const node = new TestNode();
  beforeAll(async () => {
    await node.lab(
      withAddresses(barePod('shop', 'server'), SERVER, SERVER_IPV6) + webPod('shop', 'client', [80]) + webPod('shop', 'other', [80]),
    );
    node.start('shop/server', process.execPath, '-e', TLS_SERVER, node.directory);
    node.write('policy.yaml', policy(LIST));
    await node.engine();
    await node.apply();
    await until(async () => (await ask('api.example.com', { pod: 'shop/other' })) === 'api.example.com', 10_000);
  }, 60_000);
  afterAll(() => node.remove());

  /** The server's answer, or how curl failed: 35 is a reset in the handshake, 28 a time-out. */
  const ask = async (name: string, { pod = 'shop/client', to = SERVER, seconds = 2 } = {}): Promise<string> => {
    const at = to.includes(':') ? `[${to}]` : to;
    const target = name ? ['--resolve', `${name}:443:${at}`, `https://${name}/`] : [`https://${at}/`];
    const { code, stdout } = await node.exec(pod, 'curl', '-sk', '-m', String(seconds), ...target);
    return code ? `failed ${code}` : stdout;
  };

  test.each([SERVER, SERVER_IPV6])('a listed name passes, another one is ended at once, over %s', async (to) => {
    expect(await ask('api.example.com', { to })).toBe('api.example.com');
    expect(await ask('www.cdn.example', { to })).toBe('www.cdn.example');
    expect(await ask('www.evil.example', { to })).toBe('failed 35');
    expect(await ask('cdn.example', { to })).toBe('failed 35');
    expect(await ask('', { to })).toBe('failed 35');
    expect(await ask('www.evil.example', { to, pod: 'shop/other' })).toBe('www.evil.example');
  });

  test('flows and explain say what was named, and by which rule', async () => {
    await ask('www.evil.example');
    await ask('api.example.com');
    let flows = '';
    await until(async () => (flows = (await node.sluiceOk('flows', '--last', '50')).stdout).includes('server name api.example.com'), 3000);
    expect(flows).toMatch(
      /deny +shop\/client:\d+ → shop\/server:443 TCP egress: server name www\.evil\.example is not in the rule's list \(server name www\.evil\.example, PluginPolicy shop\/names egress\[0\]\)/,
    );
    expect(flows).toMatch(/allow +shop\/client:\d+ → shop\/server:443 TCP egress: the server name is in the list/);
    const explained = await node.sluice('explain', '--from', 'shop/client', '--to', 'shop/server', '--port', '443/tcp', '--verify');
    expect(explained.stdout).toContain('PluginPolicy shop/names egress[0] has its server name read');
  });

  /** Says bytes over TCP in pieces, and returns what became of the connection. */
  const sayInPieces = async (bytes: Buffer, pieces: readonly number[], pod = 'shop/client'): Promise<string> => {
    const script = `
const [hex, pieces] = process.argv.slice(1); const bytes = Buffer.from(hex, 'hex');
const s = require('net').connect({ host: '${SERVER}', port: 443, noDelay: true });
s.on('connect', async () => { let at = 0; for (const end of JSON.parse(pieces)) { s.write(bytes.subarray(at, end)); at = end; await new Promise((r) => setTimeout(r, 5)); } s.write(bytes.subarray(at)); });
s.on('data', (d) => { console.log('type', d[0]); process.exit(0); }); s.on('error', (e) => { console.log(e.code); process.exit(0); }); setTimeout(() => { console.log('nothing'); process.exit(0); }, 1500);`;
    return (await node.exec(pod, process.execPath, '-e', script, bytes.toString('hex'), JSON.stringify(pieces))).stdout.trim();
  };
  /** Of a record that a TLS server answers with: its hello, or an alert about ours, which is a sham. */
  const ANSWERED = /^type (21|22)$/;

  test('a hello in many packets, of up to 16 KiB, and in many records', async () => {
    const hello = (serverName: string, padding = 0): Buffer => clientHello({ serverName, padding, protocols: ['h2'] });
    const every = (bytes: number, length: number): number[] =>
      Array.from({ length: Math.ceil(length / bytes) - 1 }, (_, i) => (i + 1) * bytes);
    for (const [name, wanted] of [
      ['api.example.com', ANSWERED],
      ['www.evil.example', /^ECONNRESET$/],
    ] as const) {
      expect(await sayInPieces(hello(name), [1, 3, 5, 60, 61, 100])).toMatch(wanted);
      expect(await sayInPieces(hello(name, 3000), every(700, 3000))).toMatch(wanted);
      expect(await sayInPieces(inRecords(clientHelloMessage({ serverName: name }), 20), [50])).toMatch(wanted);
      expect(await sayInPieces(hello(name, 16_000), [])).toMatch(wanted);
      expect(await sayInPieces(hello(name, 16_000), every(1000, 16_000))).toMatch(wanted);
    }
    expect(await sayInPieces(hello('api.example.com', 16_300), [])).toBe('ECONNRESET');
    expect(await sayInPieces(Buffer.from('GET / HTTP/1.1\r\n\r\n'), [])).toBe('ECONNRESET');
    expect(await sayInPieces(clientHello({ serverName: 'api.example.com', encrypted: true }), [])).toBe('ECONNRESET');
  });

  test('a real client whose hello comes in pieces of 97 bytes', async () => {
    const script = `
const net = require('net'), tls = require('tls'); const { Duplex } = require('stream');
const wire = net.connect({ host: '${SERVER}', port: 443, noDelay: true });
const slow = new Duplex({ read() {}, async write(chunk, _e, done) { for (let at = 0; at < chunk.length; at += 97) { wire.write(chunk.subarray(at, at + 97)); await new Promise((r) => setTimeout(r, 1)); } done(); } });
wire.on('data', (d) => slow.push(d)); wire.on('error', (e) => { console.log(e.code); process.exit(0); });
const s = tls.connect({ socket: slow, servername: process.argv[1], rejectUnauthorized: false }, () => s.write('x'));
s.on('data', (d) => { console.log(String(d).split('\\r\\n\\r\\n')[1]); process.exit(0); }); s.on('error', (e) => { console.log(e.code); process.exit(0); });`;
    const run = async (name: string): Promise<string> =>
      (await node.exec('shop/client', process.execPath, '-e', script, name)).stdout.trim();
    expect([await run('api.example.com'), await run('www.evil.example')]).toEqual(['api.example.com', 'ECONNRESET']);
  });

  test('what the rule says of clients that name nobody, and of those that may hide whom', async () => {
    const hidden = clientHello({ serverName: 'api.example.com', encrypted: true });
    node.write('policy.yaml', policy('{ serverNames: { names: [api.example.com], withoutName: Allow, encryptedHello: Allow } }'));
    await node.apply();
    expect([await ask(''), await ask('www.evil.example'), await ask('www.cdn.example')]).toEqual(['nobody', 'failed 35', 'failed 35']);
    expect(await sayInPieces(hidden, [])).toMatch(ANSWERED);
    node.write('policy.yaml', policy(LIST));
    await node.apply();
    expect([await ask(''), await sayInPieces(hidden, [])]).toEqual(['failed 35', 'ECONNRESET']);
  });

  test('QUIC to the same port does not pass, and is shown', async () => {
    node.start(
      'shop/server',
      process.execPath,
      '-e',
      "require('dgram').createSocket('udp4').on('message', function (m, r) { this.send('heard', r.port, r.address); }).bind(443)",
    );
    const say = `const s = require('dgram').createSocket('udp4'); s.on('message', (m) => { console.log(String(m)); process.exit(0); }); s.send(Buffer.alloc(1200, 0xc0), 443, '${SERVER}'); setTimeout(() => { console.log('nothing'); process.exit(0); }, 500)`;
    const heard = async (pod: string): Promise<string> => (await node.exec(pod, process.execPath, '-e', say)).stdout.trim();
    await until(async () => (await heard('shop/other')) === 'heard', 5000);
    expect(await heard('shop/client')).toBe('nothing');
    await until(
      async () => (await node.sluiceOk('flows', '--last', '50')).stdout.includes('QUIC, where the server name is to be read'),
      3000,
    );
  });

  test('what was read once flows without the engine; what is new fails as policy says, and an engine that comes back takes over', async () => {
    const script = `
const s = require('tls').connect({ host: '${SERVER}', port: 444, servername: 'api.example.com', rejectUnauthorized: false });
s.on('secureConnect', () => setInterval(() => s.write('ping'), 50)); s.on('data', () => process.stdout.write('.')); s.on('error', (e) => console.log(e.code)); s.on('close', () => console.log('closed'));`;
    node.write('policy.yaml', policy('{ ports: [{ port: 443 }, { port: 444 }], serverNames: { names: [api.example.com] } }'));
    await node.apply();
    const client = node.start('shop/client', process.execPath, '-e', script);
    let heard = '';
    client.stdout?.on('data', (chunk: Buffer) => (heard += String(chunk)));
    await until(() => heard.length > 5, 5000);
    await node.stopEngines('SIGKILL');
    const before = heard.length;
    await until(() => heard.length > before + 10, 5000);
    expect(await ask('api.example.com', { seconds: 1 })).toBe('failed 28');
    await node.engine();
    await node.apply();
    expect([await ask('api.example.com'), await ask('www.evil.example')]).toEqual(['api.example.com', 'failed 35']);
    const later = heard.length;
    await until(() => heard.length > later + 10, 5000);
    expect(heard).not.toContain('closed');
    // It was read under this rule: another one that reads goes by it, one that asks somebody else does not.
    node.write('policy.yaml', policy('{ ports: [{ port: 443 }, { port: 444 }], ask: { plugin: nobody, context: tls } }'));
    await node.sluice('wait', '--timeout', '5s');
    await new Promise((resolve) => setTimeout(resolve, 300));
    const ended = heard.length;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(heard.length).toBe(ended);
    client.kill();
    node.write('policy.yaml', policy(LIST));
    await node.apply();
  });

  test('connections that begin while no engine runs wait for it: none is lost, none passes unread', async () => {
    const script = `
const tls = require('tls'); const counts = {};
const one = (servername) => new Promise((resolve) => { const s = tls.connect({ host: '${SERVER}', port: 443, servername, rejectUnauthorized: false }, () => s.write('x')); let got = '';
  const end = (what) => { clearTimeout(timer); s.destroy(); resolve(what); }; const timer = setTimeout(() => end('time-out'), 20000);
  s.on('data', (d) => (got += d)); s.on('error', (e) => end(e.code)); s.on('close', () => end(got.split('\\r\\n\\r\\n')[1] || 'closed')); });
(async () => { await Promise.all(Array.from({ length: 60 }, async (_, i) => { const name = i % 2 ? 'api.example.com' : 'www.evil.example'; const key = name + ': ' + (await one(name)); counts[key] = (counts[key] || 0) + 1; })); console.log(JSON.stringify(counts)); })();`;
    await node.stopEngines('SIGKILL');
    const asked = node.exec('shop/client', process.execPath, '-e', script);
    await new Promise((resolve) => setTimeout(resolve, 500));
    await node.engine();
    expect(JSON.parse((await asked).stdout)).toEqual({ 'api.example.com: api.example.com': 30, 'www.evil.example: ECONNRESET': 30 });
    await node.apply();
  }, 60_000);

  test('of what a pod receives', async () => {
    node.write('policy.yaml', policy(LIST).replace('app: client', 'app: server').replace('egress:', 'ingress:'));
    await node.apply();
    for (const pod of ['shop/client', 'shop/other'])
      expect([await ask('api.example.com', { pod }), await ask('www.evil.example', { pod })]).toEqual(['api.example.com', 'failed 35']);
    node.write('policy.yaml', policy(LIST));
    await node.apply();
  });

  test('a plugin decides by name and protocols', async () => {
    const file = join(node.directory, 'reader.wasm');
    await buildPlugin('test/fixtures/answer-reader', file);
    const declared = `apiVersion: sluice.dev/v1alpha1\nkind: PolicyPlugin\nmetadata: { name: reader }\nspec: { module: { file: ${file} } }\n---\n`;
    node.write('policy.yaml', declared + policy('{ ask: { plugin: reader, context: tls } }'));
    await node.apply();
    const curl = async (...options: string[]): Promise<number> =>
      (await node.exec('shop/client', 'curl', '-sk', '-m', '2', ...options, '--resolve', `any.test:443:${SERVER}`, 'https://any.test/'))
        .code;
    expect([await curl('--http2'), await curl('--http1.1')]).toEqual([0, 35]);
    expect(await ask('')).toBe('failed 35');
    let flows = '';
    await until(async () => (flows = (await node.sluiceOk('flows', '--last', '20')).stdout).includes('speaks http/1.1 to any.test'), 3000);
    expect(flows).toContain('no name (plugin reader, PluginPolicy shop/names egress[0])');
    node.write('policy.yaml', policy(LIST));
    await node.apply();
  });

  test('600 connections, eight at a time: none is lost', async () => {
    const script = `
const tls = require('tls'); let done = 0, failed = 0, running = 0, started = 0; const TOTAL = 600;
function next() { while (running < 8 && started < TOTAL) { started++; running++; const s = tls.connect({ host: '${SERVER}', port: 443, servername: 'n' + started + '.cdn.example', rejectUnauthorized: false }, () => s.write('x'));
  let got = ''; s.on('data', (d) => (got += d)); s.on('error', () => {}); s.on('close', () => { running--; if (got.includes('.cdn.example')) done++; else failed++; if (done + failed === TOTAL) { console.log(JSON.stringify({ done, failed })); process.exit(0); } next(); }); } }
next();`;
    const { stdout } = await node.exec('shop/client', process.execPath, '-e', script);
    expect(JSON.parse(stdout)).toEqual({ done: 600, failed: 0 });
  }, 60_000);
});
