/** A plugin as the API tells of it, and what a push came to, for people to read. */
import type { z } from 'zod';
import type { plugin as pluginSchema, pushed as pushedSchema } from '../api/schemas.ts';
import { paint } from './output.ts';

export type Plugin = z.infer<typeof pluginSchema>;
export type Pushed = z.infer<typeof pushedSchema>;

export function pluginPath(name: string, rest = ''): string {
  return `/v1/plugins/${encodeURIComponent(name)}${rest}`;
}

export function showPushed({ plugin, audit }: Pushed, mode: string): void {
  const how = mode === 'enforce' ? `in force, epoch ${plugin.epoch}` : mode === 'canary' ? `canary of ${plugin.candidate?.weight} %` : mode;
  console.log(`${paint('green', plugin.name)} ${audit.version} (${audit.sha256.slice(0, 12)}): ${how}`);
  const reads = [...audit.fields, ...audit.headers.map((name) => `header ${name}`), ...audit.cookies.map((name) => `cookie ${name}`)];
  console.log(paint('dim', `  answers ${audit.hooks.join(', ')}; reads ${reads.join(', ') || 'nothing'}`));
  if (audit.capabilities.length) console.log(paint('dim', `  uses ${audit.capabilities.join(', ')}`));
  if (audit.signer) console.log(paint('dim', `  signed by ${audit.signer}`));
  for (const change of audit.changes)
    console.log(`  ${paint(change.startsWith('+') ? 'green' : change.startsWith('-') ? 'red' : 'yellow', change)}`);
  if (plugin.problem) console.log(paint('yellow', `  ${plugin.problem}`));
}
