/** A proxy as one writes it with node:http and an agent: `plain-proxy PORT STABLE CANARY`. What benchmarks compare with. */
import { Agent, createServer, request } from 'node:http';

const [, , port, stable = '', canary = ''] = process.argv;
const agent = new Agent({ keepAlive: true });
createServer((incoming, answer) => {
  const isCanary = /(?:^|;\s*)canary=v2(?:;|$)/.test(incoming.headers.cookie ?? '');
  const [host = '', to = '80'] = (isCanary ? canary : stable).split(':');
  const outgoing = request(
    { agent, host, port: Number(to), method: incoming.method, path: incoming.url, headers: incoming.headers },
    (answered) => {
      answer.writeHead(answered.statusCode ?? 502, answered.headers);
      answered.pipe(answer);
    },
  );
  outgoing.on('error', () => {
    answer.statusCode = 502;
    answer.end();
  });
  incoming.pipe(outgoing);
}).listen(Number(port));
