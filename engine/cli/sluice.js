#!/usr/bin/env node
/**
 * The binary, in JavaScript: Node strips the types of every source it loads, in each thread. What that comes to is kept beside the build,
 * which makes the next start half a second quicker and the engine 45 MiB smaller.
 */
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

const directory = fileURLToPath(new URL('../../build/compile-cache', import.meta.url));
enableCompileCache(directory);
// Worker threads look here.
process.env.NODE_COMPILE_CACHE = directory;

await import('./commands.ts');
