/** The lab's web server: `http-echo NAME PORT…` answers every request with its name, and the address it was asked from. */
import { createServer } from 'node:http';

const [name = '', ...ports] = process.argv.slice(2);
let listening = 0;
for (const port of ports) {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/plain');
    response.end(`${name} asked by ${request.socket.remoteAddress?.replace(/^::ffff:/, '')}\n`);
  });
  server.listen(Number(port), '::', () => {
    listening += 1;
    if (listening === ports.length) console.log('ready');
  });
}
