/**
 * The addresses that endpoints know by names: those that DNS answers taught, until when, under which pattern. Programs learn; here it is
 * read, and taken away when it is over.
 */
import { knownAddressCodec, knownKeyCodec } from '../abi.gen.ts';
import type { Logger } from '../log.ts';
import type { Datapath } from './datapath.ts';
import { check, kernelNowNs, native } from './native.ts';

/** Programs refresh an entry in place up to 30 s after its end (STALE_S in bpf/learn.h): nothing younger is taken away. */
const GRACE_S = 60;
const COLLECT_MS = 5000;

export interface KnownAddress {
  /** Endpoint id. */
  readonly endpoint: number;
  /** 16 bytes. */
  readonly address: Uint8Array;
  /** Hash of the name that taught it last. */
  readonly name: bigint;
  readonly patterns: readonly { readonly pattern: number; readonly expiresInS: number }[];
}

export class KnownNames {
  readonly #datapath: Datapath;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  #count = 0;

  constructor(datapath: Datapath, log: Logger) {
    this.#datapath = datapath;
    this.#log = log;
  }

  /** How many addresses endpoints know, as they were counted last, and how many they may. */
  get pressure(): { map: string; entries: number; maxEntries: number } {
    return { map: 'known_addresses', entries: this.#count, maxEntries: this.#datapath.maps.known_addresses.maxEntries };
  }

  /** Takes away what is over, from now on. `collected` is called after each time. */
  start(collected: () => void): void {
    this.#timer = setInterval(() => {
      try {
        this.collect();
        collected();
      } catch (error) {
        this.#log.error({ err: error }, 'names that are over were not taken away');
      }
    }, COLLECT_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Takes away what is over and unused, and what endpoints knew that are gone. Returns how many addresses that were. */
  collect(graceS = GRACE_S): number {
    const { known_addresses, connections, name_shares, endpoints } = this.#datapath.maps;
    const removed = Buffer.alloc(4);
    const fds = [known_addresses.fd, connections.fd, name_shares.fd, endpoints.fd] as const;
    this.#count = check(native.sluice_names__collect(...fds, Number(kernelNowNs()), graceS, removed), 'collect names');
    return removed.readUInt32LE(0);
  }

  /** Everything that is known; what is over, and kept for a connection, too. Reads the whole map. */
  list(): KnownAddress[] {
    const nowS = kernelNowS();
    return [...this.#datapath.maps.known_addresses.dump()].map(([key, value]) => readKnown(Buffer.from(key, 'latin1'), value, nowS));
  }

  /** The names by which an endpoint knows one address. */
  find(endpoint: number, address: Uint8Array): KnownAddress | undefined {
    const key = Buffer.alloc(knownKeyCodec.size);
    knownKeyCodec.write(key, 0, { address, endpoint });
    const value = this.#datapath.maps.known_addresses.find(key);
    return value && readKnown(key, value, kernelNowS());
  }
}

function kernelNowS(): number {
  return Number(kernelNowNs() / 1_000_000_000n);
}

function readKnown(key: Buffer, value: Buffer, nowS: number): KnownAddress {
  const { address, endpoint } = knownKeyCodec.read(key, 0);
  const { name, patterns } = knownAddressCodec.read(value, 0);
  const current = patterns.filter(({ pattern }) => pattern);
  return {
    endpoint,
    address,
    name,
    patterns: current.map(({ pattern, expiresS }) => ({ pattern, expiresInS: Math.max(0, expiresS - nowS) })),
  };
}
