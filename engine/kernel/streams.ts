/**
 * The proxy's connections, in turns: what was written is sent, what has come is handed out, with one native call for all of
 * them. Bytes that are handed out are lent until the next turn: what is kept must be copied, what is written on need not be.
 */
import { addressOf, check, errnoName, native, readHandle } from './native.ts';

/** Sizes in bytes; a turn that needs more than this takes several. */
const IN_BYTES = 4 * 1024 * 1024;
const OUT_BYTES = 1024 * 1024;
const COMMANDS_MAX = 4096;
/** Each command makes one at most; the rest is for what has come. */
const EVENTS_MAX = COMMANDS_MAX + 2048;
const RECORD_WORDS = 4;

/** enum sluice_stream_operation and sluice_stream_kind of native/sluice.h. */
const Operation = { WRITE_IN: 1, WRITE_OUT: 2, END: 3, CLOSE: 4, RESET: 5, PAUSE: 6, RESUME: 7 } as const;
const Kind = { ACCEPTED: 1, CONNECTED: 2, DATA: 3, ENDED: 4, BLOCKED: 5, DRAINED: 6, GONE: 7 } as const;
/** Where in struct sluice_stream_ends the ports and the endpoint are. */
const ENDS_PORTS = 32;
const ENDS_ENDPOINT = 36;
/** As where a connection begins: the node. */
const FROM_NODE = Buffer.alloc(16);

/** Who has a connection. */
export interface StreamUser {
  /** Lent until the next turn. */
  onData(bytes: Buffer): void;
  /** The other side says no more. */
  onEnd(): void;
  /** It takes more, after write() has returned false. */
  onDrain(): void;
  /** It is gone, with an error's name or without; nothing more is said about it. */
  onGone(code: string): void;
}

/** Who has connected, and what he meant to connect to; 16 bytes an address. */
export interface StreamEnds {
  readonly remote: Uint8Array;
  readonly remotePort: number;
  readonly local: Uint8Array;
  readonly localPort: number;
  /** Id of the endpoint of a process; 0: a pod's, whose address says which. */
  readonly endpoint: number;
}

/** Who looks after all connections. */
export interface StreamsWatch {
  /** A wait has ended: what follows happens at one time. */
  woke(): void;
  /** A defect: the connection that met it is broken off. */
  failed(error: Error): void;
}

export class Stream {
  readonly #streams: Streams;
  readonly id: number;
  user: StreamUser | undefined;
  /** The other side has accepted it. */
  connected: boolean;
  /** Something waits to be taken by the other side. */
  blocked = false;
  closed = false;
  #paused = false;

  constructor(streams: Streams, id: number, connected: boolean) {
    this.#streams = streams;
    this.id = id;
    this.connected = connected;
  }

  /** Sends bytes behind those that were written before. Returns whether there is room for more: else onDrain() follows. */
  write(bytes: Buffer): boolean {
    if (!this.closed && bytes.length) this.#streams.write(this.id, bytes);
    return !this.blocked;
  }

  /** Says that nothing follows. */
  end(): void {
    if (!this.closed) this.#streams.command(this.id, Operation.END, 0, 0);
  }

  /** Closes it, when everything is sent; nothing more is heard of it. */
  close(): void {
    this.#finish(Operation.CLOSE);
  }

  /** Breaks it off: the other side is told that something went wrong. */
  reset(): void {
    this.#finish(Operation.RESET);
  }

  /** Reads nothing until it is to go on. */
  pause(paused: boolean): void {
    if (this.closed || this.#paused === paused) return;
    this.#paused = paused;
    this.#streams.command(this.id, paused ? Operation.PAUSE : Operation.RESUME, 0, 0);
  }

  /** Gives it up without closing it. Returns its descriptor. */
  take(): number {
    this.closed = true;
    return this.#streams.take(this.id);
  }

  #finish(operation: number): void {
    if (this.closed) return;
    this.closed = true;
    this.user = undefined;
    this.#streams.command(this.id, operation, 0, 0);
    this.#streams.forget(this.id);
  }
}

export class Streams {
  readonly #handle: number;
  readonly #turn = Buffer.alloc(16);
  readonly #turnWords = new Int32Array(this.#turn.buffer, this.#turn.byteOffset, 4);
  readonly #in = Buffer.from(new ArrayBuffer(IN_BYTES));
  readonly #out = Buffer.from(new ArrayBuffer(OUT_BYTES));
  readonly #commands = new Uint32Array(COMMANDS_MAX * RECORD_WORDS);
  readonly #events = new Uint32Array(EVENTS_MAX * RECORD_WORDS);
  readonly #streams: (Stream | undefined)[] = [];
  readonly #accept: (stream: Stream, ends: StreamEnds) => void;
  readonly #watch: StreamsWatch;
  #outUsed = 0;
  #handed: Buffer | undefined;
  /** Events of this turn that were handed out. */
  #told = 0;

  /** Serves listening sockets, by enum ProxyListener, from the thread that calls this. @throws EngineError `KERNEL_CALL` */
  constructor(listeners: Int32Array, accept: (stream: Stream, ends: StreamEnds) => void, watch: StreamsWatch) {
    this.#accept = accept;
    this.#watch = watch;
    const bytesOf = (words: Uint32Array): Buffer => Buffer.from(words.buffer, words.byteOffset, words.byteLength);
    const parts = [this.#turn, this.#in, this.#out, bytesOf(this.#commands), bytesOf(this.#events)].map(addressOf);
    const memory = Buffer.alloc((parts.length + 3) * 8);
    for (const [i, value] of [...parts, BigInt(IN_BYTES), BigInt(OUT_BYTES), BigInt(EVENTS_MAX)].entries())
      memory.writeBigUInt64LE(value, i * 8);
    const cell = Buffer.alloc(8);
    check(native.sluice_streams__open(Buffer.from(listeners.buffer) as never, memory as never, cell as never), 'serve connections');
    this.#handle = readHandle(cell);
  }

  /** For who wants to end a wait from another thread; see wakeStreams(). */
  get handle(): number {
    return this.#handle;
  }

  /** Connections that were refused because policy has sent nobody there. */
  get refused(): number {
    return this.#turnWords[3] as number;
  }

  /** Sends what was written, waits at most that long for something to come, and hands it out. */
  turn(timeoutMs: number): void {
    this.#turnWords[0] = timeoutMs;
    this.#outUsed = 0;
    this.#told = 0;
    check(native.sluice_streams__turn(), 'serve connections');
    this.#watch.woke();
    this.dispatch();
  }

  /** Hands out what has happened and was not handed out yet. */
  dispatch(): void {
    const events = this.#events;
    while (this.#told < (this.#turnWords[2] as number)) {
      const at = this.#told++ * RECORD_WORDS;
      const id = events[at] as number;
      try {
        this.#hand(id, events[at + 1] as number, events[at + 2] as number, events[at + 3] as number);
      } catch (error) {
        // What one connection does must not end the others'.
        this.#watch.failed(error as Error);
        this.#breakOff(id);
      }
    }
  }

  /** Begins a connection from an address, 16 bytes each, or from the node. @throws EngineError `KERNEL_CALL` */
  connect(from: Uint8Array | undefined, to: Uint8Array, port: number): Stream {
    const id = check(
      native.sluice_streams__connect(Buffer.from(from ?? FROM_NODE) as never, Buffer.from(to) as never, port),
      'connect to a backend',
    );
    return this.#add(id, false);
  }

  /** Whether bytes are lent: they must be copied to be kept. What was handed out last most often is; asking for a buffer is not free. */
  lends(bytes: Buffer): boolean {
    return bytes === this.#handed || bytes.buffer === this.#in.buffer;
  }

  write(id: number, bytes: Buffer): void {
    if (this.lends(bytes)) {
      this.command(id, Operation.WRITE_IN, bytes.byteOffset, bytes.length);
      return;
    }
    for (let from = 0; from < bytes.length; ) {
      // Before the copy: what is copied must stay until its command is done.
      if (this.#outUsed === OUT_BYTES || this.#turnWords[1] === COMMANDS_MAX) this.#commit();
      const length = Math.min(bytes.length - from, OUT_BYTES - this.#outUsed);
      bytes.copy(this.#out, this.#outUsed, from, from + length);
      const at = this.#outUsed;
      this.#outUsed += length;
      this.command(id, Operation.WRITE_OUT, at, length);
      from += length;
    }
  }

  command(id: number, operation: number, offset: number, length: number): void {
    if (this.#turnWords[1] === COMMANDS_MAX) this.#commit();
    const count = this.#turnWords[1] as number;
    const at = count * RECORD_WORDS;
    this.#commands[at] = id;
    this.#commands[at + 1] = operation;
    this.#commands[at + 2] = offset;
    this.#commands[at + 3] = length;
    this.#turnWords[1] = count + 1;
  }

  take(id: number): number {
    this.#commit();
    this.forget(id);
    return check(native.sluice_streams__take(id), 'hand a connection on');
  }

  forget(id: number): void {
    this.#streams[id] = undefined;
  }

  #breakOff(id: number): void {
    const stream = this.#streams[id];
    const user = stream?.user;
    stream?.reset();
    try {
      user?.onGone('EPROTO');
    } catch (error) {
      this.#watch.failed(error as Error);
    }
  }

  #commit(): void {
    check(native.sluice_streams__commit(), 'serve connections');
    this.#outUsed = 0;
  }

  #add(id: number, connected: boolean): Stream {
    const stream = new Stream(this, id, connected);
    this.#streams[id] = stream;
    return stream;
  }

  #hand(id: number, kind: number, offset: number, length: number): void {
    if (kind === Kind.ACCEPTED) {
      const at = (from: number): Uint8Array => Uint8Array.prototype.slice.call(this.#in, offset + from, offset + from + 16);
      const remotePort = this.#in.readUInt16LE(offset + ENDS_PORTS);
      const localPort = this.#in.readUInt16LE(offset + ENDS_PORTS + 2);
      const endpoint = this.#in.readUInt32LE(offset + ENDS_ENDPOINT);
      this.#accept(this.#add(id, true), { remote: at(0), remotePort, local: at(16), localPort, endpoint });
      return;
    }
    const stream = this.#streams[id];
    if (!stream) return;
    if (kind === Kind.DATA) {
      stream.connected = true;
      this.#handed = this.#in.subarray(offset, offset + length);
      stream.user?.onData(this.#handed);
    } else if (kind === Kind.ENDED) stream.user?.onEnd();
    else if (kind === Kind.BLOCKED) stream.blocked = true;
    else if (kind === Kind.CONNECTED) stream.connected = true;
    else if (kind === Kind.DRAINED) {
      stream.blocked = false;
      stream.user?.onDrain();
    } else if (kind === Kind.GONE) {
      const { user } = stream;
      stream.close();
      user?.onGone(length ? errnoName(-length) : '');
    }
  }
}

/** Closes a socket by its descriptor. */
export function closeSocket(fd: number): void {
  native.sluice_map__close(fd);
}

/** Ends the wait of a thread's turn; from any thread. */
export function wakeStreams(handle: number): void {
  check(native.sluice_streams__wake(handle), 'wake the proxy');
}
