/** Puts cases to a plugin, through the same host code that the engine runs, and says what differs from what was expected. */
import { Context, PluginAction, Scope } from '../abi.gen.ts';
import { fieldNames } from '../plugin-runtime/fields.ts';
import { PluginTrap } from '../plugin-runtime/host-functions.ts';
import type { PluginInstance } from '../plugin-runtime/instance.ts';
import { actionOf, scopeOf, ttlMsOf } from '../plugin-runtime/verdict-word.ts';
import { createInstance } from '../plugin-runtime/version-parts.ts';
import { type AuditedModule, auditModule } from '../plugins/audit.ts';
import { trapLines } from '../plugins/line-table.ts';
import { DEFAULT_FUEL } from '../sources/plugin-schema.ts';
import type { PluginCase, PluginCases } from './cases.ts';

/** The most that a PolicyPlugin grants by default. */
const MEMORY_PAGES = 64;
/** A TTL is rounded up to what the verdict word can say: by less than one part in a hundred. */
const TTL_ROUNDING = 0.01;

const ACTION_NAMES = Object.keys(PluginAction).map((name) => name.toLowerCase());
const SCOPE_NAMES = new Map<number, string>(Object.entries(Scope).map(([name, scope]) => [scope, name.toLowerCase()]));

export interface Answer {
  readonly verdict: string;
  readonly scope: string;
  readonly ttlMs: number;
  readonly reason: string;
  readonly route: string;
  /** That the pod is told of a denied DNS answer; empty for everything else. */
  readonly responseCode: string;
  /** With file and line of the author's source. */
  readonly trap: string;
  readonly reads: readonly string[];
  readonly fuel: number;
}

export interface Difference {
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

export interface CaseResult {
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly differences: readonly Difference[];
  readonly answer: Answer;
  readonly logged: readonly string[];
}

export class CaseRunner {
  readonly audited: AuditedModule;
  readonly #cases: PluginCases;
  #clockMs = 0;
  #logged: string[] = [];
  #shared: PluginInstance | undefined;

  private constructor(audited: AuditedModule, cases: PluginCases) {
    this.audited = audited;
    this.#cases = cases;
  }

  /** @throws EngineError `PLUGIN_INVALID` when the engine would refuse the module. */
  static async create(module: Uint8Array, cases: PluginCases): Promise<CaseRunner> {
    const { capabilities, sets } = cases;
    const grants = { memoryPages: MEMORY_PAGES, fuel: DEFAULT_FUEL, capabilities, sets: Object.keys(sets), trustedKeys: [] };
    return new CaseRunner(await auditModule(module, grants), cases);
  }

  /** Asks what the case asks, once. Cases without a configuration of their own share an instance, in their order. */
  run(one: PluginCase): CaseResult {
    this.#logged = [];
    this.#clockMs = one.clockMs ?? this.#cases.clockMs ?? 0;
    const instance = one.config === undefined ? (this.#shared ??= this.#start(this.#cases.config)) : this.#start(one.config);
    for (let i = 0; i < one.after; i++) this.#ask(instance, one);
    const answer = this.#ask(instance, one);
    if (answer.trap && one.config === undefined) this.#shared = undefined;
    return { name: one.name, file: one.file, line: one.line, differences: compare(one, answer), answer, logged: this.#logged };
  }

  /** An instance under the cases' configuration, for measuring. */
  start(): PluginInstance {
    return this.#start(this.#cases.config);
  }

  #start(config: string): PluginInstance {
    const { module, manifest } = this.audited;
    const sets = manifest.sets.map((name) => this.#cases.sets[name]).filter((set) => set !== undefined);
    return createInstance(
      // The fields that were read decide its scope, as in a signed module: an author wants to see what the source comes to.
      { plugin: manifest.name, module, manifest, trusted: true, config, fuel: DEFAULT_FUEL, sets },
      {
        map: (_path, bytes) => new Int32Array(bytes / 4),
        seed: () => 1,
        now: () => this.#clockMs,
        log: (_plugin, text) => this.#logged.push(text),
      },
    );
  }

  #ask(instance: PluginInstance, { question }: PluginCase): Answer {
    const nothing = { scope: 'none', ttlMs: 0, reason: '', route: '', responseCode: '', trap: '', reads: [], fuel: 0 };
    if (!instance.answers(question.hook)) return { ...nothing, verdict: 'nonsense', reason: 'the plugin does not answer this hook' };
    let word: number;
    try {
      word = instance.evaluate(question);
    } catch (error) {
      if (!(error instanceof PluginTrap)) throw error;
      return { ...nothing, verdict: 'trap', trap: this.#describe(error) };
    }
    if (word < 0) return { ...nothing, verdict: 'nonsense', fuel: instance.fuelUsed };
    return {
      verdict: ACTION_NAMES[actionOf(word)] ?? '',
      scope: SCOPE_NAMES.get(scopeOf(word)) ?? '',
      ttlMs: ttlMsOf(word),
      reason: instance.reason(word),
      route: actionOf(word) === PluginAction.ROUTE ? instance.route : '',
      responseCode: question.hook === Context.DNS && actionOf(word) === PluginAction.DENY ? responseCodeOf(instance.responseCode) : '',
      trap: '',
      reads: fieldNames(instance.fieldsRead),
      fuel: instance.fuelUsed,
    };
  }

  #describe(trap: PluginTrap): string {
    const lines = trapLines(this.audited, trap.offsets);
    return lines.length ? `${trap.message} at ${lines.join(', called from ')}` : trap.message;
  }
}

/** RFC 1035, 4.1.1; see held/dns-answer.ts. */
function responseCodeOf(code: number): string {
  return { 0: 'REFUSED', 2: 'SERVFAIL', 3: 'NXDOMAIN', 5: 'REFUSED' }[code & 0xf] ?? `code ${code & 0xf}`;
}

function compare({ expect }: PluginCase, answer: Answer): Difference[] {
  const differences: Difference[] = [];
  const check = (what: string, expected: string | undefined, actual: string): void => {
    if (expected !== undefined && expected !== actual) differences.push({ what, expected, actual });
  };
  const because = answer.trap || answer.reason;
  const verdict = because && expect.verdict !== answer.verdict ? `${answer.verdict}: ${because}` : answer.verdict;
  check('verdict', expect.verdict, verdict);
  check('scope', expect.scope, answer.scope);
  check('reason', expect.reason, answer.reason);
  check('route', expect.route, answer.route);
  check('responseCode', expect.responseCode, answer.responseCode);
  check('reads', expect.reads && [...expect.reads].sort().join(', '), [...answer.reads].sort().join(', '));
  const ttlMs = (expect.ttlSeconds ?? 0) * 1000;
  if (expect.ttlSeconds !== undefined && (answer.ttlMs < ttlMs || answer.ttlMs > ttlMs * (1 + TTL_ROUNDING) + 10))
    differences.push({ what: 'ttl', expected: `${expect.ttlSeconds} s`, actual: `${answer.ttlMs / 1000} s` });
  if (expect.trap !== undefined && !answer.trap.includes(expect.trap))
    differences.push({ what: 'trap', expected: `… ${expect.trap} …`, actual: answer.trap || `none: ${answer.verdict}` });
  if (expect.maxFuel !== undefined && answer.fuel > expect.maxFuel)
    differences.push({ what: 'fuel', expected: `at most ${expect.maxFuel}`, actual: String(answer.fuel) });
  // A case that expects nothing of the verdict expects no failure.
  if (expect.verdict === undefined && expect.trap === undefined && ['trap', 'nonsense', 'deny'].includes(answer.verdict) && !expect.reason)
    differences.push({ what: 'verdict', expected: 'one that passes', actual: verdict });
  return differences;
}
