/** An engine on a real API server that enforces nothing: it reads objects, and tells what became of them. */
import { silentLogger as log } from '../../engine/log.ts';
import type { Problem } from '../../engine/policy/problem.ts';
import { ClusterFeed } from '../../engine/sources/cluster-feed.ts';
import { KubernetesSource } from '../../engine/sources/kubernetes/kubernetes.ts';
import { inForceOf } from '../../engine/status/in-force.ts';
import { StatusKeeper } from '../../engine/status/status-keeper.ts';

/** The namespace of engines. */
export const ENGINES = 'sluice-system';

export class StatusEngine {
  readonly name: string;
  problems: Problem[] = [];
  readonly #source: KubernetesSource;
  readonly #feed: ClusterFeed;
  readonly #keeper: StatusKeeper;

  /** `names`: of all nodes. */
  constructor(name: string, kubeconfig: string, names: () => readonly string[]) {
    this.name = name;
    this.#source = new KubernetesSource({ kubeconfig, nodeName: name }, log);
    this.#feed = new ClusterFeed([this.#source]);
    const { versions, objects } = this.#source.writable;
    const readProblems = () => this.#feed.problems.all;
    this.#keeper = new StatusKeeper({
      api: objects,
      nodeName: name,
      namespace: ENGINES,
      engineVersion: '1.2.3',
      versions,
      readProblems,
      inForce: inForceOf({
        versions,
        isTaken: () => this.#feed.isTaken,
        readProblems,
        problems: () => [...readProblems(), ...this.problems],
      }),
      nodeNames: names,
      log,
    });
  }

  get objects() {
    return this.#source.writable.objects;
  }

  async start(): Promise<this> {
    await this.#feed.start();
    this.#feed.onChange(() => setImmediate(() => this.#feed.take()));
    this.#feed.take();
    this.#keeper.start();
    return this;
  }

  /** As when it is told to stop; `crashed`: as when it is killed. */
  async stop(crashed = false): Promise<void> {
    if (crashed) this.#source.writable.objects.close();
    await this.#keeper.close();
    await this.#feed.close();
  }
}
