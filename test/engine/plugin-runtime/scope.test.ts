/** A verdict is cached only as widely as its inputs allow: for random plugins and flows, a cached answer is a fresh one. */
import { describe, expect, test } from 'vitest';
import {
  askCodec,
  Context,
  PluginAction,
  PluginField,
  pluginContextCodec,
  pluginHeaderCodec,
  Scope,
  verdictKeyCodec,
} from '../../../engine/abi.gen.ts';
import { AskBatch } from '../../../engine/flow/ask-batch.ts';
import { createSharedMemory, RECORD_HEADER } from '../../../engine/flow/shared-memory.ts';
import { VerdictWriter } from '../../../engine/flow/verdict-writer.ts';

import { effectiveScope, FIELD_BITS, FIELD_NAMES, widestScope } from '../../../engine/plugin-runtime/fields.ts';
import { type IdentityTexts, type PodTexts, Question } from '../../../engine/plugin-runtime/question.ts';
import { actionOf, decodeWord, scopeOf } from '../../../engine/plugin-runtime/verdict-word.ts';
import { plugin, random, start } from '../../support/plugin-modules.ts';

describe('decodeWord()', () => {
  test.each([
    { name: 'next', word: 0, want: { action: PluginAction.NEXT, scope: Scope.NONE, ttlMs: 0, reason: 0 } },
    {
      name: 'a denial for a flow and 10 ms',
      word: 2 | (1 << 4) | (1 << 8),
      want: { action: PluginAction.DENY, scope: Scope.FLOW, ttlMs: 10, reason: 0 },
    },
    {
      name: 'an exponent',
      word: 1 | (4 << 4) | (200 << 8) | (3 << 16),
      want: { action: PluginAction.ALLOW, scope: Scope.IDENTITY, ttlMs: 16_000, reason: 0 },
    },
    {
      name: 'the largest reason',
      word: (0xfff02 | (0xfff << 20)) >>> 0,
      want: { action: PluginAction.DENY, scope: Scope.NONE, ttlMs: 255 * 2 ** 15 * 10, reason: 4095 },
    },
  ])('reads $name', ({ word, want }) => {
    expect(decodeWord(word, Context.CONNECT)).toEqual(want);
  });

  test('knows a route in hook http only', () => {
    expect(decodeWord(3, Context.HTTP)?.action).toBe(PluginAction.ROUTE);
    for (const hook of [Context.CONNECT, Context.DNS, Context.TLS]) expect(decodeWord(3, hook)).toBeUndefined();
  });
});

describe('widestScope()', () => {
  test.each([
    { name: 'nothing', fields: [], want: Scope.IDENTITY },
    {
      name: 'labels and the port',
      fields: ['source-labels', 'destination-labels', 'destination-port', 'protocol', 'direction'],
      want: Scope.IDENTITY,
    },
    { name: 'an address', fields: ['source-labels', 'destination-address'], want: Scope.ADDRESS },
    { name: 'a pod’s name', fields: ['source-pod'], want: Scope.ADDRESS },
    { name: 'the source port', fields: ['source-port', 'source-address'], want: Scope.FLOW },
    { name: 'the server name', fields: ['server-name'], want: Scope.FLOW },
    { name: 'the path', fields: ['path'], want: Scope.NONE },
    { name: 'a header', fields: ['header'], want: Scope.NONE },
    { name: 'the DNS name', fields: ['dns-name'], want: Scope.NONE },
    { name: 'the time', fields: ['time', 'source-identity'], want: Scope.NONE },
    { name: 'whether the connection is new', fields: ['established'], want: Scope.NONE },
    { name: 'a counter', fields: ['host-state'], want: Scope.NONE },
  ])('of $name', ({ fields, want }) => {
    expect(widestScope(fields.reduce((bits, field) => bits | (FIELD_BITS.get(field) as number), 0))).toBe(want);
  });

  test('never grows with what is read, and never beyond what is asked for', () => {
    const next = random(1);
    for (let i = 0; i < 2000; i++) {
      const read = next(1 << 29);
      expect(widestScope(read | (1 << next(29)))).toBeLessThanOrEqual(widestScope(read));
      for (const asked of Object.values(Scope)) expect(effectiveScope(asked, read)).toBeLessThanOrEqual(asked);
    }
  });
});

/** Which bytes of the context each number is; texts are looked up by their slot. */
const OFFSETS = pluginContextCodec.offsets;
const NUMBERS: Readonly<Record<string, readonly [offset: number, bytes: number]>> = {
  'source-identity': [OFFSETS.sourceIdentity, 4],
  'destination-identity': [OFFSETS.destinationIdentity, 4],
  'source-address': [OFFSETS.source, 16],
  'destination-address': [OFFSETS.destination, 16],
  'source-port': [OFFSETS.sourcePort, 2],
  'destination-port': [OFFSETS.destinationPort, 2],
  protocol: [OFFSETS.protocol, 1],
  direction: [OFFSETS.direction, 1],
  established: [OFFSETS.flags, 1],
  time: [OFFSETS.timeMs, 8],
  flow: [OFFSETS.flow, 8],
  tag: [OFFSETS.tag, 4],
};
/** Slots 6 to 13: namespaces, pods, labels, a Service, a service account. */
const TEXTS: Readonly<Record<string, number>> = {
  'source-namespace': 6,
  'source-pod': 7,
  'source-labels': 8,
  'destination-namespace': 9,
  'destination-pod': 10,
  'destination-labels': 11,
  'destination-service': 12,
  'source-service-account': 13,
};

/** A plugin that hashes what it reads, and allows or denies by that, for all pods of the identity if it may. */
function hashing(fields: readonly string[]): Uint8Array {
  const mix = (value: string): string => `(local.set $n (i32.mul (i32.xor (local.get $n) ${value}) (i32.const 16777619)))`;
  const reads = fields.map((field) => {
    const number = NUMBERS[field];
    if (number) return Array.from({ length: number[1] }, (_, i) => mix(`(i32.load8_u (i32.const ${1024 + number[0] + i}))`)).join(' ');
    const slot = 1024 + OFFSETS.slots + 4 * (TEXTS[field] as number);
    return `(local.set $i (i32.const 0)) (block $end${slot} (loop $l${slot}
      (br_if $end${slot} (i32.ge_u (local.get $i) (i32.load16_u (i32.const ${slot + 2}))))
      ${mix(`(i32.load8_u (i32.add (i32.add (i32.const 1024) (i32.load16_u (i32.const ${slot}))) (local.get $i)))`)}
      (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $l${slot})))`;
  });
  const bits = fields.reduce((sum, field) => sum | (FIELD_BITS.get(field) as number), 0);
  // Allow or deny, scope identity, a TTL of 10 s.
  const word = `(i32.or (i32.const ${(4 << 4) | (250 << 8) | (2 << 16)}) (i32.add (i32.const 1) (i32.and (i32.shr_u (local.get $n) (i32.const 7)) (i32.const 1))))`;
  return plugin(
    { evaluate: `(local.set $n (i32.const -2128831035)) ${reads.join(' ')} (i32.store (i32.const 0) (i32.const ${bits})) ${word}` },
    { fields },
  );
}

const SETUP = { id: 5, epoch: 1 };
const encoder = new TextEncoder();
const texts = (i: number): IdentityTexts => ({ namespace: encoder.encode(`ns${i % 2}`), labels: encoder.encode(`app=a${i}\nx=${i * 7}`) });
/** Identities are decided by address, as they are in a cluster; a pod's name too. */
const identities = new Map([300, 301, 302].map((id, i) => [id, texts(i)]));

/** A flow over few values, so that many have a lot in common. */
function writeFlow(
  bytes: Buffer,
  next: (below: number) => number,
): { pods: Map<string, PodTexts>; services: Map<string, Uint8Array>; timeMs: number } {
  const ASK = askCodec.offsets;
  const at = RECORD_HEADER;
  bytes.fill(0, 0, at + askCodec.size);
  bytes.writeUInt32LE(askCodec.size, 0);
  const pods = new Map<string, PodTexts>();
  const services = new Map<string, Uint8Array>();
  for (const [address, identity] of [
    [ASK.source, ASK.sourceIdentity],
    [ASK.destination, ASK.destinationIdentity],
  ] as const) {
    const host = next(6);
    bytes.writeUInt32BE(0x0a000000 + host, at + address + 12);
    bytes.writeUInt32LE(300 + (host % 3), at + identity);
    const key = bytes.toString('latin1', at + address, at + address + 16);
    pods.set(key, { name: encoder.encode(`pod${host}`), serviceAccount: host % 2 ? encoder.encode(`account${host}`) : undefined });
    if (host % 4 === 0) services.set(key, encoder.encode(`shop/service${host}`));
  }
  bytes.writeUInt32LE(next(4), at + ASK.rule);
  bytes.writeUInt32LE(SETUP.id, at + ASK.plugin);
  bytes.writeUInt16BE(40_000 + next(3), at + ASK.sourcePort);
  bytes.writeUInt16BE(80 + next(2), at + ASK.destinationPort);
  bytes.writeUInt8(next(2) ? 6 : 17, at + ASK.protocol);
  bytes.writeUInt8(next(2), at + ASK.direction);
  bytes.writeUInt8(next(2), at + ASK.flags);
  return { pods, services, timeMs: next(1000) };
}

test('a cached answer always equals a fresh evaluation: 60 random plugins, signed and unsigned, 300 flows each', async () => {
  const next = random(11);
  const names = [...Object.keys(NUMBERS), ...Object.keys(TEXTS)];
  let hits = 0;
  for (let i = 0; i < 60; i++) {
    const fields = names.filter(() => next(i % 6 ? 8 : 3) === 0);
    const instance = await start(hashing(fields), { trusted: i % 2 === 0 });
    const memory = createSharedMemory();
    const batch = new AskBatch(memory.batch);
    const writer = new VerdictWriter(memory);
    const keys = Buffer.from(memory.verdictKeys);
    const cache = new Map<string, number>();
    const asked = new Question();
    for (let n = 0; n < 300; n++) {
      const { pods, services, timeMs } = writeFlow(batch.bytes, next);
      batch.index(1);
      batch.ask(batch.at(0), asked, timeMs, { identities, pods, services, domain: () => '' });
      const word = instance.evaluate(asked);
      // As the kernel looks: every scope that a verdict may have, each by the key that the writer makes for it.
      const keyOf = (scope: Scope): string => {
        writer.write(0, batch.at(0), SETUP, { allowed: true, scope, ttlMs: 1 }, 0n);
        return keys.toString('latin1', 0, verdictKeyCodec.size);
      };
      for (const scope of [Scope.FLOW, Scope.ADDRESS, Scope.IDENTITY]) {
        const cached = cache.get(keyOf(scope));
        if (cached === undefined) continue;
        hits += 1;
        expect(actionOf(cached), `plugin ${i} reads ${fields.join(', ')}; scope ${scope}`).toBe(actionOf(word));
      }
      if (scopeOf(word) !== Scope.NONE) cache.set(keyOf(scopeOf(word)), word);
    }
  }
  expect(hits).toBeGreaterThan(2000);
});

test('every field has one bit, and every name that a manifest may use has a field', () => {
  const bits = Object.values(PluginField);
  expect(new Set(bits).size).toBe(bits.length);
  for (const bit of bits) expect(Math.log2(bit) % 1).toBe(0);
  expect(FIELD_NAMES.length).toBe(bits.length - 3);
  expect(pluginHeaderCodec.size).toBe(12);
});
