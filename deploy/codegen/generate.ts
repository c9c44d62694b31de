/** `npm run generate`, for clusters: writes deploy/crds; with --check only says which files are stale, and fails. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { writeCrds } from './crds.ts';

const folder = fileURLToPath(new URL('../crds/', import.meta.url));
const checks = process.argv.includes('--check');
const files = writeCrds();
let stale = 0;

function differs(name: string, text: string | undefined): boolean {
  const written = existsSync(folder + name) ? readFileSync(folder + name, 'utf8') : undefined;
  return written !== text;
}

const names = new Set([...files.keys(), ...readdirSync(folder).filter((name) => name.endsWith('.yaml'))]);
for (const name of names) {
  const text = files.get(name);
  if (!differs(name, text)) continue;
  if (checks) {
    console.error(`deploy/crds/${name} is not what the schemas declare: run npm run generate`);
    stale += 1;
  } else if (text === undefined) {
    rmSync(folder + name);
    console.log(`removed deploy/crds/${name}`);
  } else {
    writeFileSync(folder + name, text);
    console.log(`wrote deploy/crds/${name}`);
  }
}
process.exitCode = stale ? 1 : 0;
