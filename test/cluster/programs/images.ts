/** Container images of one static program each, as archives of the OCI layout: no registry and no builder is asked. */
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../command.ts';

export const PAUSE_IMAGE = 'registry.k8s.io/pause:3.10.1';
/** The very name that upstream's suite asks for, so that nothing is pulled. */
export const AGNHOST_IMAGE = 'registry.k8s.io/e2e-test-images/agnhost:2.56';

export interface Image {
  readonly name: string;
  /** Path of a program that needs no library; in the image it is in `/`, and the entry point. */
  readonly program: string;
  /** Its arguments where a pod gives none. */
  readonly arguments: readonly string[];
}

interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const tar = (file: string, directory: string, ...entries: string[]): Promise<string> =>
  run(['tar', '-C', directory, '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', '--sort=name', '-cf', file, ...entries]);

const digestOf = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

/** Writes an image's archive to `path`. */
export async function writeImage(path: string, image: Image): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-image-'));
  try {
    const blobs = join(directory, 'blobs', 'sha256');
    mkdirSync(blobs, { recursive: true });
    const add = (mediaType: string, content: Buffer): Blob => {
      const digest = digestOf(content);
      writeFileSync(join(blobs, digest), content);
      return { mediaType, digest: `sha256:${digest}`, size: content.length };
    };
    const json = (mediaType: string, value: object): Blob => add(mediaType, Buffer.from(JSON.stringify(value)));

    const layer = add('application/vnd.oci.image.layer.v1.tar', await layerOf(image, directory));
    const config = json('application/vnd.oci.image.config.v1+json', configOf(image, layer));
    const manifest = json('application/vnd.oci.image.manifest.v1+json', { schemaVersion: 2, config, layers: [layer] });
    const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations: { 'io.containerd.image.name': image.name } }] };
    writeFileSync(join(directory, 'index.json'), JSON.stringify(index));
    writeFileSync(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    await tar(path, directory, 'oci-layout', 'index.json', 'blobs');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const entryOf = ({ program }: Image): string => program.slice(program.lastIndexOf('/') + 1);

async function layerOf(image: Image, directory: string): Promise<Buffer> {
  const root = join(directory, 'root');
  // Programs of tests write where there is something to write to.
  mkdirSync(join(root, 'tmp'), { recursive: true, mode: 0o777 });
  cpSync(image.program, join(root, entryOf(image)));
  if (!(statSync(join(root, entryOf(image))).mode & 0o111))
    throw new Error(`Cannot make image ${image.name}: its program is not executable`);
  const file = join(directory, 'layer.tar');
  await tar(file, root, '.');
  const content = readFileSync(file);
  rmSync(file);
  rmSync(root, { recursive: true });
  return content;
}

function configOf(image: Image, layer: Blob): object {
  return {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Env: ['PATH=/'], Entrypoint: [`/${entryOf(image)}`], Cmd: image.arguments },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  };
}
