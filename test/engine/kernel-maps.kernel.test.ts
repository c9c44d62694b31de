/** Maps as large as the cluster needs: taken over where they are large enough, replaced without a gap where they are not. */
import { rmSync } from 'node:fs';
import { afterAll, describe, expect, inject, test } from 'vitest';
import { DEFAULT_LIMITS } from '../../engine/config.ts';
import { Compiler } from '../../engine/policy/compile.ts';
import { EntryMap } from '../../engine/policy/entry-map.ts';

const PIN = `/sys/fs/bpf/sluice-test-sizes-${process.pid}`;

describe.skipIf(inject('missing'))('map sizes', async () => {
  const { Datapath } = await import('../../engine/kernel/datapath.ts');
  const { removeDatapath } = await import('../../engine/kernel/pins.ts');
  const { PolicyMaps } = await import('../../engine/kernel/policy-maps.ts');

  afterAll(async () => {
    await removeDatapath(PIN);
    rmSync(PIN, { recursive: true, force: true });
  });

  /** So many peers. */
  function state(count: number) {
    const peers = new EntryMap();
    for (let i = 0; i < count; i++) {
      const key = Buffer.alloc(16);
      key.writeUInt32LE(i);
      peers.set(key.toString('latin1'), Buffer.from([1, 2, 3, 4]));
    }
    return { ...new Compiler().maps, peers, endpoints: new Map(), ownsAddress: () => true };
  }

  /** Starts as an engine does, and returns what a map then has room for, and how it went. */
  async function start(room: number, peers: number): Promise<{ room: number; held: number; failures: string[] }> {
    const datapath = await Datapath.load(PIN, { peers: room });
    const maps = new PolicyMaps(datapath, DEFAULT_LIMITS);
    const { failures } = maps.apply(state(peers));
    const held = datapath.maps.peers.dump().size;
    const { maxEntries } = datapath.maps.peers;
    datapath.close();
    return { room: maxEntries, held, failures: failures.map(({ message }) => message) };
  }

  test('a map has the room that was asked for', async () => {
    expect(await start(64, 40)).toEqual({ room: 64, held: 40, failures: [] });
  });

  test('what does not fit is refused as a whole, and says what to do', async () => {
    const { held, failures } = await start(64, 70);
    expect(held).toBe(40);
    expect(failures).toEqual([
      'Cannot put the policy in force: map peers would need 70 entries and has room for 64; a restart of the engine sizes it anew',
    ]);
  });

  test('a larger one takes its place, filled, and stays', async () => {
    expect(await start(256, 200)).toEqual({ room: 256, held: 200, failures: [] });
    expect(await start(64, 200)).toEqual({ room: 256, held: 200, failures: [] });
  });

  test('a policy map under its limit again takes what it refused', async () => {
    const datapath = await Datapath.load(PIN, { peers: 64 });
    const maps = new PolicyMaps(datapath, DEFAULT_LIMITS);
    const wanted = state(300);
    expect(maps.apply(wanted).failures).toHaveLength(1);
    for (const key of [...wanted.peers.entries.keys()].slice(100)) wanted.peers.delete(key);
    expect(maps.apply(wanted).failures).toEqual([]);
    expect(datapath.maps.peers.dump().size).toBe(100);
    datapath.close();
  });
});
