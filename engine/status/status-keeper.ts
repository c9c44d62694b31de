/** Statuses of objects: this node's report always, and everybody's statuses while this engine leads. */
import type { Logger } from '../log.ts';
import type { ObjectVersions } from '../policy/object-versions.ts';
import type { Problem } from '../policy/problem.ts';
import { Election } from './election.ts';
import { Leader, ROUND_MS } from './leader.ts';
import { type InForce, NodeReporter } from './node-reporter.ts';
import type { ObjectApi } from './object-api.ts';
import { ReportFeed } from './report-feed.ts';
import { Reports } from './reports.ts';

export interface StatusKeeperParts {
  readonly api: ObjectApi;
  readonly nodeName: string;
  /** Of the engines: their Lease is there. */
  readonly namespace: string;
  readonly engineVersion: string;
  /** Everything that was told. */
  readonly versions: ObjectVersions;
  readonly readProblems: () => readonly Problem[];
  readonly inForce: () => InForce | undefined;
  /** Names of the cluster's nodes, as far as they are known. */
  readonly nodeNames: () => Iterable<string>;
  readonly log: Logger;
}

interface Term {
  readonly feed: ReportFeed;
  readonly leader: Leader;
}

export class StatusKeeper {
  readonly #parts: StatusKeeperParts;
  readonly #reporter: NodeReporter;
  readonly #election: Election;
  #timer: NodeJS.Timeout | undefined;
  #term: Term | undefined;

  constructor(parts: StatusKeeperParts) {
    const { api, nodeName, namespace, engineVersion, inForce, nodeNames, log } = parts;
    const nowMs = (): number => performance.now();
    this.#parts = parts;
    this.#reporter = new NodeReporter({ api, nodeName, engineVersion, inForce, nodes: () => [...nodeNames()].length, log });
    this.#election = new Election({ api, namespace, identity: nodeName, rank: () => rankOf(nodeName, nodeNames()), nowMs, log });
  }

  start(): void {
    this.#reporter.start();
    this.#election.start();
    this.#timer = setTimeout(() => void this.#again(), ROUND_MS);
  }

  /** Whoever leads next leads at once. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#reporter.close();
    this.#endTerm();
    await this.#election.close();
  }

  async #again(): Promise<void> {
    if (!this.#election.isLeading) this.#endTerm();
    else {
      this.#term ??= this.#beginTerm();
      if (this.#term.feed.isComplete) await this.#term.leader.round();
    }
    if (this.#timer) this.#timer = setTimeout(() => void this.#again(), ROUND_MS);
  }

  #beginTerm(): Term {
    const { api, versions, readProblems, nodeName, log } = this.#parts;
    const reports = new Reports(versions);
    const feed = new ReportFeed(api, reports, log);
    void feed.run();
    const leader = new Leader({ api, versions, reports, readProblems, identity: nodeName, nowMs: () => performance.now(), log });
    return { feed, leader };
  }

  #endTerm(): void {
    this.#term?.feed.close();
    this.#term = undefined;
  }
}

/** The place of a name among others in an order that no name has chosen. */
export function rankOf(name: string, names: Iterable<string>): number {
  const own = spread(name);
  let rank = 0;
  for (const each of names) if (spread(each) < own) rank += 1;
  return rank;
}

function spread(name: string): number {
  let hash = 2_166_136_261;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16_777_619);
  return hash >>> 0;
}
