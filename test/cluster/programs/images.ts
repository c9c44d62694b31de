/** Container images of static programs, as archives of the OCI layout: no registry and no builder is asked. */
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from '../command.ts';

export interface Image {
  /** Every name that pods ask for it by: then nothing is pulled. */
  readonly names: readonly string[];
  /** Files by their path in the image; all are programs. */
  readonly files: Readonly<Record<string, string>>;
  /** Symbolic links by their path in the image. */
  readonly links?: Readonly<Record<string, string>>;
  readonly entrypoint: string;
  /** Arguments where a pod gives none. */
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
    const manifests = image.names.map((name) => ({ ...manifest, annotations: { 'io.containerd.image.name': name } }));
    const index = { schemaVersion: 2, manifests };
    writeFileSync(join(directory, 'index.json'), JSON.stringify(index));
    writeFileSync(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    await tar(path, directory, 'oci-layout', 'index.json', 'blobs');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function layerOf(image: Image, directory: string): Promise<Buffer> {
  const root = join(directory, 'root');
  mkdirSync(join(root, 'tmp'), { recursive: true });
  chmodSync(join(root, 'tmp'), 0o1777);
  for (const [path, source] of Object.entries(image.files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    cpSync(source, join(root, path), { dereference: true });
    chmodSync(join(root, path), 0o755);
  }
  for (const [path, target] of Object.entries(image.links ?? {})) symlinkSync(target, join(root, path));
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
    config: { Env: ['PATH=/bin:/'], Entrypoint: [image.entrypoint], Cmd: image.arguments },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  };
}
