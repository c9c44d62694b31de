/** The images that nodes are given. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../command.ts';
import { cached } from './cache.ts';
import { writeImage } from './images.ts';
import { type Building, modules, RECIPE } from './programs.ts';

export const PAUSE_IMAGE = 'registry.k8s.io/pause:3.10.1';
/** The very names that upstream's end-to-end and conformance suites ask for, with one program behind them. */
export const AGNHOST_IMAGES = ['2.56', '2.45'].map((version) => `registry.k8s.io/e2e-test-images/agnhost:${version}`);
/** Debian's busybox-static: upstream's image has a shell and small tools, too. */
const BUSYBOX = '/bin/busybox';

/** The archives of the images; `programs` is the directory that clusterPrograms() returns. */
export async function nodeImages(programs: string, { report, signal }: Building): Promise<string[]> {
  const pauseSource = join(modules, 'pause.c');
  const bash = join(modules, 'bash.sh');
  const directory = await cached({
    name: 'images',
    inputs: [RECIPE, programs, PAUSE_IMAGE, ...AGNHOST_IMAGES, readFileSync(pauseSource, 'utf8'), readFileSync(bash, 'utf8')],
    ...{ report, signal },
    build: async (directory) => {
      report('making images');
      const pause = join(directory, 'pause');
      await run(['cc', '-Os', '-static', '-s', pauseSource, '-o', pause]);
      await writeImage(join(directory, 'pause.tar'), {
        names: [PAUSE_IMAGE],
        files: { '/pause': pause },
        entrypoint: '/pause',
        arguments: [],
      });
      await writeImage(join(directory, 'agnhost.tar'), {
        names: AGNHOST_IMAGES,
        files: { '/agnhost': join(programs, 'agnhost'), '/bin/busybox': BUSYBOX, '/bin/bash': bash },
        links: Object.fromEntries((await applets()).map((applet) => [`/bin/${applet}`, 'busybox'])),
        entrypoint: '/agnhost',
        arguments: ['pause'],
      });
    },
  });
  return [join(directory, 'pause.tar'), join(directory, 'agnhost.tar')];
}

/** The names that busybox goes by. */
async function applets(): Promise<string[]> {
  const names = (await run([BUSYBOX, '--list'])).trim().split('\n');
  return names.filter((name) => !['busybox', 'bash'].includes(name));
}
