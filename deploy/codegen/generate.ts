/** `npm run generate`, for clusters: writes deploy/crds and deploy/kubernetes; with --check only says which files are stale, and fails. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { writeCrds } from './crds.ts';
import { writeRbac } from './rbac.ts';

const root = fileURLToPath(new URL('../', import.meta.url));
const checks = process.argv.includes('--check');
const files = new Map<string, string>([
  ...[...writeCrds()].map(([name, text]) => [`crds/${name}`, text] as const),
  ['kubernetes/rbac.yaml', writeRbac()] as const,
]);
const left = readdirSync(`${root}crds`)
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => `crds/${name}`);
let stale = 0;

for (const name of new Set([...files.keys(), ...left])) {
  const text = files.get(name);
  const written = existsSync(root + name) ? readFileSync(root + name, 'utf8') : undefined;
  if (written === text) continue;
  if (checks) {
    console.error(`deploy/${name} is not what its sources declare: run npm run generate`);
    stale += 1;
  } else if (text === undefined) {
    rmSync(root + name);
    console.log(`removed deploy/${name}`);
  } else {
    writeFileSync(root + name, text);
    console.log(`wrote deploy/${name}`);
  }
}
process.exitCode = stale ? 1 : 0;
