/** How commands show their results: tables for people, JSON for programs. */
import { styleText } from 'node:util';
import Table from 'cli-table3';
import type { FlowView } from '../observe/flow-log.ts';

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

type Color = 'green' | 'red' | 'yellow' | 'cyan' | 'bold' | 'dim';

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

const DNS_PORT = 53;

/** One flow in one line. */
export function flowLine(flow: FlowView): string {
  const verdict = flow.verdict === 'allow' ? paint('green', 'allow') : paint('red', 'deny ');
  const party = (p: FlowView['source'], name = ''): string => `${p.pod || name || p.address}${p.port ? `:${p.port}` : ''}`;
  // Of a DNS message the name is what is asked for, not where it goes.
  const isDns = flow.hook === 'dns' || (flow.verdict === 'deny' && flow.destination.port === DNS_PORT);
  const by = [isDns && flow.name, flow.serverName && `server name ${flow.serverName}`, flow.plugin && `plugin ${flow.plugin}`, flow.rule]
    .filter(Boolean)
    .join(', ');
  const { http } = flow;
  const request = http ? ` ${http.method} ${http.host}${http.path} ${http.status}${http.backend && ` from ${http.backend}`}` : '';
  const held = flow.heldUs ? paint('dim', ` ${flow.heldUs} µs`) : '';
  return `${paint('dim', flow.time.slice(11, 23))} ${verdict} ${party(flow.source)} → ${party(flow.destination, isDns ? '' : flow.name)} ${flow.protocol} ${flow.direction}${request}: ${flow.reason}${by ? paint('dim', ` (${by})`) : ''}${held}`;
}
