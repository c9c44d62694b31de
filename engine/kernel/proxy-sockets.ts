/**
 * The proxy's sockets, in turns: what was written is sent, what has come is handed out, with one native call for all of
 * them. Bytes that are handed out are lent until the next turn: what is kept must be copied, what is written on need not be.
 */

import {
  type SocketEnds,
  SocketEvent,
  SocketOperation,
  socketCommandCodec,
  socketEndsCodec,
  socketRecordCodec,
  socketsMemoryCodec,
  socketsTurnCodec,
} from '../native.gen.ts';
import { addressOf, check, errnoName, native, prepareFor, readHandle } from './native.ts';
import { NumberedSocket, type ProxySocket, type SocketCommands } from './proxy-socket.ts';

/** Sizes in bytes; a turn that needs more than this takes several. */
const IN_BYTES = 4 * 1024 * 1024;
const OUT_BYTES = 1024 * 1024;
const COMMANDS_MAX = 4096;
/** Each command makes one at most; the rest is for what has come. */
const EVENTS_MAX = COMMANDS_MAX + 2048;
const WORD = Uint32Array.BYTES_PER_ELEMENT;

/** Where things are in memory, in words. */
const COMMAND_WORDS = socketCommandCodec.size / WORD;
const COMMAND_ID = socketCommandCodec.offsets.id / WORD;
const COMMAND_OPERATION = socketCommandCodec.offsets.operation / WORD;
const COMMAND_OFFSET = socketCommandCodec.offsets.offset / WORD;
const COMMAND_LENGTH = socketCommandCodec.offsets.length / WORD;
const EVENT_WORDS = socketRecordCodec.size / WORD;
const EVENT_ID = socketRecordCodec.offsets.id / WORD;
const EVENT_KIND = socketRecordCodec.offsets.kind / WORD;
const EVENT_OFFSET = socketRecordCodec.offsets.offset / WORD;
const EVENT_LENGTH = socketRecordCodec.offsets.length / WORD;
const TURN_WORDS = socketsTurnCodec.size / WORD;
const TIMEOUT_MS = socketsTurnCodec.offsets.timeoutMs / WORD;
const COMMAND_COUNT = socketsTurnCodec.offsets.commandCount / WORD;
const EVENT_COUNT = socketsTurnCodec.offsets.eventCount / WORD;
const REFUSED_COUNT = socketsTurnCodec.offsets.refusedCount / WORD;

const ADDRESS_BYTES = 16;
/** In place of an address where a connection begins: the node. */
export const FROM_NODE = Buffer.alloc(ADDRESS_BYTES);

/** Sockets that listen, by enum ProxyListener, and the native handle of the network that they are of; 0: of none of ours. */
export interface ListeningNetwork {
  readonly handle: number;
  readonly listeners: Int32Array;
}

/** Whoever looks after all sockets. */
export interface SocketsWatch {
  accepted(socket: ProxySocket, ends: SocketEnds): void;
  /** A wait has ended: what follows happens at one time. */
  woke(): void;
  /** A defect: the connection that met it is broken off. */
  failed(error: Error): void;
}

export class ProxySockets implements SocketCommands {
  readonly handle: number;
  readonly #turn = new Int32Array(TURN_WORDS);
  readonly #in = Buffer.from(new ArrayBuffer(IN_BYTES));
  readonly #out = Buffer.from(new ArrayBuffer(OUT_BYTES));
  readonly #commands = new Uint32Array(COMMANDS_MAX * COMMAND_WORDS);
  readonly #events = new Uint32Array(EVENTS_MAX * EVENT_WORDS);
  readonly #sockets: (NumberedSocket | undefined)[] = [];
  readonly #watch: SocketsWatch;
  readonly #takeTurn: () => number;
  readonly #runCommands: () => number;
  #outUsed = 0;
  /** Bytes that were handed out last. */
  #handed: Buffer | undefined;
  /** Events of this turn that were handed out. */
  #told = 0;

  /**
   * Serves listening sockets from the thread that calls this. `handle`: for whoever ends a wait of this thread, or cleans up behind it;
   * see wakeSockets() and closeSockets(). @throws EngineError `KERNEL_CALL`
   */
  constructor(network: ListeningNetwork, watch: SocketsWatch) {
    this.#watch = watch;
    const memory = Buffer.alloc(socketsMemoryCodec.size);
    socketsMemoryCodec.write(memory, 0, {
      turn: addressOf(bytesOf(this.#turn)),
      in: addressOf(this.#in),
      out: addressOf(this.#out),
      commands: addressOf(bytesOf(this.#commands)),
      events: addressOf(bytesOf(this.#events)),
      inCapacity: BigInt(IN_BYTES),
      outCapacity: BigInt(OUT_BYTES),
      eventCapacity: BigInt(EVENTS_MAX),
    });
    const cell = Buffer.alloc(8);
    const listeners = bytesOf(network.listeners);
    check(native.sluice_sockets__open(network.handle, listeners, memory, cell), 'serve connections');
    this.handle = readHandle(cell);
    this.#takeTurn = prepareFor('sluice_sockets__turn', this.handle);
    this.#runCommands = prepareFor('sluice_sockets__commit', this.handle);
  }

  /** Connections that were refused because policy has sent nobody there. */
  get refused(): number {
    return this.#turn[REFUSED_COUNT] as number;
  }

  /** Sends what was written, waits at most that long for something to come, and hands it out. */
  turn(timeoutMs: number): void {
    this.#turn[TIMEOUT_MS] = timeoutMs;
    this.#outUsed = 0;
    this.#told = 0;
    check(this.#takeTurn(), 'serve connections');
    this.#watch.woke();
    this.dispatch();
  }

  /** Hands out what has happened and was not handed out yet. */
  dispatch(): void {
    const events = this.#events;
    while (this.#told < (this.#turn[EVENT_COUNT] as number)) {
      const at = this.#told++ * EVENT_WORDS;
      const id = events[at + EVENT_ID] as number;
      const kind = events[at + EVENT_KIND] as number;
      try {
        this.#hand(id, kind, events[at + EVENT_OFFSET] as number, events[at + EVENT_LENGTH] as number);
      } catch (error) {
        // One connection's fault must not end the others.
        this.#watch.failed(error as Error);
        this.#breakOff(id);
      }
    }
  }

  /** Begins a connection from an address, 16 bytes each, or from the node. @throws EngineError `KERNEL_CALL` */
  connect(from: Uint8Array | undefined, to: Uint8Array, port: number): ProxySocket {
    const [source, destination] = [Buffer.from(from ?? FROM_NODE), Buffer.from(to)];
    const id = native.sluice_sockets__connect(this.handle, source, destination, port);
    return this.#add(check(id, 'connect to a backend'), false);
  }

  /** Whether bytes are lent: they must be copied to be kept. Bytes that were handed out last most often are; asking for a buffer is not free. */
  lends(bytes: Buffer): boolean {
    return bytes === this.#handed || bytes.buffer === this.#in.buffer;
  }

  write(id: number, bytes: Buffer): void {
    if (this.lends(bytes)) {
      this.command(id, SocketOperation.WRITE_IN, bytes.byteOffset, bytes.length);
      return;
    }
    for (let from = 0; from < bytes.length; ) {
      // Before the copy: bytes that are copied must stay until their command is done.
      if (this.#outUsed === OUT_BYTES || this.#turn[COMMAND_COUNT] === COMMANDS_MAX) this.#commit();
      const length = Math.min(bytes.length - from, OUT_BYTES - this.#outUsed);
      bytes.copy(this.#out, this.#outUsed, from, from + length);
      const at = this.#outUsed;
      this.#outUsed += length;
      this.command(id, SocketOperation.WRITE_OUT, at, length);
      from += length;
    }
  }

  command(id: number, operation: SocketOperation, offset: number, length: number): void {
    if (this.#turn[COMMAND_COUNT] === COMMANDS_MAX) this.#commit();
    const count = this.#turn[COMMAND_COUNT] as number;
    const at = count * COMMAND_WORDS;
    this.#commands[at + COMMAND_ID] = id;
    this.#commands[at + COMMAND_OPERATION] = operation;
    this.#commands[at + COMMAND_OFFSET] = offset;
    this.#commands[at + COMMAND_LENGTH] = length;
    this.#turn[COMMAND_COUNT] = count + 1;
  }

  take(id: number): number {
    this.#commit();
    this.forget(id);
    return check(native.sluice_sockets__take(this.handle, id), 'hand a connection on');
  }

  forget(id: number): void {
    this.#sockets[id] = undefined;
  }

  #breakOff(id: number): void {
    const socket = this.#sockets[id];
    const handler = socket?.handler;
    socket?.reset();
    try {
      handler?.onGone('EPROTO');
    } catch (error) {
      this.#watch.failed(error as Error);
    }
  }

  #commit(): void {
    check(this.#runCommands(), 'serve connections');
    this.#outUsed = 0;
  }

  #add(id: number, connected: boolean): NumberedSocket {
    const socket = new NumberedSocket(this, id, connected);
    this.#sockets[id] = socket;
    return socket;
  }

  #hand(id: number, kind: number, offset: number, length: number): void {
    if (kind === SocketEvent.ACCEPTED) {
      this.#watch.accepted(this.#add(id, true), socketEndsCodec.read(this.#in, offset));
      return;
    }
    const socket = this.#sockets[id];
    if (!socket) return;
    if (kind === SocketEvent.DATA) {
      socket.connected = true;
      this.#handed = this.#in.subarray(offset, offset + length);
      socket.handler?.onData(this.#handed);
    } else if (kind === SocketEvent.ENDED) socket.handler?.onEnd();
    else if (kind === SocketEvent.BLOCKED) socket.blocked = true;
    else if (kind === SocketEvent.CONNECTED) socket.connected = true;
    else if (kind === SocketEvent.DRAINED) {
      socket.blocked = false;
      socket.handler?.onDrain();
    } else if (kind === SocketEvent.GONE) {
      const { handler } = socket;
      socket.close();
      handler?.onGone(length ? errnoName(-length) : '');
    }
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array | Uint32Array): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}

/** Closes a socket by its descriptor. */
export function closeSocket(fd: number): void {
  native.sluice_map__close(fd);
}

/** Ends the wait of a thread's turn; from any thread, as long as it is not closed. */
export function wakeSockets(handle: number): void {
  check(native.sluice_sockets__wake(handle), 'wake the proxy');
}

/** Resets everybody whom a thread served that has ended, and gives up its network. */
export function closeSockets(handle: number): void {
  native.sluice_sockets__close(handle);
}
