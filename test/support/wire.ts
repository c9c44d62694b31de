/** A TCP proxy on a loopback port, in the place of the network: it can be frozen, thawed and cut in the middle of anything. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class Wire {
  readonly #server: Server;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #pairs = new Set<readonly [client: Socket, server: Socket]>();
  #frozen = false;
  /** Bytes from the server until all connections are cut. */
  #left = Number.POSITIVE_INFINITY;
  #onCut: () => void = () => {};

  private constructor(server: Server, target: { readonly host: string; readonly port: number }) {
    this.#server = server;
    this.#target = target;
    server.on('connection', (client) => this.#join(client));
  }

  static async to(host: string, port: number): Promise<Wire> {
    const server = createServer({ pauseOnConnect: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Wire(server, { host, port });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Nothing passes any more, and nobody is told; connections are taken and say nothing. */
  freeze(): void {
    this.#frozen = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** Everything passes again; what waited is not lost. */
  thaw(): void {
    this.#frozen = false;
    for (const pair of this.#pairs) for (const socket of pair) socket.resume();
  }

  /** Ends every connection at once. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Ends every connection after so many more bytes from the server; resolves when that has happened. */
  async cutAfter(bytes: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#left = bytes;
      this.#onCut = resolve;
    });
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(client: Socket): void {
    const server = connect(this.#target.port, this.#target.host);
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    const end = (): void => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
    client.on('data', (chunk) => server.write(chunk));
    server.on('data', (chunk) => {
      client.write(chunk.subarray(0, this.#left));
      this.#left -= chunk.length;
      if (this.#left > 0) return;
      this.#left = Number.POSITIVE_INFINITY;
      // The bytes before the cut arrive.
      for (const each of this.#pairs) each[0].end();
      this.#onCut();
    });
    for (const socket of pair)
      if (this.#frozen) socket.pause();
      else socket.resume();
  }
}
