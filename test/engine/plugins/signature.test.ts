import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { auditModule } from '../../../engine/plugins/audit.ts';
import { findSigner, readTrustedKey, signModule, type TrustedKey } from '../../../engine/plugins/signature.ts';
import { parseModule, withCustomSection } from '../../../engine/plugins/wasm/module.ts';
import { GRANTS, plugin, random, start } from '../../support/plugin-modules.ts';

const pair = () => generateKeyPairSync('ed25519');
const trust = (key: ReturnType<typeof pair>): TrustedKey =>
  readTrustedKey(key.publicKey.export({ type: 'spki', format: 'pem' }) as string, 'test');

const mine = pair();
const others = pair();
const module = plugin({}, { fields: ['source-port'] });
const signed = signModule(module, mine.privateKey);

describe('signatures', () => {
  test('are found by the key that made them, and by no other', () => {
    expect(findSigner(signed, [trust(others), trust(mine)])).toBe(trust(mine).id);
    expect(findSigner(signed, [trust(others)])).toBeUndefined();
    expect(findSigner(module, [trust(mine)])).toBeUndefined();
  });

  test('stand in the first section, as the tool conventions have it', () => {
    const [first] = parseModule(signed).sections;
    expect(first?.name).toBe('signature');
    // Version 1, a module, SHA-256; one set of one hash.
    expect([...signed.subarray(first?.from, (first?.from ?? 0) + 6)]).toEqual([1, 1, 1, 1, 1, 32]);
  });

  test('hold for every byte behind them', () => {
    const next = random(5);
    const from = parseModule(signed).sections[0]?.end ?? 0;
    for (let i = 0; i < 200; i++) {
      const changed = Uint8Array.from(signed);
      const at = from + next(changed.length - from);
      changed[at] = (changed[at] as number) ^ (1 + next(255));
      let signer: string | undefined;
      try {
        signer = findSigner(changed, [trust(mine)]);
      } catch {
        continue;
      }
      expect(signer, `byte ${at}`).toBeUndefined();
    }
    expect(findSigner(withCustomSection(signed, 'more', new Uint8Array(3)), [trust(mine)])).toBeUndefined();
  });

  test('are replaced by signing again', () => {
    const again = signModule(signed, others.privateKey);
    expect(findSigner(again, [trust(mine)])).toBeUndefined();
    expect(findSigner(again, [trust(others)])).toBe(trust(others).id);
    expect(again.length).toBe(signed.length);
  });

  test('that are damaged are none, whatever they are made of', () => {
    const next = random(9);
    const { from = 0, end = 0 } = parseModule(signed).sections[0] ?? {};
    for (let i = 0; i < 500; i++) {
      const changed = Uint8Array.from(signed);
      for (let n = 0; n < 4; n++) changed[from + next(end - from)] = next(256);
      if (Buffer.compare(changed, signed) === 0) continue;
      const signer = findSigner(changed, [trust(mine)]);
      // The key's id is a hint that nothing hangs on: only changes of it may leave the signature good.
      if (signer) expect(Buffer.from(changed.subarray(end)).equals(Buffer.from(signed.subarray(end)))).toBe(true);
    }
  });
});

describe('an engine with trusted keys', () => {
  const grants = { ...GRANTS, trustedKeys: [trust(mine)] };

  test.each([
    { what: 'an unsigned module', bytes: module, reason: 'it is not signed, and this engine has trusted keys; run sluice plugin sign' },
    { what: 'one that somebody else signed', bytes: signModule(module, others.privateKey), reason: 'none of the trusted keys' },
    {
      what: 'one that was changed afterwards',
      bytes: withCustomSection(signed, 'x', new Uint8Array(1)),
      reason: 'sign it again after each build',
    },
  ])('refuses $what', async ({ bytes, reason }) => {
    await expect(auditModule(bytes, grants)).rejects.toThrow(reason);
  });

  test('takes a signed module, and says whose it is', async () => {
    expect((await auditModule(signed, grants)).signer).toBe(trust(mine).id);
    expect((await start(signed)).answers(0)).toBe(true);
  });

  test('takes Ed25519 keys only', () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ type: 'spki', format: 'pem' }) as string;
    expect(() => readTrustedKey(rsa, 'rsa.pem')).toThrow('Cannot use key rsa.pem: it is rsa, must be Ed25519');
    expect(() => readTrustedKey('no key', 'x.pem')).toThrow('Cannot read public key x.pem');
  });
});
