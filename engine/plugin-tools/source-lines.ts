/** Puts the compiler's source map into the module, as the short line table that the engine reads; see plugins/line-table.ts. */
import { decode } from '@jridgewell/sourcemap-codec';
import { encodeLines, LINES_SECTION, type LineEntry } from '../plugins/line-table.ts';
import { parseModule, Section, withCustomSection } from '../plugins/wasm/module.ts';

/** The module with its lines. `map` is JSON; its generated side is one line, whose columns are offsets in the module. */
export function withLines(module: Uint8Array, map: string): Uint8Array {
  const { mappings, sources } = JSON.parse(map) as { mappings: string; sources: string[] };
  const code = parseModule(module).sections.find(({ id }) => id === Section.CODE);
  const entries: LineEntry[] = [];
  for (const [offset, file, line] of decode(mappings).flat())
    if (code && file !== undefined && line !== undefined && offset >= code.from && offset < code.end)
      entries.push({ offset: offset - code.from, file, line: line + 1 });
  const files = sources.map((source) => source.replace(/^(~lib\/@sluice\/plugin-sdk|(\.\.\/).*\/plugins\/sdk)(?=\/)/, 'sdk'));
  return withCustomSection(module, LINES_SECTION, encodeLines(files, entries));
}
