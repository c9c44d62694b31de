/** Two connections that talk to each other without being read: after an upgrade. */
import type { ProxySocket } from '../kernel/proxy-socket.ts';
import type { BackendConnection } from './backend-connection.ts';

export class Tunnel {
  readonly #client: ProxySocket;
  readonly #connection: BackendConnection;
  readonly #onClosed: () => void;
  #over = false;

  constructor(client: ProxySocket, connection: BackendConnection, onClosed: () => void) {
    this.#client = client;
    this.#connection = connection;
    this.#onClosed = onClosed;
  }

  /** Joins both, who have said something already. */
  begin(fromClient: Buffer, fromBackend: Buffer): void {
    const { socket } = this.#connection;
    this.#join(this.#client, socket);
    this.#join(socket, this.#client);
    socket.write(fromClient);
    this.#client.write(fromBackend);
    socket.pause(false);
    this.#client.pause(false);
  }

  #join(from: ProxySocket, to: ProxySocket): void {
    from.handler = {
      onData: (bytes) => {
        if (!to.write(bytes)) from.pause(true);
      },
      // When both have said so, both are gone.
      onEnd: () => to.end(),
      onDrain: () => to.pause(false),
      onGone: () => this.#close(),
    };
  }

  /** When one side is gone, so is the other. */
  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#client.close();
    this.#connection.close();
    this.#onClosed();
  }
}
