/** Domain names: which patterns are about which, and how the kernel sees them. */
import { describe, expect, test } from 'vitest';
import {
  canonicalName,
  coveringPatterns,
  covers,
  nameHash,
  nameToWire,
  patternEntry,
  wireToName,
} from '../../../engine/policy/domain-name.ts';

describe('domain names', () => {
  test('are told apart without regard to case and the final dot', () => {
    expect(canonicalName('WWW.Example.COM.')).toBe('www.example.com');
  });

  test('what covers a name is asked for from the closest on', () => {
    expect(coveringPatterns('a.b.c')).toEqual(['a.b.c', '*.b.c', '*.c']);
    expect(coveringPatterns('*.b.c')).toEqual(['*.b.c', '*.c']);
  });

  test.each([
    { pattern: 'example.com', name: 'example.com', want: true },
    { pattern: '*.example.com', name: 'example.com', want: false },
    { pattern: '*.example.com', name: 'www.example.com', want: true },
    { pattern: '*.example.com', name: 'a.b.example.com', want: true },
    { pattern: '*.example.com', name: 'badexample.com', want: false },
    { pattern: '*.example.com', name: '*.b.example.com', want: true },
    { pattern: '*.b.example.com', name: '*.example.com', want: false },
    { pattern: 'www.example.com', name: '*.example.com', want: false },
  ])('$pattern covers $name: $want', ({ pattern, name, want }) => {
    expect(covers(pattern, name)).toBe(want);
    expect(coveringPatterns(name).includes(pattern)).toBe(want);
  });

  test('go to wire format and back; what no host name has is escaped', () => {
    expect(nameToWire('www.example.com').toString('latin1')).toBe('\x03www\x07example\x03com\x00');
    expect(wireToName(nameToWire('www.example.com'))).toBe('www.example.com');
    expect(wireToName(Buffer.from('\x03a.\x1b\x02\xc3\xa9\x00rest', 'latin1'))).toBe('a\\046\\027.\\195\\169');
    expect(wireToName(Buffer.from([63, 97]))).toBe('');
  });

  test('a pattern’s entry holds the name that it is about, whose hash is its key', () => {
    const [key, value] = patternEntry('example.com', { exact: 7, wildcard: 8 });
    expect(Buffer.from(key, 'latin1').readBigUInt64LE()).toBe(nameHash('example.com'));
    expect([value.readUInt32LE(0), value.readUInt32LE(4), value.readUInt32LE(8)]).toEqual([7, 8, 13]);
    expect(value.toString('latin1', 12, 25)).toBe('\x07example\x03com\x00');
    expect(nameHash('com.example')).not.toBe(nameHash('example.com'));
  });
});
