/** `npm run generate`: writes the generated files; with --check only says which of them are stale, and fails. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { writeAssemblyScript } from './assemblyscript.ts';
import { readLayouts } from './layout.ts';
import { writeNative } from './native.ts';
import { writeTypeScript } from './typescript.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
execFileSync('make', ['-s', '-C', `${root}/native`], { stdio: 'inherit' });

const layouts = readLayouts(`${root}/build/abi.bpf.o`);
const files = new Map([
  ['engine/abi.gen.ts', writeTypeScript(layouts)],
  ['engine/native.gen.ts', writeNative(`${root}/build/native-abi.bpf.o`, `${root}/native/sluice.h`)],
  ['plugins/sdk/abi.gen.ts', writeAssemblyScript(layouts)],
]);

let stale = 0;
for (const [path, text] of files) {
  if (!process.argv.includes('--check')) {
    writeFileSync(`${root}/${path}`, text);
    console.log(`wrote ${path}`);
  } else if (readFileSync(`${root}/${path}`, 'utf8') !== text) {
    console.error(`${path} is not what its header says: run npm run generate`);
    stale += 1;
  }
}
process.exitCode = stale ? 1 : 0;
