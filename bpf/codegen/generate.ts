/** `npm run generate`: writes the generated files; with --check only says which of them are stale, and fails. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { writeAssemblyScript } from './assemblyscript.ts';
import { readLayouts } from './layout.ts';
import { readMaps, writeMaps } from './maps.ts';
import { writeNative } from './native.ts';
import { drawChain, readChain, writeIncludes, writeStageTable } from './stages.ts';
import { writeTypeScript } from './typescript.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const [BEGIN, END] = ['<!-- generated from stages.h -->\n', '<!-- end -->\n'];
let stale = 0;

function generate(path: string, text: string): void {
  if (!process.argv.includes('--check')) {
    writeFileSync(`${root}/${path}`, text);
    console.log(`wrote ${path}`);
  } else if (!existsSync(`${root}/${path}`) || readFileSync(`${root}/${path}`, 'utf8') !== text) {
    console.error(`${path} is not what its header declares: run npm run generate`);
    stale += 1;
  }
}

/** Replaces what stands between the marks of a document. */
function withinMarks(path: string, text: string): string {
  const document = readFileSync(`${root}/${path}`, 'utf8');
  const [from, to] = [document.indexOf(BEGIN) + BEGIN.length, document.indexOf(END)];
  if (from < BEGIN.length || to < from) throw new Error(`Cannot generate ${path}: it has no place for that`);
  return document.slice(0, from) + text + document.slice(to);
}

// The programs include what is generated first.
const chain = readChain();
generate('bpf/stages.gen.h', writeIncludes(chain));
generate('bpf/README.md', withinMarks('bpf/README.md', drawChain(chain)));
generate('engine/kernel/stages.gen.ts', writeStageTable(chain));

execFileSync('make', ['-s', '-C', `${root}/native`], { stdio: 'inherit' });
const layouts = readLayouts(`${root}/build/abi.bpf.o`);
generate('engine/abi.gen.ts', writeTypeScript(layouts));
generate('engine/maps.gen.ts', writeMaps(readMaps(`${root}/build/endpoint.bpf.o`)));
generate('engine/native.gen.ts', writeNative(`${root}/build/native-abi.bpf.o`, `${root}/native/sluice.h`));
generate('plugins/sdk/abi.gen.ts', writeAssemblyScript(layouts));
process.exitCode = stale ? 1 : 0;
