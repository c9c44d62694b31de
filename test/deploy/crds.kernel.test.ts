/** A real API server takes our CRDs, and of objects what the engine's own reader takes; the others it refuses with a sentence. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type ReadObject, readObject } from '../../engine/sources/read-object.ts';
import { BAD_OBJECTS, GOOD_OBJECTS, pathOf, type WrittenObject } from '../cases/own-objects.ts';
import { type Cluster, startCluster } from '../cluster/cluster.ts';
import { applyCrds, askJson, storedCrds } from '../support/own-kinds.ts';

/** Objects of ours in the documentation, but for a module in a file, which an API cannot have. */
const documented = [
  'deploy/demo/plugin.yaml',
  'deploy/README.md',
  'plugins/README.md',
  'plugins/canary/README.md',
  'plugins/port-scan/README.md',
]
  .concat(['connection-rate', 'domain-rules', 'egress-allow-list', 'generated-names'].map((name) => `plugins/${name}/README.md`))
  .flatMap((file) => examplesIn(file).map((object) => ({ file, object })));

function examplesIn(file: string): WrittenObject[] {
  const text = readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), 'utf8');
  const blocks = file.endsWith('.md') ? [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, block = '']) => block) : [text];
  return blocks
    .flatMap((block) => parseAllDocuments(block))
    .map((document) => document.toJS() as WrittenObject)
    .filter((object) => object?.apiVersion === 'sluice.dev/v1alpha1' && !(object.spec as { module?: { file?: string } })?.module?.file)
    .map((object) => ({ ...object, metadata: { ...object.metadata, ...(object.metadata.namespace && { namespace: 'default' }) } }));
}

/** Why the engine's reader would not take an object from an API. */
function readerProblems(object: WrittenObject): string[] {
  return readObject(object as never, { locate: (_, title) => ({ at: 'file', file: title }) }).problems.map(({ reason }) => reason);
}

describe('a real API server', () => {
  let cluster: Cluster;
  /** Whether it would take an object, with every field that it does not know as an error. */
  const offer = async (object: WrittenObject) =>
    await askJson(cluster.api, 'POST', `${pathOf(object)}?dryRun=All&fieldValidation=Strict`, object);

  beforeAll(async () => {
    cluster = await startCluster({ name: 'crds-test' });
  });
  afterAll(async () => await cluster?.stop());

  test('takes the CRDs, which are structural, and a second time without a change', async () => {
    expect((await applyCrds(cluster.api)).map(({ status, body }) => [status, body.message])).toEqual(Array(4).fill([201, undefined]));
    const stored = await storedCrds(cluster.api);
    for (const { body } of stored) {
      const conditions: { type: string; status: string }[] = body.status.conditions;
      expect(conditions.map(({ type, status }) => `${type}=${status}`)).toEqual(['NamesAccepted=True', 'Established=True']);
    }
    expect((await applyCrds(cluster.api)).map(({ status, body }) => [status, body.metadata.resourceVersion])).toEqual(
      stored.map(({ body }) => [200, body.metadata.resourceVersion]),
    );
  });

  test.each(GOOD_OBJECTS)('takes $name, and so does the reader', async ({ object }) => {
    const { status, body } = await offer(object);
    expect(body.message ?? '').toBe('');
    expect(status).toBe(201);
    expect(readerProblems(object)).toEqual([]);
    // With the server's defaults it means the same.
    const origin = { locate: (_: unknown, title: string) => ({ at: 'file' as const, file: title }) };
    const [written, stored] = [object, body].map((each) => readObject(each as never, origin).object);
    // The name of a HostPolicy is of its text as well.
    if (object.kind !== 'HostPolicy') expect(meaning(stored)).toEqual(meaning(written));
    expect(readerProblems(body)).toEqual([]);
  });

  test.each(BAD_OBJECTS)('refuses $name', async ({ object, sentence, onlyEngine }) => {
    expect(readerProblems(object)).not.toEqual([]);
    const { status, body } = await offer(object);
    if (onlyEngine) expect(status, 'only the engine can know that').toBe(201);
    else {
      expect(body.message).toContain(sentence);
      expect([400, 422]).toContain(status);
    }
  });

  test('takes nothing that the reader refuses: objects with something in them changed', async () => {
    const mutations = new Mutations(20_261_129);
    const taken: string[] = [];
    let [accepted, stricter] = [0, 0];
    const ask = async (object: WrittenObject): Promise<void> => {
      const { status, body } = await offer(object);
      // An engine reads the object as it is stored: a null in a map is left out there.
      const problems = readerProblems(status === 201 ? (body as never) : object);
      if (status === 201) accepted += 1;
      if (status === 201 && problems.length) taken.push(`${JSON.stringify(object)}: ${problems.join('; ')}`);
      if (status !== 201 && !problems.length) stricter += 1;
      if (status !== 201) expect(typeof body.message, JSON.stringify(body)).toBe('string');
    };
    for (let round = 0; round < 150; round++)
      await Promise.all(
        Array.from({ length: 20 }, (_, i) => ask(mutations.of(GOOD_OBJECTS[(round * 20 + i) % GOOD_OBJECTS.length]!.object))),
      );
    expect(taken).toEqual([]);
    // Neither all nor nothing is taken, and the server is hardly stricter than the reader: where a list is longer than it may be.
    expect(accepted).toBeGreaterThan(500);
    expect(stricter).toBeLessThan(accepted / 20);
  }, 120_000);

  test('says of every field that people write what it is for', async () => {
    const { body } = await askJson(cluster.api, 'GET', '/openapi/v3/apis/sluice.dev/v1alpha1');
    const spec = body.components.schemas['dev.sluice.v1alpha1.PluginPolicy'].properties.spec;
    expect(spec.properties.egress.items.properties.ask.properties.context.description).toContain('When it is asked');
  });

  test.each(documented)('takes the example of $file', async ({ object }) => {
    const { status, body } = await offer(object);
    expect(body.message ?? '').toBe('');
    expect(status).toBe(201);
  });
});

/** An object that was read, without the functions in it. */
function meaning(read: ReadObject | undefined): unknown {
  return structuredClone({ kind: read?.kind, value: read?.value });
}

const JUNK = [
  null,
  0,
  -1,
  65_536,
  '',
  'x',
  'A b',
  '10.0.0.0/8',
  '10.0.0.0/33',
  '010.0.0.0/8',
  '::ffff:10.0.0.0/104',
  'fd00::/08',
  '*.com',
  'a.b',
  '__proto__',
  [],
  {},
  true,
  1.5,
  [''],
  [{}],
  { matchLabels: { 'a b': 'c' } },
  'x'.repeat(300),
];

/** Small changes of objects. Everything follows from the seed. */
class Mutations {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  of(object: WrittenObject): WrittenObject {
    return { ...object, spec: this.#change(object.spec) };
  }

  #below(limit: number): number {
    this.#state = (this.#state * 48_271) % 0x7fffffff;
    return this.#state % limit;
  }

  #change(value: unknown): unknown {
    if (typeof value === 'string' && this.#below(3)) return this.#changeText(value);
    if (typeof value === 'number' && this.#below(3)) return value + [1, -1, 100_000, 0.5][this.#below(4)]!;
    if (typeof value !== 'object' || value === null || this.#below(12) === 0) return JUNK[this.#below(JUNK.length)];
    if (Array.isArray(value)) return this.#changeList(value);
    const keys = Object.keys(value);
    const key = keys[this.#below(keys.length)];
    if (!key || this.#below(16) === 0) return { ...value, [['odd', 'cidr', 'names', 'endPort', 'service', 'a/b/c'][this.#below(6)]!]: 1 };
    const { [key]: inner, ...rest } = value as Record<string, unknown>;
    return this.#below(8) === 0 ? rest : { ...value, [key]: this.#change(inner) };
  }

  #changeList(list: readonly unknown[]): unknown[] {
    const at = this.#below(list.length || 1);
    if (this.#below(5) === 0) return [...list, list[at] ?? JUNK[this.#below(JUNK.length)]];
    if (this.#below(8) === 0) return list.filter((_, i) => i !== at);
    return list.map((each, i) => (i === at ? this.#change(each) : each));
  }

  #changeText(text: string): string {
    const at = this.#below(text.length + 1);
    const letter = ['', 'a', 'A', '-', '.', '0', '/', '_', ' ', '\n', 'é'][this.#below(11)];
    return text.slice(0, at) + letter + text.slice(at + this.#below(2));
  }
}
