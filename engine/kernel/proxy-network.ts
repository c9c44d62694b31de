/** The kernel as the proxy's thread sees it: its network, connections from a pod's address, what policy says, the verdict cache. */
import { Direction, ProxyListener, type VerdictEntry, type VerdictKey, verdictEntryCodec, verdictKeyCodec } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import { proxyPartsCodec } from '../native.gen.ts';
import type { ProxyHandles } from './datapath.ts';
import { addressOf, check, errnoName, native, readHandle } from './native.ts';
import { type ProbeAnswer, probeKernel } from './probe.ts';
import { FROM_NODE, type ListeningNetwork } from './proxy-sockets.ts';

const TCP = 6;
/** Clients whose connections are complete and not yet taken; as net.core.somaxconn, which cuts it. */
const BACKLOG = 4096;

export class ProxyNetwork {
  readonly #handles: ProxyHandles;
  #opened = 0;

  constructor(handles: ProxyHandles) {
    this.#handles = handles;
  }

  /**
   * Moves this thread into a network of the proxy's own, and returns its listening sockets. From then on every socket of this thread is
   * in that network.
   *
   * @throws EngineError `KERNEL_CALL` or `NOT_ROOT`
   */
  open(): ListeningNetwork {
    const { interface: name, program, picker, finder, listeners, engineStates } = this.#handles;
    const nameBytes = Buffer.from(`${name}\0`);
    const parts = Buffer.alloc(proxyPartsCodec.size);
    proxyPartsCodec.write(parts, 0, {
      interface: addressOf(nameBytes),
      program,
      picker,
      finder,
      listeners,
      engineStates,
      backlog: BACKLOG,
    });
    const sockets = new Int32Array(ProxyListener.MAX);
    const cell = Buffer.alloc(8);
    const result = native.sluice_proxy__open(parts, Buffer.from(sockets.buffer), cell);
    if (result < 0 && errnoName(result) === 'EPERM')
      throw new EngineError('NOT_ROOT', 'Cannot make the network of the proxy: EPERM; run as root, or give the engine CAP_SYS_ADMIN, too');
    check(result, 'make the network of the proxy');
    this.#opened = readHandle(cell);
    return { handle: this.#opened, listeners: sockets };
  }

  /** Has new connections get their failure policy from now on; those that there are go on. */
  drain(): void {
    if (this.#opened) native.sluice_proxy__drain(this.#opened);
  }

  /**
   * Begins a connection from a pod's address, 16 bytes each, or from the node. It is in the network that the socket `beside` is in, which
   * a client's is; this thread stays where it is. Returns the descriptor of its socket.
   *
   * @throws EngineError `KERNEL_CALL`: there is no port left, or no descriptor
   */
  connect(beside: number, from: Uint8Array | undefined, to: Uint8Array, port: number): number {
    const [source, destination] = [Buffer.from(from ?? FROM_NODE), Buffer.from(to)];
    return check(native.sluice_proxy__connect(beside, source, destination, port), 'connect to a backend');
  }

  /** The kernel's policy about TCP from an endpoint; undefined when it does not know the endpoint. */
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
    check(native.sluice_map__update(verdictsFd, keyBytes, keyBytes.length, value, value.length, 1, done), 'write a verdict');
  }
}
