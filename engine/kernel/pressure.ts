/** How full the maps are: counted now and then, and said aloud before one is full. */
import type { Logger } from '../log.ts';
import { type ConnectionCounts, countConnections } from './connections.ts';
import type { Datapath } from './datapath.ts';

export interface MapPressure {
  readonly map: string;
  readonly entries: number;
  readonly maxEntries: number;
}

/** How often connections are counted: an endpoint that had its share may have more by then. */
const COUNT_MS = 5000;
/** A map as full as this is worth a warning. */
const WARNING = 0.8;

export class Pressure {
  readonly #datapath: Datapath;
  readonly #policyMaps: () => readonly MapPressure[];
  readonly #log: Logger;
  readonly #warned = new Set<string>();
  #connections: ConnectionCounts;
  #timer: NodeJS.Timeout | undefined;

  constructor(datapath: Datapath, policyMaps: () => readonly MapPressure[], log: Logger) {
    this.#datapath = datapath;
    this.#policyMaps = policyMaps;
    this.#log = log;
    this.#connections = { live: 0, expired: 0, maxEntries: datapath.maps.connections.maxEntries };
  }

  /** As they were counted last. */
  get connections(): ConnectionCounts {
    return this.#connections;
  }

  get maps(): MapPressure[] {
    return [...this.#policyMaps(), { map: 'connections', entries: this.#connections.live, maxEntries: this.#connections.maxEntries }];
  }

  start(): void {
    this.#look();
    this.#timer = setInterval(() => this.#look(), COUNT_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    try {
      this.#connections = countConnections(this.#datapath);
    } catch (error) {
      this.#log.error({ err: error }, 'connections not counted');
    }
    for (const { map, entries, maxEntries } of this.maps) {
      const high = entries >= maxEntries * WARNING;
      if (high && !this.#warned.has(map)) this.#log.warn({ map, entries, maxEntries }, 'map under pressure');
      if (high) this.#warned.add(map);
      else this.#warned.delete(map);
    }
  }
}
