import { type Fn, f64Const, type I32, type I64, i32, i64, type Var } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import {
  BIAS,
  Fpx,
  multiplyWide,
  normalize,
  QUIET_NAN,
  Rounding,
  SPECIAL,
  shiftRightSticky,
  TOP_BIT,
} from "./number.ts";
import { raiseFlags, roundingMode } from "./round.ts";

/**
 * Arithmetic on numbers taken apart, none of them NaN. Each function takes (control, sign, exponent, significand of the first,
 * the same of the second) and leaves an unrounded result: the significand is returned, the rest lies in the state.
 */

interface Parts {
  readonly sign: I32;
  readonly exp: I32;
  readonly sig: I64;
}

function result(h: HelperBody, sign: I32, exp: I32, sig: I64, rest: I64 = i64(0)): void {
  h.store32(State.fpSign, sign);
  h.store32(State.fpExp, exp);
  h.store64(State.fpRest, rest);
  h.f.return(sig);
}
/** IE and the default NaN. */
function invalid(h: HelperBody): void {
  raiseFlags(h, Fpx.ie);
  result(h, i32(1), i32(SPECIAL), QUIET_NAN);
}

function defineOperation(name: string, body: (h: HelperBody, control: I32, a: Parts, b: Parts) => void): void {
  defineHelper(name, ["i32", "i32", "i32", "i64", "i32", "i32", "i64"], "i64", (h) => {
    const parts = (n: number) => ({ sign: h.param<"i32">(n), exp: h.param<"i32">(n + 1), sig: h.param<"i64">(n + 2) });
    body(h, h.param(0), parts(1), parts(4));
  });
}

/** Swaps two numbers so that the first has the larger magnitude. */
function byMagnitude(f: Fn, a: Parts, b: Parts): { large: Parts; small: Parts } {
  const swap = f.let(a.exp.ltS(b.exp).or(a.exp.eq(b.exp).and(a.sig.ltU(b.sig))));
  const pick = (x: Parts, y: Parts): Parts => ({
    sign: f.let(f.select(swap, y.sign, x.sign)),
    exp: f.let(f.select(swap, y.exp, x.exp)),
    sig: f.let(f.select(swap, y.sig, x.sig)),
  });
  return { large: pick(a, b), small: pick(b, a) };
}

defineOperation("fpAdd", (h, control, a, b) => {
  const { f } = h;
  const unlike = f.let(a.sign.xor(b.sign));
  const zeroSign = () => roundingMode(f, control).eq(Rounding.down);
  f.if(b.sig.eqz(), () => {
    f.if(a.sig.eqz(), () => result(h, f.select(unlike, zeroSign(), a.sign), i32(0), i64(0)));
    result(h, a.sign, a.exp, a.sig);
  });
  f.if(a.sig.eqz(), () => result(h, b.sign, b.exp, b.sig));
  const { large, small } = byMagnitude(f, a, b);
  f.if(large.exp.eq(SPECIAL), () => {
    f.if(small.exp.eq(SPECIAL).and(unlike), () => invalid(h));
    result(h, large.sign, large.exp, large.sig);
  });
  const hi = f.var("i64", small.sig);
  const lo = f.var("i64", i64(0));
  shiftRightSticky(f, hi, lo, large.exp.sub(small.exp));
  f.if(unlike, () => {
    hi.set(large.sig.sub(hi.get()).sub(lo.get().ne(0).extU()));
    lo.set(i64(0).sub(lo.get()));
    f.if(hi.get().or(lo.get()).eqz(), () => result(h, zeroSign(), i32(0), i64(0)));
    const shift = normalize(f, hi, lo);
    result(h, large.sign, large.exp.sub(shift), hi.get(), lo.get());
  });
  const sum = f.let(large.sig.add(hi.get()));
  f.if(sum.ltU(large.sig), () => {
    const down = lo.get().shrU(1).or(lo.get().and(1));
    result(h, large.sign, large.exp.add(1), sum.shrU(1).or(TOP_BIT), down.or(sum.shl(63)));
  });
  result(h, large.sign, large.exp, sum, lo.get());
});

defineOperation("fpMultiply", (h, _control, a, b) => {
  const { f } = h;
  const sign = f.let(a.sign.xor(b.sign));
  const infinite = a.exp.eq(SPECIAL).or(b.exp.eq(SPECIAL));
  const zero = f.let(a.sig.eqz().or(b.sig.eqz()));
  f.if(infinite, () => {
    f.if(zero, () => invalid(h));
    result(h, sign, i32(SPECIAL), TOP_BIT);
  });
  f.if(zero, () => result(h, sign, i32(0), i64(0)));
  const { hi, lo } = multiplyWide(f, a.sig, b.sig);
  const exp = f.let(a.exp.add(b.exp).sub(BIAS));
  f.if(hi.ltS(0), () => result(h, sign, exp.add(1), hi, lo));
  result(h, sign, exp, hi.shl(1).or(lo.shrU(63)), lo.shl(1));
});

/**
 * Divides high·2^64 + low by a divisor with bit 63 set, high < divisor, in two steps of 32 quotient bits: each estimate from the
 * divisor's upper half is at most 2 too large.
 */
export function divideWide(f: Fn, high: I64, low: I64, divisor: I64): { quotient: I64; remainder: I64 } {
  const dh = f.let(divisor.shrU(32));
  const dl = f.let(divisor.zeroExtend(32));
  const rest = f.var("i64", high);
  const digit = (next: I64): I64 => {
    const q = f.var("i64", rest.get().divU(dh));
    const r = f.var("i64", rest.get().sub(q.get().mul(dh)));
    const bits = f.let(next);
    f.block((end) =>
      f.loop((again) => {
        const tooLarge = q
          .get()
          .shrU(32)
          .ne(0)
          .or(q.get().mul(dl).gtU(r.get().shl(32).or(bits)));
        f.brIf(end, tooLarge.eqz());
        q.set(q.get().sub(1));
        r.set(r.get().add(dh));
        f.brIf(again, r.get().shrU(32).eqz());
      }),
    );
    // The difference is below the divisor although its terms overflow 64 bits.
    rest.set(rest.get().shl(32).or(bits).sub(q.get().mul(divisor)));
    return q.get();
  };
  const first = f.let(digit(low.shrU(32)).shl(32));
  const second = digit(low.zeroExtend(32));
  return { quotient: f.let(first.or(second)), remainder: rest.get() };
}

defineOperation("fpDivide", (h, _control, a, b) => {
  const { f } = h;
  const sign = f.let(a.sign.xor(b.sign));
  f.if(a.exp.eq(SPECIAL), () => {
    f.if(b.exp.eq(SPECIAL), () => invalid(h));
    result(h, sign, i32(SPECIAL), TOP_BIT);
  });
  f.if(b.exp.eq(SPECIAL), () => result(h, sign, i32(0), i64(0)));
  f.if(b.sig.eqz(), () => {
    f.if(a.sig.eqz(), () => invalid(h));
    raiseFlags(h, Fpx.ze);
    result(h, sign, i32(SPECIAL), TOP_BIT);
  });
  f.if(a.sig.eqz(), () => result(h, sign, i32(0), i64(0)));
  // Half the dividend if need be, so that the quotient lies between 2^63 and 2^64.
  const large = f.let(a.sig.geU(b.sig));
  const high = f.let(a.sig.shrU(large.extU()));
  const low = f.let(f.select(large, a.sig.shl(63), i64(0)));
  const { quotient, remainder } = divideWide(f, high, low, b.sig);
  const exp = a.exp
    .sub(b.exp)
    .add(BIAS - 1)
    .add(large);
  result(h, sign, exp, quotient, belowHalf(f, remainder, b.sig));
});

/** What a remainder stands for below the last bit of a quotient: nothing, less than half, half or more, as a sticky fraction. */
function belowHalf(f: Fn, remainder: I64, divisor: I64): I64 {
  const rest = f.let(remainder);
  const complement = f.let(divisor.sub(rest));
  const half = f.select(rest.geU(complement), TOP_BIT, i64(0));
  return half.or(rest.ne(complement).and(rest.ne(0)).extU());
}

/** Square root of the second number. */
defineOperation("fpSqrt", (h, _control, _a, b) => {
  const { f } = h;
  f.if(b.sig.eqz(), () => result(h, b.sign, i32(0), i64(0)));
  f.if(b.sign, () => invalid(h));
  f.if(b.exp.eq(SPECIAL), () => result(h, b.sign, b.exp, b.sig));
  // The radicand sig·2^64 or sig·2^63, such that the exponent becomes even.
  const even = f.let(b.exp.sub(BIAS).and(1).eqz());
  const high = f.let(b.sig.shrU(even.extU()));
  const low = f.let(f.select(even, b.sig.shl(63), i64(0)));
  const root = floorRoot(f, high, low);
  const exp = b.exp.sub(BIAS).shrS(1).add(BIAS);
  // (root + ½)² is root² + root + ¼: the remainder is never exactly in the middle.
  const above = root.hi.ne(0).or(root.lo.gtU(root.root));
  const inexact = root.hi.or(root.lo).ne(0).extU();
  result(h, i32(0), exp, root.root, f.select(above, TOP_BIT.or(1), inexact));
});

const TWO_32 = f64Const(2 ** 32);
const TWO_64 = f64Const(2 ** 64);

/** The integer square root of a number ≥ 2^126, and what its square leaves: at most 65 bits. */
function floorRoot(f: Fn, high: I64, low: I64): { root: I64; hi: I64; lo: I64 } {
  const estimate = f.op<"f64">("f64.sqrt", f.op("f64.convert_i64_u", high));
  const root = f.var("i64", f.op("i64.trunc_sat_f64_u", f.op("f64.mul", estimate, TWO_32)));
  const [hi, lo] = [f.var("i64"), f.var("i64")];
  const subtractSquare = () => {
    const square = multiplyWide(f, root.get(), root.get());
    lo.set(low.sub(square.lo));
    hi.set(high.sub(square.hi).sub(low.ltU(square.lo).extU()));
  };
  subtractSquare();
  // A float has 53 of the 64 bits; one step of Newton's iteration gives the others, but for a unit.
  const upper = f.op<"f64">("f64.mul", f.op("f64.convert_i64_s", hi.get()), TWO_64);
  const remainder = f.op<"f64">("f64.add", upper, f.op("f64.convert_i64_u", lo.get()));
  const twice = f.op<"f64">("f64.mul", f.op("f64.convert_i64_u", root.get()), f64Const(2));
  root.set(root.get().add(f.op("i64.trunc_sat_f64_s", f.op("f64.div", remainder, twice))));
  subtractSquare();
  f.while(
    () => hi.get().ltS(0),
    () => {
      root.set(root.get().sub(1));
      addOdd(f, hi, lo, root.get());
    },
  );
  const twiceLow = () => root.get().shl(1);
  const twiceHigh = () => root.get().shrU(63);
  f.while(
    () =>
      hi
        .get()
        .gtU(twiceHigh())
        .or(hi.get().eq(twiceHigh()).and(lo.get().gtU(twiceLow()))),
    () => {
      const borrow = f.let(lo.get().leU(twiceLow()).extU());
      lo.set(lo.get().sub(twiceLow()).sub(1));
      hi.set(hi.get().sub(twiceHigh()).sub(borrow));
      root.set(root.get().add(1));
    },
  );
  return { root: root.get(), hi: hi.get(), lo: lo.get() };
}

/** hi:lo += 2·n + 1 */
function addOdd(f: Fn, hi: Var<"i64">, lo: Var<"i64">, n: I64): void {
  const odd = f.let(n.shl(1).or(1));
  lo.set(lo.get().add(odd));
  hi.set(hi.get().add(n.shrU(63)).add(lo.get().ltU(odd).extU()));
}
