/** How commands show their results: tables for people, JSON for programs. */
import { styleText } from 'node:util';
import Table from 'cli-table3';

const BORDERLESS = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

/** The flag of every command that shows something. */
export const outputOption = {
  alias: 'o',
  type: 'string',
  choices: ['text', 'json'] as const,
  default: 'text' as const,
  describe: 'how to show it',
} as const;

export type Color = 'green' | 'red' | 'yellow' | 'cyan' | 'bold' | 'dim';

/** Text in a colour, where stdout shows colours. */
export function paint(color: Color, text: string): string {
  return styleText(color, text, { stream: process.stdout });
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const shown = new Table({
    head: head.map((title) => paint('dim', title)),
    chars: BORDERLESS,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) shown.push([...row]);
  return shown.toString();
}
