/**
 * The chain of stages as bpf/stages.h declares it, read through the C preprocessor, and what is written from it: the loader's table,
 * the list of files that have programs, and the drawing for people.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Entry {
  readonly program: string;
  readonly file: string;
  /** Where it is attached. */
  readonly where: string;
  readonly purpose: string;
}

export interface Stage {
  readonly program: string;
  /** The program array that it stands in, and where. */
  readonly array: string;
  readonly number: number;
  readonly file: string;
  /** The programs that it is entered from. */
  readonly from: readonly string[];
  readonly purpose: string;
}

export interface Chain {
  readonly entries: readonly Entry[];
  readonly stages: readonly Stage[];
}

/** The array whose stages are there only while an engine lives. */
const ENGINE_ARRAY = 'engine_stages';
const SENTINEL = 'the chain';
const QUERY = `#include "stages.h"
#define ENTRY_LINE(program, file, where, purpose) [#program, file, where, purpose],
#define STAGE_LINE(program, array, file, from, purpose) [#program, #array, file, from, purpose],
"${SENTINEL}"
[[ENTRIES(ENTRY_LINE) 0], [STAGES(STAGE_LINE) 0]]
`;

/** Reads the declaration; a stage's number is its place in it. */
export function readChain(): Chain {
  const directory = fileURLToPath(new URL('..', import.meta.url));
  const text = execFileSync('clang', ['-E', '-P', '-I', directory, '-x', 'c', '-'], { input: QUERY, encoding: 'utf8' });
  const [entries, stages] = JSON.parse(text.slice(text.indexOf(SENTINEL) + SENTINEL.length + 1)) as [string[][], string[][]];
  return {
    entries: entries.slice(0, -1).map(([program = '', file = '', where = '', purpose = '']) => ({ program, file, where, purpose })),
    stages: stages.slice(0, -1).map(([program = '', array = '', file = '', from = '', purpose = ''], number) => {
      return { program, array, number, file, from: from.split(' '), purpose };
    }),
  };
}

export function writeStageTable({ stages }: Chain): string {
  const row = ({ array, number, program }: Stage): string => `['${array}', ${number}, '${program}']`;
  const [lasting, engine] = [stages.filter(({ array }) => array !== ENGINE_ARRAY), stages.filter(({ array }) => array === ENGINE_ARRAY)];
  return [
    '// Generated from bpf/stages.h by `npm run generate`; do not edit.',
    '//',
    '// Stages of the chain that a packet goes through: program array, place in it, program.',
    '',
    '/** Those that are there with or without an engine. */',
    'export const STAGES = [',
    ...lasting.map((stage) => `  ${row(stage)},`),
    '] as const;',
    '',
    '/** Those that lead to the engine, while it lives. */',
    'export const ENGINE_STAGES = {',
    ...engine.map((stage) => `  ${stage.program}: ${row(stage)},`),
    '} as const;',
    '',
  ].join('\n');
}

export function writeIncludes({ entries, stages }: Chain): string {
  const files = [...new Set([...entries, ...stages].map(({ file }) => file))];
  return ['/* Generated from stages.h by `npm run generate`; do not edit. */', ...files.map((file) => `#include "${file}"`), ''].join('\n');
}

/** The drawing: a chart of which file's programs lead into which other's, and a table of all of them. In Markdown. */
export function drawChain({ entries, stages }: Chain): string {
  const programs = [...entries, ...stages];
  const files = [...new Set(programs.map(({ file }) => file))];
  const node = (file: string): string => file.replace(/\.h$/, '');
  const fileOf = new Map(programs.map(({ program, file }) => [program, file]));
  const arrows = stages.flatMap(({ file, from }) => from.map((source) => [fileOf.get(source) ?? source, file] as const));
  return [
    '```mermaid',
    'flowchart LR',
    ...files.map((file) => {
      const names = programs.filter((each) => each.file === file).map(({ program }) => program);
      return `  ${node(file)}["<b>${file}</b><br>${names.join('<br>')}"]`;
    }),
    ...new Set(arrows.filter(([from, to]) => from !== to).map(([from, to]) => `  ${node(from)} --> ${node(to)}`)),
    '```',
    '',
    '| program | file | where, or entered from | what it is for |',
    '|---|---|---|---|',
    ...entries.map(({ program, file, where, purpose }) => `| \`${program}\` | \`${file}\` | ${where} | ${purpose} |`),
    ...stages.map(({ program, file, from, purpose }) => {
      return `| \`${program}\` | \`${file}\` | ${from.map((source) => `\`${source}\``).join(' ')} | ${purpose} |`;
    }),
    '',
  ].join('\n');
}
