/**
 * The programs and maps in the kernel: loading them, taking over what an earlier engine left, attaching endpoints.
 *
 * Everything is pinned below one bpffs directory, so that enforcement outlives the process: maps by name, tcx links
 * as `from_pod-<ifindex>` and `to_pod-<ifindex>`, links of cgroups likewise.
 */
import { randomInt } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { Abi, counterCodec, EndpointId, engineStateCodec, Mark, type Reason, type StageSwitches } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import { MAPS, type MapName } from '../maps.gen.ts';
import { Attachment as NativeAttachment } from '../native.gen.ts';
import { KernelMap } from './kernel-map.ts';
import { loadObject, type MapSizes } from './load.ts';
import { check, kernelNowNs, native, readHandle } from './native.ts';
import { detachEndpoint, requireAlone, requireBpffs, requireSameLayouts, STALE_MS } from './pins.ts';
import { CGROUP_PROGRAMS, INTERFACE_PROGRAMS, ownInterfaces } from './programs.ts';
import { ENGINE_STAGES, STAGES } from './stages.gen.ts';
import { ALL_ON, eitherOf, leftSwitches } from './switches.ts';

/** How programs are attached on this kernel. */
export type Attachment = 'tcx' | 'clsact';
const ATTACHMENTS: Readonly<Record<number, Attachment>> = { [NativeAttachment.TCX]: 'tcx', [NativeAttachment.CLSACT]: 'clsact' };

/**
 * Where an endpoint's programs are attached: an interface, whose index is the endpoint's id, or a cgroup. `end` says which one of that
 * name and index it is, where that is known: programs go to another one anew.
 */
export type Place = { readonly interface: string; readonly end?: string } | { readonly cgroup: string };

/** Handles by which a thread serves the ring of asks: plain numbers, for they cross threads. */
export interface RingHandles {
  readonly asks: number;
  readonly release: number;
  readonly verdictsFd: number;
  readonly pluginsFd: number;
  readonly dnsNamesFd: number;
}

export interface ProxyHandles {
  /** The node's side of the proxy's veth. */
  readonly interface: string;
  /** Descriptors of programs and maps. */
  readonly program: number;
  readonly picker: number;
  readonly finder: number;
  readonly listeners: number;
  readonly engineStates: number;
  readonly explain: number;
  readonly verdictsFd: number;
}

export interface Counter {
  readonly reason: Reason;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** An object that is loaded, with the switches of its programs. */
interface Loaded {
  readonly object: number;
  readonly switches: StageSwitches;
}

export class Datapath {
  readonly maps: Readonly<Record<MapName, KernelMap>>;
  /** The first that was loaded: its maps are everybody's, and threads have descriptors of it. */
  readonly #object: number;
  /** Whose programs are in force. */
  #chain: Loaded;
  readonly #attached = new Map<number, Place>();
  readonly #opened = new Set<keyof typeof ENGINE_STAGES>();
  readonly #pinDirectory: string;
  readonly #asks: number;
  readonly #records: number;
  readonly #release: number;
  #attachment: Attachment;

  private constructor(loaded: Loaded, pinDirectory: string) {
    this.#object = loaded.object;
    this.#chain = loaded;
    this.#pinDirectory = pinDirectory;
    const fd = (name: MapName): number => check(native.sluice_object__map(this.#object, name), `find map ${name}`);
    const names = Object.keys(MAPS) as MapName[];
    this.maps = Object.fromEntries(names.map((name) => [name, new KernelMap(name, fd(name))])) as Record<MapName, KernelMap>;

    this.#setStages(this.#object);
    const cell = Buffer.alloc(8);
    const token = randomInt(1, 2 ** 32 - Mark.MAX);
    const { release: releaseInterface, releasePeer } = ownInterfaces(pinDirectory);
    const attachment = native.sluice_release__open(
      releaseInterface,
      releasePeer,
      this.programFd('release'),
      `${pinDirectory}/release`,
      token,
      cell,
    );
    check(attachment, `make interface ${releaseInterface}`);
    this.#attachment = ATTACHMENTS[attachment] ?? 'clsact';
    this.#release = readHandle(cell);
    this.#publishState(token, check(native.sluice_kernel__ifindex(releasePeer), `find interface ${releasePeer}`));
    check(native.sluice_ring__open(this.maps.asks.fd, this.maps.engine_states.fd, cell), 'open the ring of asks');
    this.#asks = readHandle(cell);
    check(native.sluice_ring__open(this.maps.flow_records.fd, -1, cell), 'open the ring of flow records');
    this.#records = readHandle(cell);
  }

  /**
   * Loads the programs, and takes over the maps of an earlier engine.
   *
   * Nothing is attached or replaced yet: what is in force stays in force until attach(). `sizes` says how many entries
   * maps must have room for; a pinned map that is smaller is replaced, for good with commit(). `switches` says what of the chain
   * is needed, beside what the endpoints of an earlier engine need.
   *
   * @throws EngineError `NO_BPFFS`, `NOT_ROOT`, `MAP_MISMATCH`, `ENGINE_RUNNING`, `KERNEL_UNSUPPORTED` or `KERNEL_LOAD`.
   */
  static async load(pinDirectory: string, sizes: MapSizes = {}, switches: StageSwitches = ALL_ON): Promise<Datapath> {
    requireBpffs(pinDirectory);
    await requireAlone(pinDirectory);
    requireSameLayouts(pinDirectory);
    const needed = eitherOf(switches, leftSwitches(pinDirectory));
    return new Datapath({ object: loadObject({ pinDirectory, sizes, switches: needed }), switches: needed }, pinDirectory);
  }

  get attachment(): Attachment {
    return this.#attachment;
  }

  get ringHandles(): RingHandles {
    const { verdicts, plugins, dns_names } = this.maps;
    return { asks: this.#asks, release: this.#release, verdictsFd: verdicts.fd, pluginsFd: plugins.fd, dnsNamesFd: dns_names.fd };
  }

  /** The ring of what the kernel decided alone. */
  get recordsRing(): number {
    return this.#records;
  }

  /** The descriptor of the program of this name that is in force; it is closed when that is switched. */
  programFd(name: string): number {
    return programFd(this.#chain.object, name);
  }

  get switches(): StageSwitches {
    return this.#chain.switches;
  }

  /**
   * Puts programs with these switches in the place of those in force, one by one, each atomically: maps stay, connections go on. A
   * packet on its way may meet programs of both, which bpf/switches.h says why that is right. Loading takes this thread a second.
   *
   * @throws EngineError `KERNEL_LOAD` or `KERNEL_CALL`: what was in force, or part of it, is; the switches count as they were
   */
  switch(switches: StageSwitches): void {
    if (isDeepStrictEqual(switches, this.#chain.switches)) return;
    const before = this.#chain;
    const object = loadObject({ pinDirectory: this.#pinDirectory, switches, loaded: this.#object });
    try {
      this.#setStages(object);
      for (const [id, place] of this.#attached) if (this.find(place) === id) this.#attach(object, id, place);
    } catch (error) {
      native.sluice_object__close(object);
      throw error;
    }
    this.#chain = { object, switches };
    if (before.object !== this.#object) native.sluice_object__close(before.object);
  }

  /** Makes maps that replaced smaller ones those that a later engine finds: all endpoints use them by now. */
  commit(): void {
    check(native.sluice_object__commit(this.#object), 'pin maps in place of smaller ones');
  }

  /** Handles for the thread of the proxy: plain numbers and names, for they cross threads. */
  get proxyHandles(): ProxyHandles {
    return {
      interface: ownInterfaces(this.#pinDirectory).proxy,
      program: programFd(this.#object, 'from_proxy'),
      picker: programFd(this.#object, 'pick_listener'),
      finder: programFd(this.#object, 'origin_of'),
      listeners: this.maps.proxy_listeners.fd,
      engineStates: this.maps.engine_states.fd,
      explain: programFd(this.#object, 'explain'),
      verdictsFd: this.maps.verdicts.fd,
    };
  }

  /** Lets connections go to the proxy from now on, for as long as this process lives. */
  openProxy(): void {
    this.#open('to_proxy');
  }

  /** Lets tagged packets be held from now on, for as long as this process lives. */
  openHold(): void {
    this.#open('hold');
  }

  /** Attaches an endpoint's programs, or replaces those of an earlier engine without a gap. */
  attach(id: number, place: Place): void {
    this.#attach(this.#chain.object, id, place);
    this.#attached.set(id, place);
  }

  #attach(object: number, id: number, place: Place): void {
    if ('cgroup' in place) {
      this.#attachCgroup(object, id, place.cgroup);
      return;
    }
    for (const { name, direction } of INTERFACE_PROGRAMS) {
      const result = native.sluice_link__attach(programFd(object, name), id, direction, this.#linkPath(name, id));
      check(result, `attach ${name} to interface ${place.interface}`);
      this.#attachment = ATTACHMENTS[result] ?? 'clsact';
    }
  }

  /** Detaches an endpoint's programs; an interface or cgroup that is gone is no error. */
  detach(id: number): void {
    detachEndpoint(this.#pinDirectory, id);
    this.#attached.delete(id);
  }

  /** The endpoint's id, or undefined when there is no such interface or cgroup. */
  find(place: Place): number | undefined {
    if ('cgroup' in place) {
      const inode = statSync(cgroupPath(place.cgroup), { bigint: true, throwIfNoEntry: false })?.ino;
      return inode === undefined ? undefined : EndpointId.CGROUP + Number(inode % BigInt(EndpointId.CGROUP));
    }
    const ifindex = native.sluice_kernel__ifindex(place.interface);
    return ifindex > 0 ? ifindex : undefined;
  }

  /** Whether packets can be put into an endpoint's network directly. @throws EngineError `KERNEL_CALL` */
  isPeered(id: number, place: Place): boolean {
    return 'interface' in place && check(native.sluice_kernel__is_peered(id), `look at interface ${place.interface}`) === 1;
  }

  #attachCgroup(object: number, id: number, cgroup: string): void {
    const path = cgroupPath(cgroup);
    for (const name of CGROUP_PROGRAMS)
      check(native.sluice_cgroup__attach(programFd(object, name), path, this.#linkPath(name, id)), `attach ${name} to cgroup ${cgroup}`);
    const [key, value] = [Buffer.alloc(8), Buffer.alloc(8)];
    key.writeBigUInt64LE(statSync(path, { bigint: true }).ino);
    value.writeBigUInt64LE(BigInt(id));
    this.maps.cgroup_ids.update(new Map([[key.toString('latin1'), value]]));
  }

  /** Packets and bytes by reason, over all CPUs; reasons that never happened are left out. */
  readCounters(): Counter[] {
    return readCells(this.maps.counters).map(({ key, packets, bytes }) => ({ reason: key as Reason, packets, bytes }));
  }

  /** Packets for which the verdict cache had a plugin's verdict, by plugin id. */
  readVerdictHits(): ReadonlyMap<number, number> {
    return new Map(readCells(this.maps.verdict_hits).map(({ key, packets }) => [key, Number(packets)]));
  }

  /** Ends a wait on the ring of asks. */
  wakeAsks(): void {
    check(native.sluice_ring__wake(this.#asks), 'wake the flow worker');
  }

  /** Gives up the rings. Programs, maps and links stay in force. */
  close(): void {
    native.sluice_ring__close(this.#asks);
    native.sluice_ring__close(this.#records);
    native.sluice_release__close(this.#release);
    if (this.#chain.object !== this.#object) native.sluice_object__close(this.#chain.object);
    native.sluice_object__close(this.#object);
  }

  /** Puts an object's programs where others reach them by tail call, those that lead to the engine where that way is open. */
  #setStages(object: number): void {
    for (const stage of STAGES) this.#setStage(object, stage);
    for (const name of this.#opened) this.#setStage(object, ENGINE_STAGES[name]);
  }

  #open(name: keyof typeof ENGINE_STAGES): void {
    this.#setStage(this.#chain.object, ENGINE_STAGES[name]);
    this.#opened.add(name);
  }

  #setStage(object: number, [map, index, program]: readonly [array: MapName, index: number, program: string]): void {
    const [key, value] = [Buffer.alloc(4), Buffer.alloc(4)];
    key.writeUInt32LE(index);
    value.writeUInt32LE(programFd(object, program));
    this.maps[map].update(new Map([[key.toString('latin1'), value]]));
  }

  #publishState(token: number, sink: number): void {
    const state = Buffer.alloc(engineStateCodec.size);
    engineStateCodec.write(state, 0, {
      heartbeatNs: kernelNowNs(),
      staleNs: BigInt(STALE_MS) * 1_000_000n,
      abiVersion: Abi.VERSION,
      token,
      sink,
      proxy: 0,
      proxyHeartbeatNs: 0n,
      network: 0n,
    });
    this.maps.engine_states.update(new Map([['\0\0\0\0', state]]));
  }

  #linkPath(program: string, id: number): string {
    return `${this.#pinDirectory}/${program}-${id}`;
  }
}

/** Where a cgroup of the unified hierarchy is in the file system. */
function cgroupPath(cgroup: string): string {
  const mount = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, , type]) => type === 'cgroup2')?.[1];
  if (!mount) throw new EngineError('KERNEL_UNSUPPORTED', `Cannot find cgroup ${cgroup}: no cgroup2 file system is mounted`);
  return `${mount}${cgroup}`;
}

function programFd(object: number, name: string): number {
  return check(native.sluice_object__program(object, name), `find program ${name}`);
}

/** The counters of a map, added up over processors, without those that are zero. */
function readCells(map: KernelMap): { key: number; packets: bigint; bytes: bigint }[] {
  const cells: { key: number; packets: bigint; bytes: bigint }[] = [];
  for (const [key, value] of map.dump()) {
    let packets = 0n;
    let bytes = 0n;
    for (let at = 0; at < value.length; at += counterCodec.size) {
      packets += value.readBigUInt64LE(at + counterCodec.offsets.packets);
      bytes += value.readBigUInt64LE(at + counterCodec.offsets.bytes);
    }
    if (packets) cells.push({ key: Buffer.from(key, 'latin1').readUInt32LE(0), packets, bytes });
  }
  return cells;
}
