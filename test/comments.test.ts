/** Comments name their subject: one that opens with "What …" makes its reader guess it, unless it is the question of a benchmark. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const ROOMS = ['engine', 'bpf', 'native', 'plugins', 'test', 'deploy'];
const SOURCES = /\.(?:ts|js|c|h|sh|ya?ml|wat)$|\/Makefile$/;
/** The text of a comment, from `/*`, `//` or `#` on; a line that goes on with a `*` belongs to it. */
const COMMENTS = /(?:^|[\s;{}])(?:\/\*\*?\s*(?:\*\s*)?|\/\/\s*|#\s+)(What\b[\s\S]*?)(?:\*\/|\n\s*\n|$)/g;

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', ...ROOMS], { cwd: root, encoding: 'utf8' })
  .trim()
  .split('\n')
  .filter((file) => SOURCES.test(file) && file !== 'test/comments.test.ts' && existsSync(join(root, file)));

/** The openings of comments that are riddles. */
function riddles(text: string): string[] {
  return [...text.matchAll(COMMENTS)].map(([, comment = '']) => comment).filter((comment) => !/^[^.]*\?/.test(comment));
}

test('no comment opens with "What …" and leaves it to the reader to find of what it speaks', () => {
  expect(files.length).toBeGreaterThan(400);
  const found = files.flatMap((file) => riddles(readFileSync(join(root, file), 'utf8')).map((text) => `${file}: ${text.split('\n')[0]}`));
  expect(found).toEqual([]);
});

test.each([
  { name: 'a block', text: '/* What all endpoints share. 48 bytes. */', riddle: true },
  { name: 'a block of several lines', text: 'x;\n\t/*\n\t * What is read\n\t * here.\n\t */', riddle: true },
  { name: 'a docstring', text: '  /** What it holds. */', riddle: true },
  { name: 'the end of a line', text: 'f();\t// What is over is gone', riddle: true },
  { name: 'a shell’s', text: 'x\n# What is missing\n', riddle: true },
  { name: 'a question', text: '/**\n * What does it cost, at 50,000 rules,\n * beside others? Ratios.\n */', riddle: false },
  { name: 'another word', text: '/* Whatever comes. */', riddle: false },
  { name: 'a sentence in the middle', text: '/* Packets. What is dropped is counted. */', riddle: false },
])('$name is told apart', ({ text, riddle }) => {
  expect(riddles(text)).toHaveLength(riddle ? 1 : 0);
});
