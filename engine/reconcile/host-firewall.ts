/**
 * The host firewall: HostPolicies for the processes of a cgroup of the node, off unless the operator names that cgroup.
 *
 * A change is in force at once, and for a while only: without a confirmation the kernel itself goes back to what was
 * confirmed before, engine or no engine. What is confirmed is kept in the state directory.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EngineError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { HostPolicy, Node, Pod } from '../policy/objects.ts';
import { engineProblem, objectProblem, type Problem } from '../policy/problem.ts';
import { matches } from '../policy/selector.ts';

/** `off`: no cgroup was named. `pending`: in force until it is confirmed or lapses. `lapsed`: what was before is in force. */
export type HostFirewallState = 'off' | 'confirmed' | 'pending' | 'lapsed';

export interface HostFirewallStatus {
  readonly state: HostFirewallState;
  readonly cgroup: string;
  /** Names with versions, as they are in force. */
  readonly policies: readonly string[];
  /** ISO 8601; when a pending change lapses. */
  readonly confirmBy?: string;
}

/** The pods that stand for the node, by which it is to be judged. */
export interface HostEndpoints {
  readonly current: Pod;
  /** While a change is pending: what holds from then on, in kernel time, unless it is confirmed. */
  readonly fallback?: { readonly confirmed: Pod; readonly confirmByNs: bigint };
}

export interface HostFirewallParts {
  /** Absent: off. */
  readonly cgroup: string | undefined;
  readonly stateDir: string;
  readonly confirmMs: number;
  readonly nowMs: () => number;
  readonly kernelNowNs: () => bigint;
  readonly log: Logger;
}

/** The state that outlives the engine. */
interface Kept {
  readonly confirmed: readonly HostPolicy[];
  /** Digest of a change that nobody has confirmed yet, and when it lapses. */
  readonly pending?: { readonly digest: string; readonly deadlineMs: number };
  /** Digest of a change that lapsed. */
  readonly lapsed?: string;
}

const FILE = 'host-firewall.json';
/** The confirmed one, the pending one, and some that were. */
const PODS_KEPT = 8;

export class HostFirewall {
  readonly #parts: HostFirewallParts;
  readonly #pods = new Map<string, Pod>();
  #kept: Kept;
  #wanted: readonly HostPolicy[] = [];
  #confirmByNs = 0n;
  #timer: NodeJS.Timeout | undefined;
  /** Called when a pending change lapses: what is in force in the kernel already is to be said, and tidied. */
  onLapse: () => void = () => {};

  /** @throws EngineError `STATE_DAMAGED` when what was confirmed cannot be read: guessing could lock the operator out. */
  constructor(parts: HostFirewallParts) {
    this.#parts = parts;
    this.#kept = parts.cgroup === undefined ? { confirmed: [] } : readKept(join(parts.stateDir, FILE));
    if (this.#kept.pending) this.#watch(this.#kept.pending.deadlineMs);
  }

  get status(): HostFirewallStatus {
    const { cgroup = '' } = this.#parts;
    const { pending, lapsed, confirmed } = this.#kept;
    const state: HostFirewallState = !cgroup ? 'off' : pending ? 'pending' : lapsed ? 'lapsed' : 'confirmed';
    const policies = (pending ? this.#wanted : confirmed).map(({ name }) => name);
    return { state, cgroup, policies, ...(pending && { confirmBy: new Date(pending.deadlineMs).toISOString() }) };
  }

  /**
   * Takes over what the source says, of this node and what is for it; undefined while the firewall is off. A policy that is not valid
   * changes nothing, and neither does one of which nobody can say whether it is for this node.
   */
  next(policies: readonly HostPolicy[], node: Node | undefined, problems: Problem[]): HostEndpoints | undefined {
    const chosen = policies.filter(({ nodes }) => !nodes || !node || matches(nodes, node.labels));
    const report = ({ name }: HostPolicy, reason: string) => problems.push(objectProblem({ kind: 'HostPolicy', name }, reason));
    if (this.#parts.cgroup === undefined) {
      for (const policy of chosen) report(policy, 'the host firewall is off: start the engine with --host-firewall CGROUP');
      return undefined;
    }
    const undecided = node ? [] : chosen.filter(({ nodes }) => nodes?.length);
    for (const policy of undecided)
      report(policy, 'nobody has told the labels of this node: what was in force for the host stays; name the node with --node-name');
    if (chosen.some(({ invalid }) => invalid))
      problems.push(engineProblem('HostPolicy', 'one is not valid: what was in force for the host stays'));
    else if (!undecided.length) this.#want(chosen);
    if (this.#kept.lapsed)
      problems.push(
        engineProblem(
          'HostPolicy',
          'the change was not confirmed in time: what was before is in force; change it, or run sluice host retry',
        ),
      );
    const confirmed = this.#pod(this.#kept.confirmed);
    if (!this.#kept.pending) return { current: confirmed };
    return { current: this.#pod(this.#wanted), fallback: { confirmed, confirmByNs: this.#confirmByNs } };
  }

  /** Makes the pending change lasting. @throws EngineError `NOTHING_PENDING` */
  confirm(): void {
    if (!this.#kept.pending) throw new EngineError('NOTHING_PENDING', 'Cannot confirm the host firewall: no change is pending');
    this.#keep({ confirmed: this.#wanted });
    this.#parts.log.info({ policies: this.status.policies }, 'host firewall confirmed');
  }

  /** Puts a change that lapsed in force once more, for a while. @throws EngineError `NOTHING_PENDING` */
  retry(): void {
    if (!this.#kept.lapsed) throw new EngineError('NOTHING_PENDING', 'Cannot retry the host firewall: no change has lapsed');
    this.#keep({ confirmed: this.#kept.confirmed });
    this.#want(this.#wanted);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #want(wanted: readonly HostPolicy[]): void {
    this.#wanted = wanted;
    const { confirmed, pending, lapsed } = this.#kept;
    const digest = digestOf(wanted);
    if (digest === digestOf(confirmed)) {
      if (pending || lapsed) this.#keep({ confirmed });
    } else if (pending?.digest === digest) {
      if (this.#parts.nowMs() >= pending.deadlineMs) this.#lapse(digest);
    } else if (lapsed !== digest) {
      const deadlineMs = this.#parts.nowMs() + this.#parts.confirmMs;
      // Kept before it is in force: an engine that starts anew must know until when.
      this.#keep({ confirmed, pending: { digest, deadlineMs } });
      this.#watch(deadlineMs);
      this.#parts.log.warn({ confirmBy: this.status.confirmBy }, 'host firewall changed: confirm it with sluice host confirm');
    }
  }

  #lapse(digest: string): void {
    this.#keep({ confirmed: this.#kept.confirmed, lapsed: digest });
    this.#parts.log.warn('host firewall not confirmed in time: what was before is in force');
  }

  #watch(deadlineMs: number): void {
    const leftMs = Math.max(0, deadlineMs - this.#parts.nowMs());
    this.#confirmByNs = this.#parts.kernelNowNs() + BigInt(Math.round(leftMs)) * 1_000_000n;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.onLapse(), leftMs + 1);
  }

  #keep(kept: Kept): void {
    const path = join(this.#parts.stateDir, FILE);
    try {
      mkdirSync(this.#parts.stateDir, { recursive: true });
      writeFileSync(`${path}.new`, JSON.stringify(kept, replaceMaps, 2));
      renameSync(`${path}.new`, path);
    } catch (error) {
      throw new EngineError('STATE_DAMAGED', `Cannot write ${path}: ${messageOf(error)}`, error);
    }
    this.#kept = kept;
    if (!kept.pending) clearTimeout(this.#timer);
  }

  /** The node as an endpoint with these policies: equal policies, the same object. */
  #pod(policies: readonly HostPolicy[]): Pod {
    const digest = digestOf(policies);
    let pod = this.#pods.get(digest);
    if (!pod) {
      pod = {
        namespace: '',
        name: 'host',
        labels: new Map(),
        addresses: [],
        ports: [],
        hostNetwork: true,
        ended: false,
        cgroup: this.#parts.cgroup as string,
        hostPolicies: policies,
      };
      if (this.#pods.size >= PODS_KEPT) this.#pods.clear();
      this.#pods.set(digest, pod);
    }
    return pod;
  }
}

function digestOf(policies: readonly HostPolicy[]): string {
  const names = policies.map(({ name }) => name).sort();
  return createHash('sha256').update(JSON.stringify(names)).digest('hex');
}

/** Addresses as lists of numbers. */
function replaceMaps(_key: string, value: unknown): unknown {
  return value instanceof Uint8Array ? [...value] : value;
}

function readKept(path: string): Kept {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { confirmed: [] };
    throw new EngineError('STATE_DAMAGED', `Cannot read ${path}: ${messageOf(error)}`, error);
  }
  try {
    return JSON.parse(text, (key, value: unknown) => (key === 'address' ? Uint8Array.from(value as number[]) : value)) as Kept;
  } catch (error) {
    throw new EngineError('STATE_DAMAGED', `Cannot read ${path}: ${messageOf(error)}; remove it to start without a host firewall`, error);
  }
}
