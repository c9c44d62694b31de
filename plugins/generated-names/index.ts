/** Denies DNS answers about names that look made by a program: malware finds its masters by names that nobody else has thought of. */
import { allow, audit, Config, deny, DnsAnswer, HostSet, nxdomain, Policy, Text, Verdict } from '@sluice/plugin-sdk';

/** Names that are trusted whatever they look like. */
const trusted = new HostSet('trusted');

const LETTERS = 26;
const VOWELS = 1 << 0 | 1 << 4 | 1 << 8 | 1 << 14 | 1 << 20 | 1 << 24;
const OTHER = 0;
const LETTER = 1;
const DIGIT = 2;
/**
 * The pairs of letters that make nine tenths of the pairs in names that people choose, as a mask for each first letter. Counted
 * over half the words in the names of Debian's packages; README.md has what that gives on the other half.
 */
const COMMON: StaticArray<u32> = [
  mask('bcdfgiklmnprstuvy'), mask('abcdefgijklmnoprstux'), mask('acehikloprstu'), mask('abcefilmorsu'), mask('abcdefgilmnoprstvwxy'),
  mask('aefilorstu'), mask('aeilnorstu'), mask('aeiot'), mask('abcdefgklmnoprstvxz'), mask('as'),
  mask('aeis'), mask('acdeilopstuy'), mask('abeilmopsu'), mask('acdefgiknostuv'), mask('abcdfgiklmnoprstuvwx'),
  mask('acdehiloprstuy'), mask('tu'), mask('acdegiklmnoprstuvy'), mask('acdehiklmnopstuwy'), mask('acdefhiklmoprstuy'),
  mask('abcdegilmnprst'), mask('aei'), mask('aei'), mask('mpt'), mask('anpst'),
  mask('e'),
];

function mask(letters: string): u32 {
  let bits: u32 = 0;
  for (let i = 0; i < letters.length; i++) bits |= 1 << (letters.charCodeAt(i) - 0x61);
  return bits;
}

@policy({ name: 'generated-names', version: '1.0.0' })
export class GeneratedNames extends Policy {
  private limit: i32 = 60;
  private observe: bool = false;

  configure(config: Config): void {
    this.limit = <i32>config.number('score', 60);
    if (this.limit < 1 || this.limit > 100) throw new Error('score must be 1 to 100');
    const mode = config.text('mode');
    if (mode.length && mode != 'deny' && mode != 'observe') throw new Error('mode must be deny or observe');
    this.observe = mode == 'observe';
  }

  @on('dns')
  onAnswer(answer: DnsAnswer): Verdict {
    const name = answer.name;
    if (trusted.hasText(name)) return allow();
    const score = scoreOf(name);
    if (score < this.limit) return allow();
    const reason = `looks generated: score ${score} of 100`;
    if (this.observe) return audit(reason);
    // Names that do not exist yet are tried by such programs by the thousand: no address, no difference.
    return answer.addresses.isEmpty ? nxdomain(reason) : deny(reason);
  }
}

/** 0 to 100: of its label that looks most like it, but for the last one, which nobody chooses. */
function scoreOf(name: Text): i32 {
  let worst: i32 = 0;
  let from = 0;
  for (let i = 0; i < name.length; i++) {
    if (name.byteAt(i) != 0x2e) continue;
    worst = max(worst, scoreOfLabel(name, from, i));
    from = i + 1;
  }
  return worst;
}

function scoreOfLabel(name: Text, from: i32, to: i32): i32 {
  const length = to - from;
  // Short ones say nothing, and what is longer is a hash that content networks use.
  if (length < 8 || length > 40) return 0;
  let rare = 0;
  let pairs = 0;
  let changes = 0;
  let run = 0;
  let longestRun = 0;
  let before = OTHER;
  let letterBefore = 0;
  for (let i = from; i < to; i++) {
    const byte = <i32>name.byteAt(i);
    const letter = byte - 0x61;
    const kind = letter >= 0 && letter < LETTERS ? LETTER : byte >= 0x30 && byte <= 0x39 ? DIGIT : OTHER;
    if (kind != OTHER && before != OTHER && kind != before) changes++;
    if (kind == LETTER && before == LETTER) {
      pairs++;
      if (!(COMMON[letterBefore] & (1 << letter))) rare++;
    }
    run = kind == LETTER && isConsonant(letter) ? run + 1 : 0;
    longestRun = max(longestRun, run);
    before = kind;
    letterBefore = letter;
  }
  const unusual = pairs > 3 ? (rare * 100) / pairs : 0;
  const mixed = (changes * 100) / length;
  return min(100, unusual + mixed + max(0, longestRun - 3) * 10 + min(10, length - 8));
}

/** Of a letter from 0: whether it is none of a, e, i, o, u, y. */
function isConsonant(letter: i32): bool { return ((1 << letter) & VOWELS) == 0; }
