/** Maps that are pinned outlive the engine: whoever changes what their bytes mean says so to the next one. */
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type BtfTypes, plainType, readBtf, typeOf } from '../../../bpf/codegen/btf.ts';
import { readMaps } from '../../../bpf/codegen/maps.ts';
import { Abi } from '../../../engine/abi.gen.ts';

const object = fileURLToPath(new URL('../../../build/endpoint.bpf.o', import.meta.url));

/** The layouts with which the version was given out, as digests. One that is another now: ABI_VERSION + 1 in bpf/abi.h and here. One that is new: a line. */
const GIVEN_OUT = {
  version: 9,
  layouts: {
    affinities: '868a9659',
    asks: '95cb9b4f',
    backend_sets: '9d792b33',
    backends: '786a1579',
    cgroup_ids: 'f152b680',
    connections: 'd800c438',
    counters: '17b4960a',
    dns_names: '79ee3ff8',
    endpoints: '6d636aa7',
    engine_states: '56b8a3aa',
    flow_records: '95cb9b4f',
    fragments: '507876d9',
    journeys: 'ecdd7331',
    known_addresses: '9aa50b89',
    local_endpoints: '813077fb',
    name_patterns: 'e9f823ed',
    name_shares: '41de6dd9',
    named_rule_sets: 'e4692b85',
    networks: 'fc2713d1',
    node_addresses: 'cf4abe84',
    openings: '3972aa88',
    origins: 'c26d30f7',
    peers: 'cf4abe84',
    plugins: 'b7a99a18',
    pod_stages: 'a4d42a60',
    policies: '11c21635',
    policy_states: '37dfba0a',
    ports: '1e6fd9c1',
    queries: 'bb38d1e3',
    received_stages: 'a4d42a60',
    record_shares: '8ba119a4',
    resolvers: 'cf4abe84',
    rule_backends: 'a4d42a60',
    sent_stages: 'a4d42a60',
    services: 'c933b1ad',
    shares: '4fe5787c',
    verdict_hits: '17b4960a',
    verdicts: '3545b40f',
  },
};

/** A type with everything in it, by name, place and size. */
function layoutOf(types: BtfTypes, id: number | undefined): unknown {
  if (id === undefined) return undefined;
  const type = plainType(types, id);
  if (type.kind === 'ARRAY') return [type.nr_elems, layoutOf(types, type.type_id)];
  if (type.kind !== 'STRUCT') return [typeOf(types, id).name, type.size];
  return (type.members ?? []).map(({ name, type_id, bits_offset }) => [name, bits_offset, layoutOf(types, type_id)]);
}

test('a layout of what is pinned that is another now has another ABI_VERSION', () => {
  const types = readBtf(object);
  const layouts = readMaps(object, types)
    .filter(({ pinned }) => pinned)
    .map(({ name, key, value }) => {
      const layout = JSON.stringify([layoutOf(types, key), layoutOf(types, value)]);
      return [name, createHash('sha256').update(layout).digest('hex').slice(0, 8)] as const;
    });
  expect({ version: Abi.VERSION, layouts: Object.fromEntries(layouts) }).toEqual(GIVEN_OUT);
});
