/** Rates: a bounded table of token buckets. Made at the start with its size; it never grows. */

const PROBES: i32 = 8;

export class TokenBuckets {
  private keys: StaticArray<u64>;
  private tokens: StaticArray<f64>;
  private times: StaticArray<u64>;
  private mask: i32;

  /**
   * perSecond: tokens that come back each second; burst: the most a bucket holds. slots: how many keys are told apart,
   * rounded up to a power of two; beyond that the key not seen for longest is forgotten, and starts with a full bucket.
   */
  constructor(private perSecond: f64, private burst: f64, slots: i32 = 1024) {
    let size = PROBES;
    while (size < slots) size <<= 1;
    this.mask = size - 1;
    this.keys = new StaticArray<u64>(size);
    this.tokens = new StaticArray<f64>(size);
    this.times = new StaticArray<u64>(size);
  }

  /** Takes one token of a key's bucket; false when it is empty. */
  take(key: u64, nowMs: u64): bool {
    const at = this.find(key | 1, nowMs);
    const elapsed = <f64>(nowMs - this.times[at]);
    const tokens = min(this.burst, this.tokens[at] + (elapsed * this.perSecond) / 1000);
    this.times[at] = nowMs;
    this.tokens[at] = tokens >= 1 ? tokens - 1 : tokens;
    return tokens >= 1;
  }

  private find(key: u64, nowMs: u64): i32 {
    const start = <i32>((key * 0x9e3779b97f4a7c15) >> 40);
    let oldest = start & this.mask;
    for (let i = 0; i < PROBES; i++) {
      const at = (start + i) & this.mask;
      if (this.keys[at] == key) return at;
      if (this.times[at] < this.times[oldest]) oldest = at;
    }
    this.keys[oldest] = key;
    this.tokens[oldest] = this.burst;
    this.times[oldest] = nowMs;
    return oldest;
  }
}
