/** Objects of an API server, in memory, as engines write them; and what was written. */
import type { AnyObject, KindName, ObjectApi } from '../../engine/status/object-api.ts';

// biome-ignore lint/suspicious/noExplicitAny: an object of whatever kind
type Any = any;

export class FakeObjects implements ObjectApi {
  readonly objects = new Map<string, Any>();
  readonly writes: { readonly how: string; readonly path: string; readonly object: Any }[] = [];
  /** Throws where a request is to fail. */
  fails: (how: string, path: string) => void = () => {};
  #version = 0;

  async get(path: string): Promise<AnyObject | undefined> {
    this.fails('get', path);
    return structuredClone(this.objects.get(path));
  }

  async create(path: string, object: Any): Promise<'done' | 'exists'> {
    const own = `${path}/${object.metadata.name}`;
    this.#note('create', own, object);
    if (this.objects.has(own)) return 'exists';
    this.#store(own, structuredClone(object));
    return 'done';
  }

  async apply(path: string, object: Any): Promise<'done' | 'absent'> {
    this.#note('apply', path, object);
    const own = path.replace(/\/status$/, '');
    if (own !== path && this.objects.get(own)?.metadata.uid !== object.metadata.uid) return 'absent';
    this.#store(own, { ...this.objects.get(own), ...structuredClone(object) });
    return 'done';
  }

  async merge(path: string, patch: Any): Promise<'done' | 'conflict' | 'absent'> {
    this.#note('merge', path, patch);
    const object = this.objects.get(path);
    if (!object) return 'absent';
    const wanted = patch.metadata?.resourceVersion;
    if (wanted !== undefined && wanted !== object.metadata.resourceVersion) return 'conflict';
    this.#store(path, { ...object, spec: { ...object.spec, ...patch.spec }, ...(patch.series && { series: patch.series }) });
    return 'done';
  }

  async list({ plural }: KindName, each: (object: AnyObject) => void): Promise<number> {
    this.fails('list', plural);
    for (const [path, object] of this.objects) if (path.split('/').at(-2) === plural) each(structuredClone(object));
    return this.#version;
  }

  async watch(_kind: KindName, _version: number, _tell: unknown, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }

  writesTo(part: string): Any[] {
    return this.writes.filter(({ path }) => path.includes(part)).map(({ object }) => object);
  }

  #note(how: string, path: string, object: Any): void {
    this.fails(how, path);
    this.writes.push({ how, path, object: structuredClone(object) });
  }

  #store(path: string, object: Any): void {
    this.#version += 1;
    this.objects.set(path, { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version) } });
  }
}
