/** The real client of registries, built once from a pinned Go module and kept where other clones find it. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const MODULE = fileURLToPath(new URL('../cluster/modules/oras', import.meta.url));
const PLACES = ['go', '/usr/local/go/bin/go', ...['1.26', '1.25', '1.24'].map((version) => `/usr/lib/go-${version}/bin/go`)];

/** Path of the program; the first time it takes a minute. @throws Error where there is no Go that can build it */
export async function orasProgram(): Promise<string> {
  const inputs = ['go.mod', 'go.sum'].map((file) => readFileSync(join(MODULE, file), 'utf8'));
  const cache = join(process.env.SLUICE_CACHE || process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'sluice', 'cluster');
  const directory = join(cache, `oras-${createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16)}`);
  const program = join(directory, 'oras');
  if (existsSync(program)) return program;
  mkdirSync(directory, { recursive: true });
  const half = join(directory, `oras.${process.pid}`);
  const args = ['build', '-trimpath', '-ldflags', '-s -w', '-o', half, 'oras.land/oras/cmd/oras'];
  const env = { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly', GOTOOLCHAIN: 'auto', GOWORK: 'off' };
  await run(await findGo(), args, { cwd: MODULE, env });
  renameSync(half, program);
  return program;
}

async function findGo(): Promise<string> {
  for (const place of PLACES)
    if (
      await run(place, ['version'], { cwd: '/' }).then(
        () => true,
        () => false,
      )
    )
      return place;
  throw new Error('Cannot build oras: there is no Go; bash deploy/setup.sh test');
}
