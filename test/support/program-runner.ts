/** Running packets through the programs by test-run: loaded with maps of their own, and an endpoint that the test describes. */

import { rmSync } from 'node:fs';
import { type Direction, engineStateCodec, PluginStatus, pluginStateCodec, policyStateCodec, type Verdict } from '../../engine/abi.gen.ts';
import { DEFAULT_LIMITS } from '../../engine/config.ts';
import { Datapath } from '../../engine/kernel/datapath.ts';
import { native } from '../../engine/kernel/native.ts';
import { removeDatapath } from '../../engine/kernel/pins.ts';
import { parseAddress } from '../../engine/policy/address.ts';
import type { Compiler } from '../../engine/policy/compile.ts';
import { objectName } from '../../engine/policy/object-name.ts';
import type { PolicyRule } from '../../engine/policy/objects.ts';
import { compiled, EMPTY_SNAPSHOT } from './compiled.ts';

export const PASS = -1;
export const DROP = 2;
export const REDIRECT = 7;
/** Loopback: what test-run takes for the packet's interface. */
export const IFINDEX = 1;
let runners = 0;

export class ProgramRunner {
  readonly datapath: Datapath;
  readonly #pin: string;
  #seed = 1;

  private constructor(datapath: Datapath, pin: string) {
    this.datapath = datapath;
    this.#pin = pin;
  }

  static async load(): Promise<ProgramRunner> {
    runners += 1;
    const pin = `/sys/fs/bpf/sluice-test-${process.pid}-${runners}`;
    return new ProgramRunner(await Datapath.load(pin), pin);
  }

  async remove(): Promise<void> {
    this.datapath.close();
    await removeDatapath(this.#pin);
    rmSync(this.#pin, { recursive: true, force: true });
  }

  /** Puts a pod at 10.0.0.1 and fd00::1 behind the interface, with these rules of one NetworkPolicy. */
  endpoint(rules: Partial<Record<Direction, readonly PolicyRule[]>>): void {
    const pod = {
      namespace: 'default',
      name: 'pod',
      labels: new Map([['app', 'pod']]),
      addresses: [parseAddress('10.0.0.1') as Uint8Array, parseAddress('fd00::1') as Uint8Array],
      ports: [],
      hostNetwork: false,
      ended: false,
      interface: 'lo',
    };
    const policies = Object.keys(rules).length ? [{ namespace: 'default', name: 'policy', selector: [], rules }] : [];
    const compiler = compiled({ ...EMPTY_SNAPSHOT, Pod: [pod], NetworkPolicy: policies });
    this.load(compiler);
    this.attach(compiler, 'default/pod');
    this.forget();
  }

  /** Fills the policy maps with what was compiled. */
  load(compiler: Compiler): void {
    for (const [name, { entries }] of Object.entries(compiler.maps)) {
      const map = this.datapath.maps[name as keyof Compiler['maps']];
      map.delete(map.dump().keys());
      map.update(new Map(entries));
    }
  }

  /** Makes a compiled endpoint the one behind the interface. */
  attach(compiler: Compiler, pod: string): void {
    const endpoint = [...compiler.endpoints.values()].find((each) => objectName(each.pod) === pod);
    const key = Buffer.alloc(4);
    key.writeUInt32LE(IFINDEX);
    this.datapath.maps.endpoints.update(new Map([[key.toString('latin1'), endpoint?.value as Buffer]]));
  }

  /** Forgets every connection: what stands in the slots is not found under another seed. */
  forget(): void {
    this.datapath.maps.connections.delete(this.datapath.maps.connections.dump().keys());
    this.datapath.maps.shares.delete(this.datapath.maps.shares.dump().keys());
    this.#seed += 1;
    this.setPolicy({});
  }

  setPolicy(state: Partial<Parameters<typeof policyStateCodec.write>[2]>): void {
    const value = Buffer.alloc(policyStateCodec.size);
    policyStateCodec.write(value, 0, { ...DEFAULT_LIMITS, revision: 1, hashSeed: this.#seed, ...state });
    this.datapath.maps.policy_states.update(new Map([['\0\0\0\0', value]]));
  }

  counts(): Map<number, bigint> {
    return new Map(this.datapath.readCounters().map(({ reason, packets }) => [reason, packets]));
  }

  /** The mark of what an engine has decided. */
  get token(): number {
    return engineStateCodec.read(this.datapath.maps.engine_states.find(Buffer.alloc(4)) as Buffer, 0).token;
  }

  /** Makes a plugin one that answers, under an id. Nothing can be held here: its failure policy decides. */
  plugin(id: number, failure: Verdict): void {
    const [key, value] = [Buffer.alloc(4), Buffer.alloc(pluginStateCodec.size)];
    key.writeUInt32LE(id);
    pluginStateCodec.write(value, 0, { name: 1n, module: 1n, epoch: 1, failure, status: PluginStatus.ON, scopes: 0 });
    this.datapath.maps.plugins.update(new Map([[key.toString('latin1'), value]]));
  }

  /** Runs a frame through a program, and returns the outcome. */
  send(program: 'from_pod' | 'to_pod', bytes: Buffer, mark = 0): number {
    return this.mark(program, bytes, mark).outcome;
  }

  /** The same, with the mark that the packet has afterwards. */
  mark(program: 'from_pod' | 'to_pod' | 'release', bytes: Buffer, before: number): { outcome: number; mark: number } {
    const { outcome, mark } = this.transform(program, bytes, before);
    return { outcome, mark };
  }

  /** The same, with the bytes that the packet has afterwards, as many as before. */
  transform(program: 'from_pod' | 'to_pod' | 'release', frame: Buffer, before = 0): { outcome: number; mark: number; bytes: Buffer } {
    const bytes = Buffer.from(frame);
    const [outcome, mark] = [Buffer.alloc(4), Buffer.alloc(4)];
    mark.writeUInt32LE(before);
    const fd = this.datapath.programFd(program);
    const out = [mark, outcome, Buffer.alloc(4)] as never[];
    const result = native.sluice_program__test(fd, bytes as never, bytes.length, IFINDEX, ...(out as [never, never, never]));
    if (result !== 0) throw new Error(`test-run failed: ${result}`);
    return { outcome: outcome.readInt32LE(0), mark: mark.readUInt32LE(0), bytes };
  }

  /** The same, with the reasons that it counted. */
  run(program: 'from_pod' | 'to_pod', bytes: Buffer, mark = 0): { outcome: number; reasons: number[] } {
    const before = this.counts();
    const outcome = this.send(program, bytes, mark);
    const reasons = [...this.counts()].filter(([reason, packets]) => packets !== (before.get(reason) ?? 0n)).map(([reason]) => reason);
    return { outcome, reasons };
  }
}

/** The outcome of run() for a packet that passed, or was dropped, for one reason. */
export const passes = (reason: number): object => ({ outcome: PASS, reasons: [reason] });
export const drops = (reason: number): object => ({ outcome: DROP, reasons: [reason] });
