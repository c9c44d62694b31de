/** Asking the kernel what it would do with a flow: its own maps, and the explain program on a packet made for that. */
import { type Direction, Explanation, endpointCodec } from '../abi.gen.ts';
import type { Datapath } from './datapath.ts';
import { check, native } from './native.ts';

export interface Probe {
  /** Endpoint id. */
  readonly endpoint: number;
  readonly direction: Direction;
  /** 16 bytes each. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** IP protocol number. */
  readonly protocol: number;
  readonly port: number;
}

/** The answer of the explain program. */
export interface ProbeAnswer {
  /** enum Reason. */
  readonly reason: number;
  readonly ruleSet: number;
  readonly identity: number;
  readonly rule: number;
  readonly action: number;
}

const ETHERNET = 14;
const SOURCE_PORT = 40_000;
/** TCP, UDP and SCTP say their ports in the same place; what follows is long enough for each of their headers. */
const TRANSPORT = 20;

/** The kernel's decision, by its explain program's descriptor; undefined when it does not know the endpoint. Nothing is tracked, counted or held. */
export function probeKernel(explain: number, probe: Probe): ProbeAnswer | undefined {
  const packet = packetOf(probe);
  const words = Buffer.alloc(Explanation.MAX * 4);
  const outcome = native.sluice_program__ask(explain, packet, packet.length, probe.endpoint, probe.direction, words);
  if (check(outcome, 'run the explain program') !== 0) return undefined;
  const word = (index: Explanation): number => words.readUInt32LE(index * 4);
  return {
    reason: word(Explanation.REASON),
    ruleSet: word(Explanation.RULE_SET),
    identity: word(Explanation.PEER_IDENTITY),
    rule: word(Explanation.RULE),
    action: word(Explanation.ACTION),
  };
}

/** The rule set that the kernel has for a direction of an endpoint. */
export function readRuleSet(datapath: Datapath, endpoint: number, direction: Direction): number | undefined {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(endpoint);
  const value = datapath.maps.endpoints.find(key);
  return value && endpointCodec.read(value, 0).ruleSets[direction];
}

function packetOf({ source, destination, protocol, port }: Probe): Buffer {
  const v4 = isMapped(destination);
  const header = v4 ? 20 : 40;
  const packet = Buffer.alloc(ETHERNET + header + TRANSPORT);
  packet.writeUInt16BE(v4 ? 0x0800 : 0x86dd, 12);
  if (v4) {
    packet[ETHERNET] = 0x45;
    packet.writeUInt16BE(header + TRANSPORT, ETHERNET + 2);
    packet[ETHERNET + 8] = 64;
    packet[ETHERNET + 9] = protocol;
    packet.set(source.subarray(12), ETHERNET + 12);
    packet.set(destination.subarray(12), ETHERNET + 16);
  } else {
    packet[ETHERNET] = 0x60;
    packet.writeUInt16BE(TRANSPORT, ETHERNET + 4);
    packet[ETHERNET + 6] = protocol;
    packet[ETHERNET + 7] = 64;
    packet.set(source, ETHERNET + 8);
    packet.set(destination, ETHERNET + 24);
  }
  const transport = ETHERNET + header;
  packet.writeUInt16BE(SOURCE_PORT, transport);
  packet.writeUInt16BE(port, transport + 2);
  if (protocol === 6) packet.writeUInt16BE(0x5002, transport + 12);
  return packet;
}

function isMapped(address: Uint8Array): boolean {
  return address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 0xff && address[11] === 0xff;
}
