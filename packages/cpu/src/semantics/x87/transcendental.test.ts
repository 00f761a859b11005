import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { defaultFx, makeCase, Prng, type TestCase, type TestResult } from "@xenoserver/testkit";
import { CaseEngine } from "../../testing/case-engine.ts";

/**
 * The transcendental instructions against sums of series in big integers. Processors of different vendors differ in the last
 * bit; here results are the nearest number but for a hair.
 */

/** Numbers are integers in units of 2^−P. */
const P = 400n;
const ONE = 1n << P;
const mul = (a: bigint, b: bigint): bigint => (a * b) >> P;
const div = (a: bigint, b: bigint): bigint => (a << P) / b;

/** Σ terms, where `next` makes a term from the one before. */
function sum(first: bigint, next: (term: bigint, n: bigint) => bigint): bigint {
  let total = 0n;
  let term = first;
  for (let n = 1n; term; n++) {
    total += term;
    term = next(term, n);
  }
  return total;
}
const exp = (y: bigint): bigint => sum(ONE, (t, n) => mul(t, y) / n);
const sin = (y: bigint): bigint => sum(y, (t, n) => -mul(t, mul(y, y)) / (2n * n * (2n * n + 1n)));
const cos = (y: bigint): bigint => sum(ONE, (t, n) => -mul(t, mul(y, y)) / (2n * n * (2n * n - 1n)));
/** Euler's series. */
const atan = (y: bigint): bigint => {
  const factor = div(mul(y, y), ONE + mul(y, y));
  return sum(div(y, ONE + mul(y, y)), (t, n) => (mul(t, factor) * 2n * n) / (2n * n + 1n));
};
const atanh = (z: bigint): bigint => {
  let power = z;
  return sum(z, (_, n) => (power = mul(power, mul(z, z))) / (2n * n + 1n));
};
const LN2 = 2n * atanh(ONE / 3n);
const PI = 4n * atan(ONE);
/** The processor's π/2. */
const HALF_PI = 0xc90fdaa22168c234cn << (P - 67n);

type Extended = readonly [signExp: number, significand: bigint];
function numberOf([se, sig]: Extended): bigint {
  const shift = P + BigInt((se & 0x7fff) - 0x3fff - 63);
  const size = shift >= 0n ? sig << shift : sig >> -shift;
  return se & 0x8000 ? -size : size;
}
/** Distance of a result from the truth in units of its last place. */
function errorOf(result: Extended, truth: bigint): number {
  const unit = P + BigInt((result[0] & 0x7fff) - 0x3fff - 63);
  const distance = numberOf(result) - truth;
  return Number(((distance < 0n ? -distance : distance) << 20n) >> unit) / 2 ** 20;
}

function caseOf(opcode: number, st0: Extended, st1: Extended): TestCase {
  const fx = defaultFx();
  const view = new DataView(fx.buffer);
  view.setUint16(2, 6 << 11, true);
  fx[4] = 0xc0;
  for (const [at, x] of [
    [32, st0],
    [48, st1],
  ] as const) {
    view.setBigUint64(at, x[1], true);
    view.setUint16(at + 8, x[0], true);
  }
  return makeCase({ code: Uint8Array.of(0xd9, opcode), fx });
}
function register(r: TestResult, i: number): Extended {
  const view = new DataView(r.fx.buffer, r.fx.byteOffset);
  return [view.getUint16(40 + 16 * i, true), view.getBigUint64(32 + 16 * i, true)];
}

/** A number with an exponent from `low` to `high`. */
function number(r: Prng, low: number, high: number, signed = true): Extended {
  const sign = signed ? r.below(2) << 15 : 0;
  return [sign | (0x3fff + r.between(low, high)), r.u64() | (1n << 63n)];
}
interface Function {
  readonly name: string;
  readonly opcode: number;
  readonly draw: (r: Prng) => readonly [Extended, Extended];
  /** Of ST(0) and ST(1): the results from ST(0) on. */
  readonly truth: (x: bigint, y: bigint) => readonly bigint[];
}

/** Sine of x + (quarter turns), as if the processor's π were π. */
function turn(x: bigint, quarters: bigint): bigint {
  let quadrant = x / HALF_PI;
  let rest = x % HALF_PI;
  if (2n * rest > HALF_PI) [quadrant, rest] = [quadrant + 1n, rest - HALF_PI];
  if (-2n * rest > HALF_PI) [quadrant, rest] = [quadrant - 1n, rest + HALF_PI];
  const n = (quadrant + quarters) & 3n;
  const value = n & 1n ? cos(rest) : sin(rest);
  return n & 2n ? -value : value;
}
const sine = (x: bigint): bigint => turn(x, 0n);
const cosine = (x: bigint): bigint => turn(x, 1n);
const log2 = (x: bigint): bigint => {
  let [m, e] = [x, 0n];
  for (; m > (ONE * 3n) / 2n; m >>= 1n) e++;
  for (; m < (ONE * 3n) / 4n; m <<= 1n) e--;
  // Exact as long as no bit is shifted out, which the drawn numbers do not allow.
  return e * ONE + div(2n * atanh(div(m - ONE, m + ONE)), LN2);
};
function angle(x: bigint, y: bigint): bigint {
  const [ax, ay] = [x < 0n ? -x : x, y < 0n ? -y : y];
  const first = ay <= ax ? atan(div(ay, ax)) : PI / 2n - atan(div(ax, ay));
  const turned = x < 0n ? PI - first : first;
  return y < 0n ? -turned : turned;
}
const NONE: Extended = [0, 0n];
const FUNCTIONS: readonly Function[] = [
  {
    name: "F2XM1",
    opcode: 0xf0,
    draw: (r) => [number(r, -40, -1), NONE],
    truth: (x) => [exp(mul(x, LN2)) - ONE],
  },
  {
    name: "FYL2X",
    opcode: 0xf1,
    draw: (r) => [number(r, -60, 60, false), number(r, -8, 8)],
    truth: (x, y) => [mul(y, log2(x))],
  },
  {
    name: "FYL2X near 1",
    opcode: 0xf1,
    draw: (r) => [[0x3fff, (1n << 63n) | (r.u64() >> BigInt(r.between(2, 60)))], number(r, -8, 8)],
    truth: (x, y) => [mul(y, log2(x))],
  },
  {
    name: "FYL2XP1",
    opcode: 0xf9,
    draw: (r) => [number(r, -60, -3), number(r, -8, 8)],
    truth: (x, y) => [mul(y, log2(ONE + x))],
  },
  {
    name: "FPATAN",
    opcode: 0xf3,
    draw: (r) => [number(r, -9, 9), number(r, -9, 9)],
    truth: (x, y) => [angle(x, y)],
  },
  { name: "FSIN", opcode: 0xfe, draw: (r) => [number(r, -30, 62), NONE], truth: (x) => [sine(x)] },
  { name: "FCOS", opcode: 0xff, draw: (r) => [number(r, -30, 62), NONE], truth: (x) => [cosine(x)] },
  {
    name: "FSINCOS",
    opcode: 0xfb,
    draw: (r) => [number(r, -30, 62), NONE],
    truth: (x) => [cosine(x), sine(x)],
  },
  {
    name: "FPTAN",
    opcode: 0xf2,
    draw: (r) => [number(r, -30, 62), NONE],
    truth: (x) => [ONE, div(sine(x), cosine(x))],
  },
];

describe("x87 transcendental functions", () => {
  const engine = new CaseEngine();
  for (const { name, opcode, draw, truth } of FUNCTIONS) {
    it(`${name} is right to half a unit of the last place`, () => {
      const r = new Prng(1);
      const inputs = Array.from({ length: 60 }, () => draw(r));
      const results = engine.run(inputs.map(([a, b]) => caseOf(opcode, a, b)));
      results.forEach((result, n) => {
        truth(numberOf(inputs[n][0]), numberOf(inputs[n][1])).forEach((expected, i) => {
          const error = errorOf(register(result, i), expected);
          assert.ok(error < 0.501, `${name} of ${inputs[n].flat()}: ST(${i}) is off by ${error}`);
        });
      });
    });
  }
});
