import { type I32, i32, i64, i64Big } from "@xenoserver/wasm";
import { LN_2, LOG2_E, SERIES } from "../../state/constants.ts";
import { State } from "../../state/layout.ts";
import { Tables } from "../../state/tables.ts";
import { define } from "../define.ts";
import { BIAS, Fpx, SPECIAL, TOP_BIT, type Unpacked } from "../float/number.ts";
import { raiseFlags } from "../float/round.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import { finish, noteDenormals, unlessEmpty } from "./arith.ts";
import { beginX87 } from "./control.ts";
import {
  clearFlags,
  DEFAULT_NAN,
  dropFlags,
  type Extended,
  isEmpty,
  isSpecial,
  readRegister,
  returnExtended,
  returned,
  unpack80,
} from "./stack.ts";
import {
  add,
  constantFixed,
  divide,
  multiply,
  normalized,
  ONE,
  returnWide,
  roundWide,
  sumSeries,
  toFraction,
  type Wide,
  wideResult,
} from "./wide.ts";

/** F2XM1, FYL2X and FYL2XP1. */

const wideOf = (x: Unpacked): Wide => ({ exp: x.exp, hi: x.sig, lo: i64(0) });
const NATURAL_2 = { exp: i32(BIAS - 1), ...constantFixed(LN_2 << 1n) };
/** 2 / ln 2. */
const TWICE_LOG2_E = { exp: i32(BIAS + 1), ...constantFixed(LOG2_E) };

export const infinite = (sign: I32): Extended => ({ se: sign.shl(15).or(0x7fff), sig: TOP_BIT });
export const zero = (sign: I32): Extended => ({ se: sign.shl(15), sig: i64(0) });
/** IE and the default NaN; a denormal operand is not reported beside it. */
export function returnInvalid(h: HelperBody): void {
  dropFlags(h, Fpx.de);
  raiseFlags(h, Fpx.ie);
  returnExtended(h, DEFAULT_NAN);
}

// 2^x − 1 = x · ln 2 · (e^y − 1)/y with y = x · ln 2
defineHelper("x87Exponential", ["i32", "i64"], "i64", (h) => {
  const { f } = h;
  const a = { se: h.param<"i32">(0), sig: h.param<"i64">(1) };
  f.if(isSpecial(f, a), () => f.return(h.call<"i64">("x87Nan", a.se, a.sig, a.se, a.sig)));
  noteDenormals(h, a);
  const x = unpack80(f, a);
  f.if(x.sig.eqz(), () => returnExtended(h, a));
  f.if(x.exp.geS(BIAS), () => {
    f.if(x.exp.eq(SPECIAL).and(x.sign), () => returnExtended(h, { se: i32(0x8000 | BIAS), sig: TOP_BIT }));
    const half = { se: i32(0x8000 | (BIAS - 1)), sig: TOP_BIT };
    f.if(x.exp.eq(BIAS).and(x.sig.eq(TOP_BIT)).and(x.sign), () => returnExtended(h, half));
    // 2^1 − 1 is 1; beyond that the instruction is undefined and leaves its operand.
    returnExtended(h, a);
  });
  const y = multiply(h, wideOf(x), NATURAL_2);
  const sum = sumSeries(h, Tables.exponential, SERIES.exponential.length, x.sign, toFraction(f, y));
  returnExtended(h, roundWide(h, x.sign, multiply(h, y, sum)));
});
defineHelper("x87F2xm1", [], undefined, (h) => {
  clearFlags(h);
  const result = unlessEmpty(h, isEmpty(h, 0), () => {
    const a = readRegister(h, 0);
    return returned(h, h.call("x87Exponential", a.se, a.sig));
  });
  finish(h, 0, result);
});
define("F2XM1", "d9 /6.0", (o, i) => {
  beginX87(o, i);
  o.callVoid("x87F2xm1");
});

/** (2 / ln 2) · atanh(n / d) for n / d up to ⅓. */
function logarithmOfRatio(h: HelperBody, n: Wide, d: Wide): Wide {
  const z = divide(h, n, d);
  const square = toFraction(h.f, multiply(h, z, z));
  const sum = sumSeries(h, Tables.inverseTangent, SERIES.inverseTangent.length, i32(0), square);
  return multiply(h, multiply(h, z, sum), TWICE_LOG2_E);
}

const SQRT_2 = i64Big(0xb504f333f9de6485n);

// (exponent, significand) of a positive number → |log2|, its sign in the state; 0 for 1
defineHelper("x87Logarithm", ["i32", "i64"], "i64", (h) => {
  const { f } = h;
  const sig = h.param<"i64">(1);
  // m between √½ and √2: log2 = e + (2 / ln 2) · atanh((m − 1)/(m + 1))
  const halved = f.let(sig.geU(SQRT_2));
  const e = f.let(h.param<"i32">(0).sub(BIAS).add(halved));
  const difference = f.let(f.select(halved, i64(0).sub(sig), sig.sub(TOP_BIT)));
  const n = normalized(f, i32(BIAS).sub(halved), { hi: difference, lo: i64(0) });
  // m + 1 has 65 bits.
  const total = f.let(f.select(halved, sig, sig.add(TOP_BIT)));
  const d = { exp: i32(BIAS + 1).sub(halved), hi: total.shrU(1).or(TOP_BIT), lo: total.shl(63) };
  const whole = f.let(f.select(e.ltS(0), i32(0).sub(e), e));
  const size = normalized(f, i32(BIAS + 63), { hi: whole.extU(), lo: i64(0) });
  f.if(difference.eqz(), () => {
    h.store32(State.fpSign, e.ltS(0));
    returnWide(h, size);
  });
  const part = logarithmOfRatio(h, n, { exp: d.exp, hi: f.let(d.hi), lo: f.let(d.lo) });
  f.if(e.eqz(), () => {
    h.store32(State.fpSign, halved);
    returnWide(h, part);
  });
  const negative = f.let(e.ltS(0));
  h.store32(State.fpSign, negative);
  returnWide(h, add(h, negative.xor(halved), size, part));
});

// The same of 1 + x, for |x| below ½: n / d = x / (2 + x)
defineHelper("x87LogarithmNear1", ["i32", "i32", "i64"], "i64", (h) => {
  const [sign, exp, sig] = [h.param<"i32">(0), h.param<"i32">(1), h.param<"i64">(2)];
  const x: Wide = { exp, hi: sig, lo: i64(0) };
  const two: Wide = { ...ONE, exp: i32(BIAS + 1) };
  const d = add(h, sign, two, x);
  const result = logarithmOfRatio(h, x, d);
  h.store32(State.fpSign, sign);
  returnWide(h, result);
});

/** Multiplies a logarithm that a helper left by y, and returns it rounded. */
function returnProduct(h: HelperBody, log: Wide, y: Unpacked): void {
  const sign = h.f.let(h.load32(State.fpSign).xor(y.sign));
  returnExtended(h, roundWide(h, sign, multiply(h, log, wideOf(y))));
}

interface Operands {
  readonly x: Unpacked;
  readonly y: Unpacked;
}
/** Operands of a logarithm times y; NaN are done with. */
function operands(h: HelperBody): Operands {
  const { f } = h;
  const a = { se: h.param<"i32">(0), sig: h.param<"i64">(1) };
  const b = { se: h.param<"i32">(2), sig: h.param<"i64">(3) };
  f.if(isSpecial(f, a).or(isSpecial(f, b)), () => f.return(h.call<"i64">("x87Nan", a.se, a.sig, b.se, b.sig)));
  noteDenormals(h, a, b);
  return { x: unpack80(f, a), y: unpack80(f, b) };
}
/** Infinite and zero results: `log` is 0 (0 or −0), 1 (finite), 2 (infinite); `sign` its sign. */
function takeLimits(h: HelperBody, log: I32, sign: I32, y: Unpacked): void {
  const { f } = h;
  const product = f.let(sign.xor(y.sign));
  const infinity = f.let(y.exp.eq(SPECIAL));
  f.if(log.eq(2), () => {
    f.if(y.sig.eqz(), () => returnInvalid(h));
    returnExtended(h, infinite(product));
  });
  f.if(infinity, () => {
    f.if(log.eqz(), () => returnInvalid(h));
    returnExtended(h, infinite(product));
  });
  f.if(log.eqz().or(y.sig.eqz()), () => returnExtended(h, zero(product)));
}
/** The logarithm of 0 times a finite number is an exact infinity. */
function noteZero(h: HelperBody, y: Unpacked): void {
  h.f.if(y.exp.ne(SPECIAL).and(y.sig.ne(0)), () => {
    dropFlags(h, Fpx.de);
    raiseFlags(h, Fpx.ze);
  });
}

// (x, y) → y · log2 x
defineHelper("x87LogProduct", ["i32", "i64", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const { x, y } = operands(h);
  f.if(x.sign.and(x.sig.ne(0)), () => returnInvalid(h));
  const isOne = x.exp.eq(BIAS).and(x.sig.eq(TOP_BIT));
  const limit = f.let(x.sig.eqz().or(x.exp.eq(SPECIAL)));
  f.if(x.sig.eqz(), () => noteZero(h, y));
  const log = f.let(f.select(limit, i32(2), isOne.eqz()));
  takeLimits(h, log, f.let(x.exp.ltS(BIAS).or(x.sig.eqz())), y);
  returnProduct(h, wideResult(h, h.call("x87Logarithm", x.exp, x.sig)), y);
});
// (x, y) → y · log2(x + 1)
defineHelper("x87LogProductNear1", ["i32", "i64", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const { x, y } = operands(h);
  const beyond = x.exp.geS(BIAS).and(x.sign);
  const isMinusOne = f.let(x.exp.eq(BIAS).and(x.sig.eq(TOP_BIT)).and(x.sign));
  f.if(beyond.and(isMinusOne.eqz()), () => returnInvalid(h));
  f.if(isMinusOne, () => noteZero(h, y));
  const limit = f.let(isMinusOne.or(x.exp.eq(SPECIAL)));
  takeLimits(h, f.let(f.select(limit, i32(2), x.sig.ne(0))), x.sign, y);
  f.if(x.exp.ltS(BIAS - 1), () =>
    returnProduct(h, wideResult(h, h.call("x87LogarithmNear1", x.sign, x.exp, x.sig)), y),
  );
  // Farther away 1 + x may be rounded.
  const sum = h.call<"i64">("fpAdd", i32(0), i32(0), i32(BIAS), TOP_BIT, x.sign, x.exp, x.sig);
  returnProduct(h, wideResult(h, h.call("x87Logarithm", h.load32(State.fpExp), sum)), y);
});
for (const [name, encoding, helper] of [
  ["FYL2X", "d9 /6.1", "x87LogProduct"],
  ["FYL2XP1", "d9 /7.1", "x87LogProductNear1"],
] as const) {
  defineHelper(`x87${name}`, [], undefined, (h) => {
    clearFlags(h);
    const result = unlessEmpty(h, isEmpty(h, 0).or(isEmpty(h, 1)), () => {
      const [a, b] = [readRegister(h, 0), readRegister(h, 1)];
      return returned(h, h.call(helper, a.se, a.sig, b.se, b.sig));
    });
    finish(h, 1, result, i32(1));
  });
  define(name, encoding, (o, i) => {
    beginX87(o, i);
    o.callVoid(`x87${name}`);
  });
}
