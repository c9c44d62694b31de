/** plugins/README.md is what authors of other SDKs have: it says what the host's tables say. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { PluginSlot, pluginContextCodec, pluginHeaderCodec } from '../../../engine/abi.gen.ts';
import { formatSignature, GUEST_EXPORTS, HOST_FUNCTIONS } from '../../../engine/plugin-runtime/abi.ts';
import { FIELD_NAMES } from '../../../engine/plugin-runtime/fields.ts';
import { HOST_CAPABILITIES } from '../../../engine/plugin-tools/accessors.ts';
import { CAPABILITIES } from '../../../engine/policy/objects.ts';

const page = readFileSync(new URL('../../../plugins/README.md', import.meta.url), 'utf8');
const rows = [...page.matchAll(/^\| `([\w.]+)` \| `(\([^`]*)` \|([^|]*)\|/gm)].map(([, name, type, third]) => ({
  name,
  type,
  third: third?.trim(),
}));

test('the SDK declares each import by its name, which tells the build what capability a plugin needs', () => {
  const sdk = readFileSync(new URL('../../../plugins/sdk/host.ts', import.meta.url), 'utf8');
  const declared = [...sdk.matchAll(/@external\("sluice", "(\w+)"\) declare function (\w+)/g)].map(([, name, as]) => [
    `sluice.${name}`,
    as,
  ]);
  const wanted = [...HOST_FUNCTIONS].filter(([name]) => name !== 'env.abort');
  expect(declared.map(([name]) => name).sort()).toEqual(wanted.map(([name]) => name).sort());
  for (const [name, as] of declared) expect(HOST_CAPABILITIES.get(`host/${as}`)).toBe(HOST_FUNCTIONS.get(name as string)?.capability);
});

describe('plugins/README.md', () => {
  test('lists every export with its type, and which are optional', () => {
    for (const [name, wanted] of GUEST_EXPORTS) {
      const row = rows.find((candidate) => candidate.name === name);
      expect(row?.type, name).toBe(formatSignature(wanted));
      expect(row?.third?.startsWith('optional'), name).toBe(!wanted.required);
    }
  });

  test('lists every import with its type and capability, and nothing that does not exist', () => {
    for (const [name, { capability, ...signature }] of HOST_FUNCTIONS)
      expect(rows.find((row) => row.name === name)).toEqual({
        name,
        type: formatSignature(signature),
        third: capability ? `\`${capability}\`` : '',
      });
    expect(rows.length).toBe(GUEST_EXPORTS.size + HOST_FUNCTIONS.size);
    for (const capability of CAPABILITIES) expect(page).toContain(`\`${capability}\``);
  });

  test('has every field, and the offsets and slots that bpf/plugin-abi.h has', () => {
    for (const field of FIELD_NAMES) expect(page, field).toContain(`\`${field}\``);
    const { offsets, size } = pluginContextCodec;
    for (const offset of [
      offsets.destination,
      offsets.timeMs,
      offsets.flow,
      offsets.sourceIdentity,
      offsets.tag,
      offsets.fields,
      offsets.sourcePort,
      offsets.hook,
      offsets.flags,
      offsets.slots,
      offsets.headers,
    ])
      expect(page).toMatch(new RegExp(`^\\| (\\d+, )*${offset}[ ,]`, 'm'));
    expect(page).toContain(`${size} bytes`);
    expect(page).toContain(`each ${pluginHeaderCodec.size} bytes`);
    for (const [name, slot] of Object.entries(PluginSlot))
      if (name !== 'MAX') expect(page).toMatch(new RegExp(`${slot}\\s+\`${name.toLowerCase().replaceAll('_', '-')}\``));
  });
});
