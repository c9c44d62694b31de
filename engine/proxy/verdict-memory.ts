/**
 * Plugins' verdicts that are kept here, by the values of everything that the plugin declares to read: most requests have one of a few.
 * The oldest go first.
 */
import { PluginField } from '../abi.gen.ts';
import type { LoadedPlugin } from '../plugin-runtime/loaded-plugin.ts';
import { findCookie, type Question } from '../plugin-runtime/question.ts';
import type { RequestRule } from '../policy/objects.ts';
import { headerOf } from './head.ts';
import type { RequestVerdict } from './request-verdict.ts';

const KEPT_MAX = 16_384;
/** Longer keys are not worth their room. */
const KEY_MAX = 2048;
/** Fields that no two requests can be said to share. */
const UNSHARED = PluginField.TIME | PluginField.FLOW | PluginField.HOST_STATE | PluginField.SOURCE_PORT | PluginField.ESTABLISHED;

/** Fields that are equal for equal addresses, and for nothing wider. */
const OF_SOURCE_ADDRESS = PluginField.SOURCE_ADDRESS | PluginField.SOURCE_POD | PluginField.SOURCE_SERVICE_ACCOUNT;
const OF_DESTINATION_ADDRESS = PluginField.DESTINATION_ADDRESS | PluginField.DESTINATION_POD | PluginField.DESTINATION_SERVICE;

/** A verdict, until when it holds, and what it depends on: enum plugin_field bits. */
export interface Keepable {
  readonly verdict: RequestVerdict;
  readonly expiresMs: number;
  readonly fieldsRead: number;
}

interface Kept {
  /** Which asked: another's verdict may name another backend, or another rule in its flow record. */
  readonly rule: RequestRule;
  readonly verdict: RequestVerdict;
  readonly epoch: number;
  readonly expiresMs: number;
}

export class VerdictMemory {
  readonly #kept = new Map<string, Kept>();
  /** Plugins of which verdicts were kept: others need not be looked up. */
  readonly #keepers = new Set<number>();

  /** The verdict on an equal question by the same rule to the plugin's present epoch, as long as it holds. */
  find(plugin: LoadedPlugin, rule: RequestRule, question: Question, nowMs: number): RequestVerdict | undefined {
    if (!this.#keepers.has(plugin.setup.id) || plugin.splitsFlows) return undefined;
    const kept = this.#kept.get(keyOf(plugin, question));
    return kept && kept.rule === rule && kept.epoch === plugin.setup.epoch && kept.expiresMs > nowMs ? kept.verdict : undefined;
  }

  /** Keeps a verdict of the live version, unless it is about this one request. */
  keep(plugin: LoadedPlugin, rule: RequestRule, question: Question, { verdict, fieldsRead, expiresMs }: Keepable): void {
    if (plugin.splitsFlows || fieldsRead & UNSHARED || verdict.cookie) return;
    const key = keyOf(plugin, question);
    if (!key) return;
    this.#keepers.add(plugin.setup.id);
    if (this.#kept.size >= KEPT_MAX) this.#forgetOldest();
    this.#kept.set(key, { rule, verdict, epoch: plugin.setup.epoch, expiresMs });
  }

  forget(): void {
    this.#kept.clear();
    this.#keepers.clear();
  }

  #forgetOldest(): void {
    for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest);
      return;
    }
  }
}

/** The values of everything that the plugin declares; empty where they are of this one request. */
function keyOf(plugin: LoadedPlugin, question: Question): string {
  const { guest } = plugin.live;
  if (!guest) return '';
  const { fields, headers, cookies } = guest.reads;
  if (fields & UNSHARED) return '';
  let key = `${plugin.setup.id} ${question.rule} ${question.sourceIdentity} ${question.destinationIdentity} ${question.destinationPort}`;
  if (fields & OF_SOURCE_ADDRESS) key += ` ${question.words.subarray(0, 4)}`;
  if (fields & OF_DESTINATION_ADDRESS) key += ` ${question.words.subarray(4, 8)}`;
  if (fields & PluginField.METHOD) key += `\n${question.method}`;
  if (fields & PluginField.HOST) key += `\n${question.host}`;
  if (fields & PluginField.PATH) key += `\n${question.path}`;
  if (fields & PluginField.QUERY) key += `\n${question.query}`;
  for (const header of headers) key += `\n${headerOf(question.headers, header) ?? ''}`;
  const sent = cookies.length ? question.headers.filter((_, i) => i % 2 && question.headers[i - 1] === 'cookie').join('; ') : '';
  for (const cookie of cookies) key += `\n${findCookie(sent, cookie) ?? ''}`;
  return key.length > KEY_MAX ? '' : key;
}
