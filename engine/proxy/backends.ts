/**
 * Backends and who of them takes a request: by weight among Services, then the one with the fewest requests under way.
 *
 * Which Service it is follows from a hash of the client's connection, so that it stays the same as others come and go
 * (weighted rendezvous hashing: Thaler and Ravishankar 1998, with the weights of Schindelhauer and Schomaker 2005).
 */

import type { BackendRef } from '../policy/objects.ts';
import { frontendKey, setName } from '../policy/requests.ts';
import type { ProxyBackend, ProxySet } from './messages.ts';

/** A backend that did not answer is passed over for so long, where there are others. */
const REST_MS = 1000;
/** Destinations that are no Service and are remembered; then it begins anew. */
const SINGLES_MAX = 4096;

const NOBODY: readonly Backend[] = [];

export interface Backend extends ProxyBackend {
  readonly key: string;
  /** `namespace/name:port 10.0.0.1:80` */
  readonly name: string;
  /** Requests under way. */
  active: number;
  restsUntil: number;
  /** It is in no set any more: connections to it are not used again. */
  gone: boolean;
}

export class Backends {
  readonly #known = new Map<string, Backend>();
  #sets = new Map<string, Backend[]>();
  /** The same by who names them: a name is not put together for each request. */
  #byRef = new WeakMap<BackendRef, readonly Backend[]>();
  readonly #singles = new Map<string, Backend>();
  readonly #format: (address: Uint8Array) => string;

  constructor(format: (address: Uint8Array) => string) {
    this.#format = format;
  }

  /** Takes over what sets there are; backends that stay keep what is known of them. */
  set(sets: ReadonlyMap<string, ProxySet>): void {
    this.#forgetSingles();
    this.#byRef = new WeakMap();
    const seen = new Set<string>();
    this.#sets = new Map(
      [...sets].map(([name, { backends }]) => [
        name,
        backends.map((backend) => {
          const key = frontendKey(backend.address, backend.port);
          seen.add(key);
          return this.#find(key, name, backend);
        }),
      ]),
    );
    for (const [key, backend] of this.#known)
      if (!seen.has(key)) {
        backend.gone = true;
        this.#known.delete(key);
      }
  }

  /** A destination that is no Service, as its own only backend. */
  single(address: Uint8Array, port: number): Backend {
    const key = frontendKey(address, port);
    let found = this.#known.get(key) ?? this.#singles.get(key);
    if (!found) {
      if (this.#singles.size >= SINGLES_MAX) this.#forgetSingles();
      this.#singles.set(key, (found = makeBackend(key, `${this.#format(address)}:${port}`, { address, port })));
    }
    return found;
  }

  #forgetSingles(): void {
    for (const backend of this.#singles.values()) backend.gone = true;
    this.#singles.clear();
  }

  /** One of the Services, by weight; `hash` is of the client's connection. Undefined where none takes anything. */
  pick(refs: readonly BackendRef[], hash: number): BackendRef | undefined {
    if (refs.length === 1) return refs[0]?.weight ? refs[0] : undefined;
    let best: BackendRef | undefined;
    let bestScore = Number.NEGATIVE_INFINITY;
    for (const ref of refs) {
      // Nobody is sent to a Service that has nobody, as long as another one has.
      if (!ref.weight || !this.of(ref).length) continue;
      const score = -ref.weight / Math.log(unit(mix(hash, ref.service)));
      if (score > bestScore) [best, bestScore] = [ref, score];
    }
    return best ?? refs.find(({ weight }) => weight);
  }

  /** The backends of a Service. */
  of(ref: BackendRef): readonly Backend[] {
    let found = this.#byRef.get(ref);
    if (!found) this.#byRef.set(ref, (found = this.named(setName(ref))));
    return found;
  }

  /** The backends of a set. */
  named(set: string): readonly Backend[] {
    return this.#sets.get(set) ?? NOBODY;
  }

  /** The least loaded one that the client may reach; undefined where there is none. */
  choose(
    all: readonly Backend[],
    permitted: (backend: Backend) => boolean,
    except: Backend | undefined,
    nowMs: number,
  ): Backend | undefined {
    let best: Backend | undefined;
    let resting: Backend | undefined;
    // Where several have the same load, it is not always the first.
    const first = all.length > 1 ? Math.floor(Math.random() * all.length) : 0;
    for (let i = 0; i < all.length; i++) {
      const candidate = all[(first + i) % all.length] as Backend;
      if (candidate === except || !permitted(candidate)) continue;
      if (candidate.restsUntil > nowMs) resting ??= candidate;
      else if (!best || candidate.active < best.active) best = candidate;
    }
    return best ?? resting ?? (except && all.includes(except) && permitted(except) ? except : undefined);
  }

  /** Notes that a backend could not be reached. */
  noteFailure(backend: Backend, nowMs: number): void {
    backend.restsUntil = nowMs + REST_MS;
  }

  #find(key: string, set: string, backend: ProxyBackend): Backend {
    let found = this.#known.get(key);
    if (!found) this.#known.set(key, (found = makeBackend(key, `${set} ${this.#format(backend.address)}:${backend.port}`, backend)));
    return found;
  }
}

function makeBackend(key: string, name: string, { address, port }: ProxyBackend): Backend {
  return { key, name, address, port, active: 0, restsUntil: 0, gone: false };
}

function mix(hash: number, text: string): number {
  let mixed = hash ^ 0x811c9dc5;
  for (let i = 0; i < text.length; i++) mixed = Math.imul(mixed ^ text.charCodeAt(i), 0x01000193);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** Above 0 and below 1. */
function unit(hash: number): number {
  return (hash + 0.5) / 2 ** 32;
}
