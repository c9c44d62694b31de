/** Counters and sets that the host lends: bounded, shared, checked. */
import { Worker } from 'node:worker_threads';
import { describe, expect, test, vi } from 'vitest';
import { CounterTable, tableBytes } from '../../../engine/plugin-runtime/counter-table.ts';
import { createSet } from '../../../engine/plugin-runtime/named-set.ts';
import { plugin, question, random, start } from '../../support/plugin-modules.ts';

const key = (number: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(number);
  return bytes;
};
const table = (slots: number): { table: CounterTable; memory: Int32Array } => {
  const memory = new Int32Array(tableBytes(slots) / 4);
  return { memory, table: new CounterTable(memory, slots, 12_345) };
};

describe('CounterTable', () => {
  test('counts for each key alone, and begins at 0', () => {
    const { table: counters, memory } = table(1024);
    const model = new Map<number, number>();
    const next = random(3);
    for (let i = 0; i < 20_000; i++) {
      const number = next(100);
      const delta = next(20) - 5;
      model.set(number, (model.get(number) ?? 0) + delta);
      expect(counters.add(key(number), 0, 8, delta)).toBe(model.get(number));
    }
    for (const [number, value] of model) expect(counters.get(key(number), 0, 8)).toBe(value);
    expect(counters.get(key(1000), 0, 8)).toBe(0);
    expect(CounterTable.evictions(memory)).toBe(0);
  });

  test('stops at the ends of 32 bits', () => {
    const { table: counters } = table(8);
    expect(counters.add(key(1), 0, 8, 0x7fffffff)).toBe(0x7fffffff);
    expect(counters.add(key(1), 0, 8, 5)).toBe(0x7fffffff);
    expect(counters.add(key(2), 0, 8, -0x80000000)).toBe(-0x80000000);
    expect(counters.add(key(2), 0, 8, -1)).toBe(-0x80000000);
  });

  test('forgets the counter that was used longest ago when it is full, and counts that', () => {
    const { table: counters, memory } = table(8);
    for (let i = 0; i < 8; i++) counters.add(key(i), 0, 8, 100 + i);
    counters.get(key(0), 0, 8);
    counters.add(key(8), 0, 8, 1);
    expect(counters.get(key(0), 0, 8)).toBe(100);
    expect(counters.get(key(1), 0, 8)).toBe(0);
    expect(counters.get(key(8), 0, 8)).toBe(1);
    expect(CounterTable.evictions(memory)).toBe(1);
  });

  test('a flood of other keys evicts, and never breaks: no counter has another key’s value', () => {
    const { table: counters, memory } = table(64);
    const wrong: number[] = [];
    for (let i = 0; i < 100_000; i++) if (counters.add(key(i), 0, 8, i + 1) !== i + 1) wrong.push(i);
    expect(wrong).toEqual([]);
    expect(CounterTable.evictions(memory)).toBeGreaterThan(99_000);
  });

  test('takes over memory that holds one already, and empties what is none', () => {
    const { table: first, memory } = table(64);
    first.add(key(7), 0, 8, 3);
    expect(new CounterTable(memory, 64, 999).get(key(7), 0, 8)).toBe(3);
    memory[0] = 1;
    expect(new CounterTable(memory, 64, 999).get(key(7), 0, 8)).toBe(0);
  });

  test('a key that another thread claims at the same moment has one counter', () => {
    const words = new Int32Array(tableBytes(256) / 4);
    const [counters, other] = [5, 0].map((seed) => new CounterTable(words, 256, seed)) as [CounterTable, CounterTable];
    const exchange = Atomics.compareExchange;
    const spy = vi.spyOn(Atomics, 'compareExchange').mockImplementationOnce(((...call: Parameters<typeof exchange>) => {
      other.add(key(1), 0, 8, 1);
      return exchange(...call);
    }) as typeof exchange);
    try {
      expect(counters.add(key(1), 0, 8, 1)).toBe(2);
    } finally {
      spy.mockRestore();
    }
    expect(counters.get(key(1), 0, 8)).toBe(2);
  });

  test('several threads add to the same counters without losing one', async () => {
    const shared = new SharedArrayBuffer(tableBytes(256));
    new CounterTable(new Int32Array(shared), 256, 5);
    const script = `
      import { parentPort, workerData } from 'node:worker_threads';
      const { CounterTable } = await import(workerData.module);
      const counters = new CounterTable(new Int32Array(workerData.shared), 256, 0);
      const key = Buffer.alloc(8);
      for (let i = 0; i < 100000; i++) { key.writeDoubleLE(i % 16); counters.add(key, 0, 8, 1); }
      parentPort.postMessage('done');`;
    const module = new URL('../../../engine/plugin-runtime/counter-table.ts', import.meta.url).href;
    const url = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
    const workers = Array.from({ length: 3 }, () => new Worker(url, { workerData: { module, shared } }));
    await Promise.all(workers.map((worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))));
    const counters = new CounterTable(new Int32Array(shared), 256, 0);
    let total = 0;
    for (let i = 0; i < 16; i++) total += counters.get(key(i), 0, 8);
    // A key claimed twice at the same moment would have its count in two places.
    expect(total).toBe(300_000);
  });
});

describe('named sets', () => {
  const has = (set: ReturnType<typeof createSet>, text: string): boolean => set.has(Buffer.from(`..${text}..`), 2, Buffer.byteLength(text));

  test.each([
    { name: 'example.com', found: true },
    { name: 'EXAMPLE.com.', found: true },
    { name: 'www.example.com', found: false },
    { name: 'a.example.org', found: true },
    { name: 'a.b.example.org', found: true },
    { name: 'example.org', found: false },
    { name: 'notexample.org', found: false },
    { name: '', found: false },
    { name: '.', found: false },
    { name: '.example.org', found: false },
  ])('domains: $name is in it: $found', ({ name, found }) => {
    expect(has(createSet({ kind: 'domains', items: ['example.com', '*.example.org'] }), name)).toBe(found);
  });

  test('strings are compared whole', () => {
    const set = createSet({ kind: 'strings', items: ['alpha', 'bêta'] });
    expect(['alpha', 'bêta', 'alph', 'alphaa', ''].map((text) => has(set, text))).toEqual([true, true, false, false, false]);
  });

  test('networks match by their longest prefix, and nothing that is no address', () => {
    const ipv4 = (...octets: number[]): Buffer => Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...octets]);
    const set = createSet({
      kind: 'networks',
      items: [
        { address: ipv4(10, 1, 0, 0).toString('latin1'), prefixBits: 96 + 16 },
        { address: ipv4(192, 0, 2, 7).toString('latin1'), prefixBits: 128 },
      ],
    });
    expect(
      [ipv4(10, 1, 255, 3), ipv4(10, 2, 0, 1), ipv4(192, 0, 2, 7), ipv4(192, 0, 2, 6)].map((address) => set.has(address, 0, 16)),
    ).toEqual([true, false, true, false]);
    expect(set.has(ipv4(10, 1, 0, 0), 0, 4)).toBe(false);
  });
});

describe('host functions', () => {
  const ADD = '(import "sluice" "kv_add" (func $add (param i32 i32 i32 i32) (result i32)))';
  const HAS = '(import "sluice" "set_has" (func $has (param i32 i32 i32) (result i32)))';
  const manifest = { capabilities: ['counters', 'sets'], tables: [{ name: 't', slots: 8 }], sets: ['allowed'] };

  test.each([
    {
      what: 'a table that its manifest does not have',
      call: '(call $add (i32.const 1) (i32.const 0) (i32.const 4) (i32.const 1))',
      reason: 'kv_add: the manifest has no table 1',
    },
    {
      what: 'a key outside its memory',
      call: '(call $add (i32.const 0) (i32.const 65534) (i32.const 4) (i32.const 1))',
      reason: 'kv_add: the key is not inside its memory',
    },
    {
      what: 'a key at the end of 32 bits',
      call: '(call $add (i32.const 0) (i32.const -2) (i32.const 4) (i32.const 1))',
      reason: 'kv_add: the key is not inside its memory',
    },
    {
      what: 'a key that is too long',
      call: '(call $add (i32.const 0) (i32.const 0) (i32.const 257) (i32.const 1))',
      reason: 'a key of 257 bytes; 256 are the most',
    },
    {
      what: 'a set that its manifest does not have',
      call: '(call $has (i32.const -1) (i32.const 0) (i32.const 4))',
      reason: 'set_has: the manifest has no set -1',
    },
  ])('a guest that names $what traps', async ({ call, reason }) => {
    const instance = await start(plugin({ imports: ADD + HAS, evaluate: `(drop ${call}) (i32.const 1)` }, manifest), {
      sets: [{ kind: 'strings', items: [] }],
    });
    expect(() => instance.evaluate(question())).toThrow(reason);
  });

  test('counters outlive the instance: its trap, and another version', async () => {
    const memory = new Map<string, Int32Array>();
    const lender = {
      map: (path: string, size: number): Int32Array => {
        const found = memory.get(path) ?? new Int32Array(size / 4);
        memory.set(path, found);
        return found;
      },
    };
    const counting = plugin(
      {
        imports: ADD,
        evaluate:
          '(if (i32.gt_s (call $add (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 1)) (i32.const 2)) (then (unreachable))) (i32.const 1)',
      },
      { ...manifest, sets: [], capabilities: ['counters'] },
    );
    const { auditModule } = await import('../../../engine/plugins/audit.ts');
    const { createInstance } = await import('../../../engine/plugin-runtime/version-parts.ts');
    const { GRANTS, FUEL } = await import('../../support/plugin-modules.ts');
    const { module, manifest: read } = await auditModule(counting, GRANTS);
    const make = () =>
      createInstance(
        { plugin: 'p', module, manifest: read, trusted: true, config: '', fuel: FUEL, sets: [], tablesDirectory: '/t' },
        { seed: () => 1, now: () => 0, log: () => {}, ...lender },
      );
    const first = make();
    first.evaluate(question());
    first.evaluate(question());
    expect(() => first.evaluate(question())).toThrow('unreachable');
    expect(() => make().evaluate(question())).toThrow('unreachable');
    expect([...memory.keys()]).toEqual(['/t/t.8.counters']);
  });
});
