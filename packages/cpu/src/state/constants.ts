/** Coefficients for the x87 transcendental instructions: numbers below 2 as 128-bit integers in units of 2^−127. */

const UNIT = 127n;
/** Bits beyond the unit while sums are formed. */
const GUARD = 40n;
const ONE = 1n << (UNIT + GUARD);
const rounded = (x: bigint): bigint => (x + (1n << (GUARD - 1n))) >> GUARD;

/** atan(1/n) or atanh(1/n), in units of 2^−(127 + GUARD). */
function inverseTangent(n: bigint, hyperbolic: boolean): bigint {
  let sum = 0n;
  let power = ONE / n;
  for (let k = 1n; power; k += 2n) {
    sum += !hyperbolic && k % 4n === 3n ? -(power / k) : power / k;
    power /= n * n;
  }
  return sum;
}
// Machin's formula, and ln 2 = 2·atanh(1/3)
const QUARTER_PI = 4n * inverseTangent(5n, false) - inverseTangent(239n, false);
const LN2 = 2n * inverseTangent(3n, true);

export const HALF_PI = rounded(2n * QUARTER_PI);
export const LN_2 = rounded(LN2);
/** 1 / ln 2. */
export const LOG2_E = rounded((ONE * ONE) / LN2);

/** 1/(step·n + first)! for n = 0, 1 … */
function inverseFactorials(count: number, step: bigint, first: bigint): bigint[] {
  const result: bigint[] = [];
  let value = ONE;
  let k = 0n;
  for (let n = 0n; n < BigInt(count); n++) {
    for (; k < step * n + first; ) value /= ++k;
    result.push(rounded(value));
  }
  return result;
}
const oddReciprocals = (count: number): bigint[] =>
  Array.from({ length: count }, (_, n) => rounded(ONE / BigInt(2 * n + 1)));

/** atan(k/16) for 0 ≤ k ≤ 16. */
function arcTangents(): bigint[] {
  return Array.from({ length: 17 }, (_, k) => {
    if (k === 0) return 0n;
    if (k === 16) return rounded(QUARTER_PI);
    // Euler's series converges quickly for all of them: Σ 2^2n (n!)² / (2n+1)! · x^(2n+1) / (1+x²)^(n+1)
    const x = BigInt(k);
    let term = (ONE * x * 16n) / (256n + x * x);
    let sum = 0n;
    for (let n = 1n; term; n++) {
      sum += term;
      term = (term * 2n * n * x * x) / ((2n * n + 1n) * (256n + x * x));
    }
    return rounded(sum);
  });
}

/** Series in their argument: (e^y − 1)/y, sin(y)/y and cos(y) and atan(y)/y and atanh(y)/y in y². Signs are the reader's. */
export const SERIES = {
  exponential: inverseFactorials(24, 1n, 1n),
  sine: inverseFactorials(14, 2n, 1n),
  cosine: inverseFactorials(14, 2n, 0n),
  inverseTangent: oddReciprocals(22),
} as const;
export const ARC_TANGENTS = arcTangents();
