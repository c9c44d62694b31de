/**
 * The Kubernetes API as a source: one reflector for each kind, on one connection. What the kinds told holds whatever becomes of the API
 * server; here it is only said how all of them are.
 */
import { EngineError, messageOf } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { objectProblem } from '../../policy/problem.ts';
import type { Origin } from '../raw-object.ts';
import type { FollowedKind, Source, SourceListener, SourceState } from '../source.ts';
import { ApiClient } from './api-client.ts';
import { catchUp } from './catch-up.ts';
import { Connection } from './connection.ts';
import { CredentialSource } from './credentials.ts';
import { KnownObjects } from './known-objects.ts';
import { type Access, readAccess } from './kubeconfig.ts';
import { Reflector } from './reflector.ts';
import { RESOURCES, type Resource, resourceName } from './resources.ts';
import { pause, TIMING, type Timing } from './timing.ts';

export interface KubernetesConfig {
  readonly kubeconfig?: string;
  /** The node that this engine is on, as its object is called. */
  readonly nodeName: string;
}

/** Kinds get into trouble one after the other: so long it is gathered before that is told. */
const GATHER_MS = 100;
/** How often a start that waits says so. */
const WAITING_MS = 30_000;

export class KubernetesSource implements Source {
  readonly name: string;
  readonly #log: Logger;
  readonly #timing: Timing;
  readonly #connection: Connection;
  readonly #api: ApiClient;
  readonly #reflectors: readonly Reflector[];
  #listener: SourceListener | undefined;
  #started: (() => void) | undefined;
  #gathering: NodeJS.Timeout | undefined;
  #waiting: NodeJS.Timeout | undefined;

  /** @throws EngineError `CONFIG_INVALID` when the kubeconfig cannot be used. */
  constructor(config: KubernetesConfig, log: Logger, timing: Timing = TIMING, resources: readonly Resource[] = RESOURCES) {
    const access = readAccess(config.kubeconfig);
    this.name = `kubernetes:${new URL(access.cluster.server).host}`;
    this.#log = log;
    this.#timing = timing;
    this.#connection = connect(access, timing);
    this.#api = new ApiClient(this.#connection, timing);
    const origin = originOf(config.nodeName);
    this.#reflectors = resources.map(
      (resource) =>
        new Reflector({
          resource,
          api: this.#api,
          known: new KnownObjects(origin),
          timing,
          tell: (changes) => this.#listener?.tell(changes),
          changed: () => this.#gather(),
        }),
    );
  }

  get kinds(): readonly FollowedKind[] {
    return this.#reflectors.map((reflector) => ({
      kind: resourceName(reflector.resource),
      state: stateOf(reflector),
      ageMs: reflector.ageMs,
      objects: reflector.objects,
      ...reflector.counts,
    }));
  }

  /** Waits for the API server as long as it takes: until everything was told nobody knows what may be taken away. */
  async start(listener: SourceListener): Promise<void> {
    this.#listener = listener;
    const started = new Promise<void>((resolve) => {
      this.#started = resolve;
    });
    this.#waiting = setInterval(() => this.#tellState(), WAITING_MS);
    for (const reflector of this.#reflectors) reflector.start();
    await started;
  }

  async catchUp(): Promise<void> {
    const signal = AbortSignal.timeout(this.#timing.catchUpMs);
    await Promise.all(this.#reflectors.map((reflector) => this.#catchUpOne(reflector, signal)));
  }

  async close(): Promise<void> {
    clearTimeout(this.#gathering);
    clearInterval(this.#waiting);
    this.#listener = undefined;
    const closed = this.#reflectors.map((reflector) => reflector.close());
    this.#connection.close();
    await Promise.all(closed);
  }

  async #catchUpOne(reflector: Reflector, signal: AbortSignal): Promise<void> {
    let reason = 'it is slow';
    while (!signal.aborted)
      try {
        await catchUp(reflector, this.#api, signal);
        if (!signal.aborted) return;
      } catch (error) {
        reason = messageOf(error);
        await pause(this.#timing.backOffMs[0], signal);
      }
    const what = reflector.trouble?.reason ?? `cannot list ${resourceName(reflector.resource)}: ${reason}`;
    throw new EngineError('TIMEOUT', `Cannot catch up with ${this.name} within ${this.#timing.catchUpMs / 1000} s: ${what}`);
  }

  #gather(): void {
    const told = this.#reflectors.every((reflector) => reflector.told);
    if (told && this.#started) {
      clearInterval(this.#waiting);
      this.#tellState();
      this.#started();
      this.#started = undefined;
    }
    this.#gathering ??= setTimeout(() => this.#tellState(), GATHER_MS);
  }

  #tellState(): void {
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    const state = this.#state();
    this.#listener?.setState(state);
    if (this.#started && state.is === 'behind')
      this.#log.warn({ source: this.name, reason: state.reason }, 'waiting for everything that there is');
  }

  #state(): SourceState {
    const troubles = this.#reflectors.flatMap(({ trouble }) => trouble ?? []);
    const [first, ...others] = troubles;
    if (first) {
      const more = others.length ? `, and ${others.length} more` : '';
      return { is: 'behind', sinceMs: Math.min(...troubles.map(({ sinceMs }) => sinceMs)), reason: first.reason + more };
    }
    return { is: this.#reflectors.every((reflector) => reflector.told) ? 'following' : 'starting' };
  }
}

function connect(access: Access, timing: Timing): Connection {
  return new Connection({
    server: access.cluster.server,
    tlsServerName: access.cluster.tlsServerName,
    credentials: new CredentialSource(access),
    timing,
  });
}

/** Whoever may write an object here is not whoever set up the node: of places on it nothing that it says is believed. */
function originOf(nodeName: string): Origin {
  return {
    locate: (_path, title) => {
      const [, kind = '', namespace, name = ''] = /^(\S+) (?:([^/]+)\/)?(.*)$/s.exec(title) ?? [];
      return objectProblem({ kind, ...(namespace !== undefined && { namespace }), name }, '').place;
    },
    nodeName,
  };
}

function stateOf(reflector: Reflector): FollowedKind['state'] {
  if (reflector.trouble) return 'behind';
  if (reflector.phase === 'absent') return 'absent';
  return reflector.told ? 'following' : 'starting';
}
