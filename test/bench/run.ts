/** `npm run bench [NAME] [-- FLAGS]`: one benchmark by name, or all of them one after the other. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const known = readdirSync(here).flatMap((file) => /^(.*)\.bench\.ts$/.exec(file)?.[1] ?? []);
const [name, ...flags] = process.argv.slice(2);
if (name && !known.includes(name)) {
  console.error(`Cannot run benchmark ${name}: must be one of ${known.join(', ')}`);
  process.exit(2);
}
for (const each of name ? [name] : known) {
  const { status } = spawnSync(process.execPath, ['--expose-gc', `${here}${each}.bench.ts`, ...flags], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
