/**
 * The fields that a plugin may read, by the names that manifests use, and how widely a verdict may be cached that
 * depends on them: like HTTP's Vary, a verdict answers only what has the same values in all that it read.
 */
import { PluginField, Scope } from '../abi.gen.ts';

/** `source-labels` → its bit. */
export const FIELD_BITS: ReadonlyMap<string, number> = new Map(
  Object.entries(PluginField).map(([name, bit]) => [name.toLowerCase().replaceAll('_', '-'), bit]),
);

/** The fields that a manifest may name. Headers and cookies have lists of their own; host state is seen by the host. */
export const FIELD_NAMES: readonly string[] = [...FIELD_BITS.keys()].filter((name) => !['header', 'cookie', 'host-state'].includes(name));

/** In every key of the verdict cache: no scope is too wide for them. */
const IN_EVERY_KEY = PluginField.DESTINATION_PORT | PluginField.PROTOCOL | PluginField.DIRECTION;
/** Equal for equal identities. */
const OF_IDENTITY =
  IN_EVERY_KEY |
  PluginField.SOURCE_IDENTITY |
  PluginField.SOURCE_NAMESPACE |
  PluginField.SOURCE_LABELS |
  PluginField.DESTINATION_IDENTITY |
  PluginField.DESTINATION_NAMESPACE |
  PluginField.DESTINATION_LABELS;
/** Equal for equal addresses. */
const OF_ADDRESS =
  OF_IDENTITY |
  PluginField.SOURCE_SERVICE_ACCOUNT |
  PluginField.SOURCE_POD |
  PluginField.SOURCE_ADDRESS |
  PluginField.DESTINATION_SERVICE |
  PluginField.DESTINATION_POD |
  PluginField.DESTINATION_ADDRESS;
/** Equal for all packets of a flow. A DNS name is of the query, a request's texts of the request: no scope holds those. */
const OF_FLOW = OF_ADDRESS | PluginField.SOURCE_PORT | PluginField.SERVER_NAME | PluginField.APPLICATION_PROTOCOLS;

/**
 * The widest scope that holds for what was read.
 *
 * @example
 * widestScope(FIELD_BITS.get('source-labels')) // 4
 * widestScope(FIELD_BITS.get('source-labels') | FIELD_BITS.get('destination-address')) // 2
 * widestScope(FIELD_BITS.get('path')) // 0
 */
export function widestScope(fieldsRead: number): Scope {
  if (!(fieldsRead & ~OF_IDENTITY)) return Scope.IDENTITY;
  if (!(fieldsRead & ~OF_ADDRESS)) return Scope.ADDRESS;
  if (!(fieldsRead & ~OF_FLOW)) return Scope.FLOW;
  return Scope.NONE;
}

/** No wider than the plugin asks for, and no wider than what it read allows. */
export function effectiveScope(asked: Scope, fieldsRead: number): Scope {
  return Math.min(asked, widestScope(fieldsRead)) as Scope;
}

/** Names of the bits that are set. */
export function fieldNames(bits: number): string[] {
  return [...FIELD_BITS].filter(([, bit]) => bits & bit).map(([name]) => name);
}
