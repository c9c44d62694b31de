/**
 * A node with clients, two versions of a service and proxies between them, for benchmarks of HTTP: who is measured has a
 * processor of its own (1), wrk and the backends share the other one (0). All proxies do the same: requests with the cookie
 * canary=v2 go to the second version, all others to the first.
 */
import type { ChildProcess } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { TestNode, until } from '../support/test-node.ts';

export const root = fileURLToPath(new URL('../..', import.meta.url));
/** On every pod's interface of the node. */
const NODE_ADDRESS = '169.254.1.1';
const PLAIN_PORT = 8081;
const NGINX_PORT = 8082;
const HAPROXY_PORT = 8083;
export const SERVICE = '10.96.0.10';
export const SERVICE_KNOWN = '10.96.0.20';
const LARGE_BYTES = 1024 * 1024 * 1024;

export interface Way {
  readonly name: string;
  readonly url: string;
  /** Starts it, where it is not there all the time. */
  start?(): ChildProcess;
}

export interface Wrk {
  readonly perSecond: number;
  /** Microseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly errors: number;
}

export class HttpStand {
  readonly node: TestNode;
  readonly addresses = new Map<string, string>();
  #engine = 0;

  /** `checkout`: whose engine runs here; this one's unless given. */
  constructor(checkout?: string) {
    this.node = new TestNode(checkout);
  }

  async open(): Promise<void> {
    const { node } = this;
    const pods = ['client', 'v1', 'v2', 'v3'].map(
      (name) => `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }\nspec: {}\n`,
    );
    await node.lab(pods.join('---\n'));
    for (const [, name = '', ip = ''] of readFileSync(join(node.source, 'cluster.yaml'), 'utf8').matchAll(
      /name: (\w+)[\s\S]*?- ip: ([\d.]+)/g,
    ))
      this.addresses.set(name, ip);
    for (const name of ['v1', 'v2', 'v3'])
      this.#nginx(name, `listen 80; listen [::]:80; ${this.#content(name)}`, '', (command) =>
        node.start(`shop/${name}`, 'taskset', '-c', name === 'v3' ? '1' : '0', ...command),
      );
    for (const plugin of ['plugins/canary', 'test/fixtures/known-route'])
      await buildPlugin(join(root, plugin), join(node.source, `${plugin.split('/').at(-1)}.wasm`));
    // The same, but for its bytes.
    const canary = readFileSync(join(node.source, 'canary.wasm'));
    writeFileSync(join(node.source, 'other.wasm'), Buffer.concat([canary, Buffer.from([0, 5, 4, 0x6e, 0x6f, 0x74, 0x65])]));
    node.write('http.yaml', this.#policy());
    writeFileSync(
      join(node.directory, 'mix.lua'),
      `local a, b, n
init = function() b = wrk.format("GET", "/", { ["Cookie"] = "session=abc123; canary=v1" }); a = wrk.format("GET", "/", { ["Cookie"] = "session=abc123; canary=v2" }); n = 0 end
request = function() n = n + 1; if n % 10 == 0 then return a end; return b end
done = function(s, l) io.write(string.format("RESULT %d %d %.1f %.1f %d\\n", s.requests, s.duration, l:percentile(50), l:percentile(99), s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout)) end
`,
    );
    const engine = node.spawnEngine('--log-level', 'info');
    await until(
      async () => (await node.curl('http://127.0.0.1:9470/readyz')).code === 0,
      20_000,
      () => engine.log(),
    );
    await node.apply();
    this.#engine = engine.process.pid ?? 0;
    await node.run('taskset', '-a', '-c', '-p', '1', String(this.#engine));
  }

  /** The ways from the client to the versions. */
  ways(): Way[] {
    const { node } = this;
    const onNode = (...command: string[]): ChildProcess => node.startOnNode('taskset', '-c', '1', ...command);
    const v1 = this.addresses.get('v1');
    const v2 = this.addresses.get('v2');
    const plain = join(root, 'test/bench/plain-proxy.ts');
    return [
      { name: 'direct', url: `http://${this.addresses.get('v3')}/` },
      { name: 'sluice', url: `http://${SERVICE}/` },
      {
        name: 'nginx',
        url: `http://${NODE_ADDRESS}:${NGINX_PORT}/`,
        start: () =>
          this.#nginx(
            'proxy',
            `listen ${NGINX_PORT}; location / { proxy_pass http://$up; proxy_http_version 1.1; proxy_set_header Connection ""; }`,
            `map $cookie_canary $up { default stable; v2 canary; }
upstream stable { server ${v1}:80; keepalive 128; keepalive_requests 100000000; }
upstream canary { server ${v2}:80; keepalive 128; keepalive_requests 100000000; }`,
            (command) => onNode(...command),
          ),
      },
      {
        name: 'haproxy',
        url: `http://${NODE_ADDRESS}:${HAPROXY_PORT}/`,
        start: () => {
          const file = join(node.directory, 'haproxy.cfg');
          writeFileSync(
            file,
            `global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
frontend in
  bind ${NODE_ADDRESS}:${HAPROXY_PORT}
  use_backend canary if { req.cook(canary) -m str v2 }
  default_backend stable
backend stable
  server s ${v1}:80
backend canary
  server s ${v2}:80
`,
          );
          return onNode('haproxy', '-f', file);
        },
      },
      {
        name: 'node:http',
        url: `http://${NODE_ADDRESS}:${PLAIN_PORT}/`,
        start: () => onNode(process.execPath, plain, String(PLAIN_PORT), `${v1}:80`, `${v2}:80`),
      },
      { name: 'sluice, verdict known', url: `http://${SERVICE_KNOWN}/` },
    ];
  }

  /** One run of wrk with so many keep-alive connections. */
  async wrk(url: string, connections: number, seconds: number): Promise<Wrk> {
    const { stdout, stderr } = await this.node.exec(
      'shop/client',
      'taskset',
      '-c',
      '0',
      'wrk',
      '-t1',
      `-c${connections}`,
      `-d${seconds}s`,
      '-s',
      join(this.node.directory, 'mix.lua'),
      url,
    );
    const [, requests, duration, p50, p99, errors] = /RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)/.exec(stdout) ?? [];
    if (!requests) throw new Error(`wrk says nothing of ${url}: ${stdout}${stderr}`);
    return { perSecond: (Number(requests) / Number(duration)) * 1e6, p50: Number(p50), p99: Number(p99), errors: Number(errors) };
  }

  async close(): Promise<void> {
    await this.node.remove();
  }

  #content(name: string): string {
    return `location / { default_type text/plain; return 200 "${name} ${'.'.repeat(124)}\\n"; } location /large { default_type application/octet-stream; alias ${this.node.directory}/large; }`;
  }

  /** Makes what `/large` has; returns its bytes. */
  makeLarge(): number {
    const path = join(this.node.directory, 'large');
    writeFileSync(path, '');
    truncateSync(path, LARGE_BYTES);
    return LARGE_BYTES;
  }

  /** Seconds that it takes to fetch `/large`, without anything and decided: medians. */
  async download(rounds: number): Promise<number[]> {
    const times: number[][] = [[], []];
    for (let round = 0; round < rounds; round++)
      for (const [i, host] of [this.addresses.get('v1'), SERVICE].entries()) {
        const { stdout } = await this.node.exec(
          'shop/client',
          'curl',
          '-s',
          '-o',
          '/dev/null',
          '-w',
          '%{time_total} %{size_download}',
          `http://${host}/large`,
        );
        const [seconds, bytes] = stdout.split(' ').map(Number);
        if (bytes !== LARGE_BYTES) throw new Error(`${host} gave ${bytes} bytes of ${LARGE_BYTES}`);
        times[i]?.push(seconds ?? 0);
      }
    return times.map((each) => each.sort((x, y) => x - y)[each.length >> 1] ?? 0);
  }

  /** Opens connections that each have had one answer, and wait: what the engine's memory grows by. */
  async idle(connections: number): Promise<{ open: number; kib: number }> {
    const before = this.#residentKib();
    const script = `const net = require('node:net'); let open = 0;
const next = () => { if (open === ${connections}) { console.log('open'); return; } const s = net.connect(80, '${SERVICE}'); s.on('error', (e) => { console.log(e.code); process.exit(1); }); s.write('GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); s.once('data', () => { open++; next(); }); s.on('data', () => {}); };
for (let i = 0; i < 1; i++) next(); setInterval(() => {}, 1000);`;
    const child = this.node.start('shop/client', process.execPath, '-e', script);
    const said = await new Promise<string>((resolve) => child.stdout?.once('data', (bytes: Buffer) => resolve(bytes.toString().trim())));
    if (said !== 'open') throw new Error(`connections were not opened: ${said}`);
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const kib = (this.#residentKib() - before) / connections;
    child.kill();
    return { open: connections, kib };
  }

  /** Swaps the plugin as often as that while requests come. */
  async swap(swaps: number): Promise<{ swaps: number; seconds: number; requests: number; failed: number }> {
    const started = performance.now();
    const load = this.wrk(`http://${SERVICE}/`, 16, Math.ceil(swaps / 25) + 2);
    for (let i = 0; i < swaps; i++) {
      const { code, stderr } = await this.node.run(
        'curl',
        '-gsSf',
        '-X',
        'PUT',
        '-H',
        'content-type: application/wasm',
        '--data-binary',
        `@${join(this.node.source, i % 2 ? 'canary.wasm' : 'other.wasm')}`,
        'http://127.0.0.1:9470/v1/plugins/canary',
      );
      if (code) throw new Error(`swap ${i}: ${stderr}`);
    }
    const seconds = (performance.now() - started) / 1000;
    const { errors, perSecond } = await load;
    return { swaps, seconds, requests: Math.round(perSecond * (Math.ceil(swaps / 25) + 2)), failed: errors };
  }

  #residentKib(): number {
    const status = readFileSync(`/proc/${this.#engine}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
  }

  #nginx(name: string, server: string, http: string, start: (command: string[]) => ChildProcess): ChildProcess {
    const { directory } = this.node;
    const file = join(directory, `nginx-${name}.conf`);
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((kind) => `${kind}_temp_path ${directory}/nginx-${name}-${kind};`)
      .join(' ');
    writeFileSync(
      file,
      `user root; daemon off; worker_processes 1; pid ${directory}/nginx-${name}.pid; error_log ${directory}/nginx-${name}.log warn;
events { worker_connections 16384; }
http { access_log off; keepalive_requests 100000000; keepalive_timeout 600s; sendfile on; ${temporary}
${http}
server { ${server} } }
`,
    );
    return start(['nginx', '-c', file, '-p', directory]);
  }

  #policy(): string {
    const service = (name: string, ip: string, app: string): string => `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${ip}, selector: { app: ${app} }, ports: [{ port: 80 }] }
---
`;
    const tag = (name: string, plugin: string): string => `apiVersion: sluice.dev/v1alpha1
kind: PolicyPlugin
metadata: { name: ${plugin} }
spec: { module: { file: ${plugin}.wasm } }
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ${name}, namespace: shop }
spec:
  podSelector: { matchLabels: { app: client } }
  egress:
  - to: [{ service: { name: ${name} } }]
    ask: { plugin: ${plugin}, context: http }
    http:
      routes: { stable: { service: ${name === 'known' ? 'v3' : 'v1'}, port: 80 }, canary: { service: v2, port: 80 } }
      default: stable
---
`;
    return [
      service('v1', '10.96.0.11', 'v1'),
      service('v2', '10.96.0.12', 'v2'),
      service('v3', '10.96.0.13', 'v3'),
      service('checkout', SERVICE, 'v1'),
      service('known', SERVICE_KNOWN, 'v3'),
      tag('checkout', 'canary'),
      tag('known', 'known-route'),
    ].join('');
  }
}
