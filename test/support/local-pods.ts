/** Pods of this node as an API names them, and veths as a node has them, for tests. */
import type { Veth } from '../../engine/kernel/veths.ts';
import { addressKey, parseAddress } from '../../engine/policy/address.ts';
import type { Pod } from '../../engine/policy/objects.ts';
import type { SandboxRecord } from '../../engine/reconcile/sandbox-records.ts';

export function localPod(name: string, addresses: readonly string[], more: Partial<Pod> = {}): Pod {
  return {
    namespace: 'shop',
    name,
    uid: `uid-${name}`,
    node: 'here',
    local: true,
    labels: new Map([['app', name]]),
    addresses: addresses.map((text) => parseAddress(text) as Uint8Array),
    ports: [],
    hostNetwork: false,
    ended: false,
    ...more,
  };
}

/** The node's end of a veth whose other end has these addresses; `network` is the namespace, the same as the index unless given. */
export function veth(ifindex: number, addresses: readonly string[], more: Partial<Veth> = {}): Veth {
  return {
    ifindex,
    name: `veth${ifindex}`,
    hardware: `0200000000${ifindex.toString(16).padStart(2, '0')}`,
    peer: 2,
    network: ifindex,
    addresses: addresses.map((text) => addressKey(parseAddress(text) as Uint8Array)),
    ...more,
  };
}

export function sandboxRecord(name: string, more: Partial<SandboxRecord> = {}): SandboxRecord {
  return { namespace: 'shop', name, uid: `uid-${name}`, interfaces: [], ...more };
}
