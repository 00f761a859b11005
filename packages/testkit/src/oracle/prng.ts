/**
 * xoshiro128** in 32-bit arithmetic: the same sequence for the same seed on every machine.
 * @see Blackman and Vigna, "Scrambled linear pseudorandom number generators"
 */
export class Prng {
  readonly #s = new Uint32Array(4);

  constructor(seed: number) {
    // SplitMix32 spreads a small seed over the state, which must not be all zero.
    let x = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e3779b9) >>> 0;
      let z = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      this.#s[i] = z ^ (z >>> 16);
    }
  }

  /** A uniform unsigned 32-bit number. */
  u32(): number {
    const s = this.#s;
    const x = Math.imul(s[1], 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
  /** A uniform number from 0 to n − 1, 0 < n ≤ 2^32. */
  below(n: number): number {
    return Math.floor((this.u32() / 0x1_0000_0000) * n);
  }
  /** A uniform number from low to high, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }
  /** True in `percent` of 100 cases; fractions count. */
  chance(percent: number): boolean {
    return this.u32() < percent * 42949672.96;
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)];
  }
}
