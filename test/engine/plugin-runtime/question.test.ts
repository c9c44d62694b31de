/** All that a question says reaches a plugin that declares every field, and nothing of a conversation is left for the next one. */
import { expect, test } from 'vitest';
import { Context, Direction, pluginContextCodec } from '../../../engine/abi.gen.ts';
import { ContextWriter } from '../../../engine/plugin-runtime/context-writer.ts';
import { FIELD_NAMES } from '../../../engine/plugin-runtime/fields.ts';
import { declaredFields, type Manifest } from '../../../engine/plugin-runtime/manifest.ts';
import { ADDRESS_WORDS, Question } from '../../../engine/plugin-runtime/question.ts';

type Said = Omit<Question, 'clearTexts'>;

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A question that leaves nothing empty; with `variant`, everything is another value. */
function said(variant: 0 | 1): Said {
  const text = `text-${variant}`;
  return {
    hook: variant ? Context.HTTP : Context.TLS,
    words: Int32Array.from({ length: 2 * ADDRESS_WORDS }, (_, i) => 1 + i + variant),
    wordsAt: variant * ADDRESS_WORDS,
    sourceIdentity: 300 + variant,
    destinationIdentity: 400 + variant,
    sourcePort: 40_000 + variant,
    destinationPort: 80 + variant,
    protocol: variant ? 17 : 6,
    direction: variant ? Direction.EGRESS : Direction.INGRESS,
    established: variant === 1,
    rule: 7 + variant,
    timeMs: 1000 + variant,
    source: { namespace: bytes(text), labels: bytes(text) },
    destination: { namespace: bytes(text), labels: bytes(text) },
    sourcePod: { name: bytes(text), serviceAccount: bytes(text) },
    destinationPod: { name: bytes(text), serviceAccount: bytes(text) },
    destinationService: bytes(text),
    serverName: text,
    applicationProtocols: text,
    encryptedHello: variant === 1,
    dnsName: text,
    dnsType: 28 + variant,
    dnsTtlS: 60 + variant,
    dnsAddresses: text,
    method: text,
    host: text,
    path: text,
    query: text,
    headers: ['x-team', text, 'cookie', `session=${text}`],
  };
}

const manifest = { fields: FIELD_NAMES, headers: ['x-team'], cookies: ['session'] } as unknown as Manifest;

function written(question: Question): string {
  const memory = new ArrayBuffer(4096);
  const writer = new ContextWriter(manifest);
  writer.setMemory(memory, 0, memory.byteLength);
  writer.write(question);
  return Buffer.from(memory).toString('latin1');
}

const names = Object.keys(said(0)) as (keyof Said)[];

test('everything that a question has is known here', () => {
  expect(names.sort()).toEqual(Object.keys(new Question()).sort());
});

test('each declared field is marked as filled in', () => {
  const context = Buffer.from(written(Object.assign(new Question(), said(1))), 'latin1');
  expect(pluginContextCodec.read(context, 0).fields).toBe(declaredFields(manifest) >>> 0);
});

test.each(names)('a plugin sees the difference where %s is another', (name) => {
  const other = Object.assign(new Question(), said(0), { [name]: said(1)[name] });
  expect(written(other)).not.toBe(written(Object.assign(new Question(), said(0))));
});

test('clearTexts() forgets all that is not said anew of each packet and each request', () => {
  const question = Object.assign(new Question(), said(1));
  question.clearTexts();
  const left = names.filter((name) => JSON.stringify(question[name]) !== JSON.stringify(new Question()[name]));
  expect(left.sort()).toEqual([
    'destination',
    'destinationIdentity',
    'destinationPod',
    'destinationPort',
    'destinationService',
    'direction',
    'established',
    'hook',
    'protocol',
    'rule',
    'source',
    'sourceIdentity',
    'sourcePod',
    'sourcePort',
    'timeMs',
    'words',
    'wordsAt',
  ]);
});
