/**
 * The veths of this node, and what is at their other ends: where its pods are connected to it.
 *
 * What the kernel says of the node's own end is true whatever a pod does. The addresses are the pod's to choose.
 */
import { VethLimit, vethCodec } from '../native.gen.ts';
import { callElsewhere, check, native } from './native.ts';

/** One of the node's ends. */
export interface Veth {
  readonly ifindex: number;
  readonly name: string;
  /** Hardware address, as hexadecimal digits. */
  readonly hardware: string;
  /** Index of the other end, in its network namespace. */
  readonly peer: number;
  /** Id of that namespace, as of when this was read: another one may have it later. */
  readonly network: number;
  /** Of the other end, as keys (addressKey()); 32 at most. Whoever is root there says what they are. */
  readonly addresses: readonly string[];
}

/** Every veth at one moment. */
export interface VethReading {
  readonly veths: readonly Veth[];
  /** By the files that were asked about, the ids of namespaces; none where a file stands for none that a veth leads to. */
  readonly networks: ReadonlyMap<string, number>;
}

/** A node of 110 pods has room; one with more is asked again. */
const VETHS_FIRST = 256;
const VETHS_MAX = 16_384;
const ADDRESS_BYTES = 16;
const ENOSPC = 28;

/**
 * Reads the veths of the network namespace of this thread, without keeping it waiting: the kernel lists links one reader at a time, and
 * takes long while namespaces come and go. `files`: such as runtimes keep for network namespaces.
 *
 * @throws EngineError `KERNEL_CALL` or `NOT_ROOT`
 */
export async function readVeths(files: readonly string[]): Promise<VethReading> {
  const socket = check(native.sluice_veths__open(), 'open a socket of rtnetlink');
  try {
    const veths = await listVeths(socket);
    const networks = new Map<string, number>();
    for (const file of files) {
      const id = await callElsewhere('sluice_veths__network', socket, file);
      if (id >= 0) networks.set(file, id);
    }
    return { veths, networks };
  } finally {
    native.sluice_veths__close(socket);
  }
}

async function listVeths(socket: number): Promise<Veth[]> {
  for (let capacity = VETHS_FIRST; ; capacity *= 4) {
    const [records, addresses] = [Buffer.alloc(capacity * vethCodec.size), Buffer.alloc(capacity * VethLimit.ADDRESSES * ADDRESS_BYTES)];
    const count = await callElsewhere('sluice_veths__list', socket, records, addresses, capacity);
    if (count !== -ENOSPC || capacity >= VETHS_MAX)
      return Array.from({ length: check(count, 'list the veths of this node') }, (_, i) => vethAt(records, addresses, i));
  }
}

function vethAt(records: Buffer, addresses: Buffer, index: number): Veth {
  const { ifindex, peer, network, addressCount, name, hardware } = vethCodec.read(records, index * vethCodec.size);
  const text = Buffer.from(name).toString('latin1');
  const first = index * VethLimit.ADDRESSES;
  return {
    ifindex,
    name: text.slice(0, text.indexOf('\0')),
    hardware: Buffer.from(hardware).toString('hex'),
    peer,
    network,
    addresses: Array.from({ length: addressCount }, (_, i) =>
      addresses.toString('latin1', (first + i) * ADDRESS_BYTES, (first + i + 1) * ADDRESS_BYTES),
    ),
  };
}
