/** Flows for people: each in one line, or all in one table. Which fields they show, and how, is declared in observe/flow-fields.ts. */
import { type FlowView, type LinePlace, lineParts } from '../observe/flow-fields.ts';
import { type Color, paint, table } from './output.ts';

const DIM: ReadonlySet<LinePlace> = new Set(['by', 'end']);

/** `12:00:00.000 deny  shop/web:41 → shop/db:5432 TCP egress: no rule allows it (NetworkPolicy shop/db) 40 µs` */
export function flowLine(flow: FlowView): string {
  const parts = lineParts(flow);
  const at = (place: LinePlace): string[] =>
    parts.filter((part) => part.place === place).map(({ field, text }) => colored(flow, field, text));
  const by = at('by').join(', ');
  const end = at('end').join(' ');
  return [
    `${at('head').join(' ')}: ${at('why').join(', ')}`,
    ...(by ? [paint('dim', `(${by})`)] : []),
    ...(end ? [paint('dim', end)] : []),
  ].join(' ');
}

/** A row for each flow, a column for each field that says something of one of them. */
export function flowTable(flows: readonly FlowView[]): string {
  const rows = flows.map(
    (flow) => new Map(lineParts(flow).map(({ field, text, place }) => [field, DIM.has(place) ? text : colored(flow, field, text)])),
  );
  const seen = new Set(rows.flatMap((row) => [...row.keys()]));
  // The order of the fields is that of a flow's own.
  const columns = (Object.keys(flows[0] ?? {}) as (keyof FlowView)[]).filter((field) => seen.has(field));
  return table(
    columns.map((field) => field.toUpperCase()),
    rows.map((row) => columns.map((field) => row.get(field) ?? '')),
  );
}

function colored({ verdict }: FlowView, field: keyof FlowView, text: string): string {
  const colors: Partial<Record<keyof FlowView, Color>> = { time: 'dim', verdict: verdict === 'allow' ? 'green' : 'red' };
  const color = colors[field];
  return color ? paint(color, text) : text;
}
