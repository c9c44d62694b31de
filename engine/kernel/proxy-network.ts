/** The kernel as the proxy's thread sees it: its network, connections from a pod's address, what policy says, the verdict cache. */
import { Direction, ProxyListener, type VerdictEntry, type VerdictKey, verdictEntryCodec, verdictKeyCodec } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import type { ProxyHandles } from './datapath.ts';
import { addressOf, check, errnoName, native } from './native.ts';
import { type ProbeAnswer, probeKernel } from './probe.ts';

const TCP = 6;
/** Clients whose connections are complete and not yet taken; as net.core.somaxconn, which cuts it. */
const BACKLOG = 4096;
/** As the other end of a connection's: not a pod's address, but whichever the node takes. */
const FROM_NODE = Buffer.alloc(16);

export class ProxyNetwork {
  readonly #handles: ProxyHandles;

  constructor(handles: ProxyHandles) {
    this.#handles = handles;
  }

  /**
   * Moves this thread into the proxy's network, and returns its listening sockets, by enum ProxyListener. From then on every
   * socket of this thread is in that network.
   *
   * @throws EngineError `KERNEL_CALL` or `NOT_ROOT`
   */
  open(): Int32Array {
    const { interface: name, program, picker, finder, listeners, engineStates } = this.#handles;
    const nameBytes = Buffer.from(`${name}\0`);
    const parts = Buffer.alloc(32);
    parts.writeBigUInt64LE(addressOf(nameBytes), 0);
    for (const [i, value] of [program, picker, finder, listeners, engineStates, BACKLOG].entries()) parts.writeInt32LE(value, 8 + i * 4);
    const sockets = new Int32Array(ProxyListener.MAX);
    const result = native.sluice_proxy__open(parts as never, Buffer.from(sockets.buffer) as never);
    if (result < 0 && errnoName(result) === 'EPERM')
      throw new EngineError('NOT_ROOT', 'Cannot make the network of the proxy: EPERM; run as root, or give the engine CAP_SYS_ADMIN, too');
    check(result, 'make the network of the proxy');
    return sockets;
  }

  /** Moves this thread into the network that another one has opened. @throws EngineError `KERNEL_CALL` */
  join(): void {
    check(native.sluice_proxy__join(), 'enter the network of the proxy');
  }

  /** Has new connections get their failure policy from now on; those that there are go on. */
  close(): void {
    native.sluice_proxy__close();
  }

  /**
   * Begins a connection from a pod's address, 16 bytes each, or from the node. Returns the descriptor of its socket.
   *
   * @throws EngineError `KERNEL_CALL`: there is no port left, or no descriptor
   */
  connect(from: Uint8Array | undefined, to: Uint8Array, port: number): number {
    return check(
      native.sluice_proxy__connect(Buffer.from(from ?? FROM_NODE) as never, Buffer.from(to) as never, port),
      'connect to a backend',
    );
  }

  /** What the kernel's policy says about TCP from an endpoint; undefined when it does not know the endpoint. */
  judge(endpoint: number, source: Uint8Array, destination: Uint8Array, port: number): ProbeAnswer | undefined {
    return probeKernel(this.#handles.explain, { endpoint, direction: Direction.EGRESS, source, destination, protocol: TCP, port });
  }

  /** Lets the kernel answer for what has this key. @throws EngineError `KERNEL_CALL` when it was not written */
  writeVerdict(key: VerdictKey, entry: VerdictEntry): void {
    const [keyBytes, value] = [Buffer.alloc(verdictKeyCodec.size), Buffer.alloc(verdictEntryCodec.size)];
    verdictKeyCodec.write(keyBytes, 0, key);
    verdictEntryCodec.write(value, 0, entry);
    const { verdictsFd } = this.#handles;
    const done = Buffer.alloc(4);
    check(
      native.sluice_map__update(verdictsFd, keyBytes as never, keyBytes.length, value as never, value.length, 1, done as never),
      'write a verdict',
    );
  }
}
