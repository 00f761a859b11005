import { type Fn, type I32, type I64, i32, i64, i64Big, type Var } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { BIAS, multiplyWide, shiftRightSticky, TOP_BIT } from "../float/number.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import { type Extended, returned } from "./stack.ts";

/** Arithmetic with 128-bit significands, for functions whose results must be right to the last of 64 bits or nearly so. */

/** A positive number (hi:lo / 2^127) · 2^(exp − BIAS); bit 63 of `hi` is set unless the number is 0. */
export interface Wide {
  readonly exp: I32;
  readonly hi: I64;
  readonly lo: I64;
}
/** A fraction hi:lo / 2^128, or a number hi:lo / 2^127. */
export interface Fixed {
  readonly hi: I64;
  readonly lo: I64;
}
export const constantFixed = (n: bigint): Fixed => ({ hi: i64Big(n >> 64n), lo: i64Big(n) });
export const ONE: Wide = { exp: i32(BIAS), hi: TOP_BIT, lo: i64(0) };

/** What a helper returned: the upper half; the rest lies in the state. */
export function wideResult(h: HelperBody, hi: I64): Wide {
  return { exp: h.load32(State.fpExp), hi, lo: h.load64(State.fpRest) };
}
const fixedResult = (h: HelperBody, hi: I64): Fixed => ({ hi, lo: h.load64(State.fpRest) });
export function returnWide(h: HelperBody, w: Wide): void {
  h.store32(State.fpExp, w.exp);
  h.store64(State.fpRest, w.lo);
  h.f.return(w.hi);
}

/** (a, b) → the upper 128 bits of the product, but for a few units of the last. */
defineHelper("fixedMultiply", ["i64", "i64", "i64", "i64"], "i64", (h) => {
  const { f } = h;
  const [ah, al, bh, bl] = [0, 1, 2, 3].map((n) => h.param<"i64">(n));
  const top = multiplyWide(f, ah, bh);
  const cross = [multiplyWide(f, ah, bl).hi, multiplyWide(f, al, bh).hi];
  const hi = f.var("i64", top.hi);
  const lo = f.var("i64", top.lo);
  for (const term of cross) {
    lo.set(lo.get().add(term));
    hi.set(hi.get().add(lo.get().ltU(term).extU()));
  }
  h.store64(State.fpRest, lo.get());
  f.return(hi.get());
});
export const multiplyFixed = (h: HelperBody, a: Fixed, b: Fixed): Fixed =>
  fixedResult(h, h.call("fixedMultiply", a.hi, a.lo, b.hi, b.lo));

/** (n, d), n < d → n / d as a fraction. */
defineHelper("fixedDivide", ["i64", "i64", "i64", "i64"], "i64", (h) => {
  const { f } = h;
  const [dh, dl] = [h.param<"i64">(2), h.param<"i64">(3)];
  const [rh, rl] = [f.var("i64", h.param<"i64">(0)), f.var("i64", h.param<"i64">(1))];
  const [qh, ql] = [f.var("i64", i64(0)), f.var("i64", i64(0))];
  const left = f.var("i32", i32(128));
  f.loop((again) => {
    const carry = f.let(rh.get().ltS(0));
    rh.set(rh.get().shl(1).or(rl.get().shrU(63)));
    rl.set(rl.get().shl(1));
    const atLeast = rh
      .get()
      .gtU(dh)
      .or(rh.get().eq(dh).and(rl.get().geU(dl)));
    const fits = f.let(carry.or(atLeast));
    f.if(fits, () => {
      const borrow = f.let(rl.get().ltU(dl).extU());
      rh.set(rh.get().sub(dh).sub(borrow));
      rl.set(rl.get().sub(dl));
    });
    qh.set(qh.get().shl(1).or(ql.get().shrU(63)));
    ql.set(ql.get().shl(1).or(fits.extU()));
    left.set(left.get().sub(1));
    f.brIf(again, left.get());
  });
  h.store64(State.fpRest, ql.get());
  f.return(qh.get());
});

/**
 * (table, number of terms, 1 if signs alternate, y) → Σ ±cₙ·yⁿ, in units of 2^−127; y is a fraction and the coefficients are
 * such that no partial sum is negative or reaches 2.
 */
defineHelper("fixedSeries", ["i32", "i32", "i32", "i64", "i64"], "i64", (h) => {
  const { f } = h;
  const y = { hi: h.param<"i64">(3), lo: h.param<"i64">(4) };
  const at = f.var("i32", h.param<"i32">(0).add(h.param<"i32">(1).shl(4)));
  const [hi, lo] = [f.var("i64", i64(0)), f.var("i64", i64(0))];
  f.loop((again) => {
    at.set(at.get().sub(16));
    const p = multiplyFixed(h, { hi: hi.get(), lo: lo.get() }, y);
    const cl = f.let(f.load<"i64">("i64.load", at.get()));
    const ch = f.let(f.load<"i64">("i64.load", at.get(), 8));
    f.if(
      h.param(2),
      () => {
        hi.set(ch.sub(p.hi).sub(cl.ltU(p.lo).extU()));
        lo.set(cl.sub(p.lo));
      },
      () => {
        lo.set(cl.add(p.lo));
        hi.set(ch.add(p.hi).add(lo.get().ltU(cl).extU()));
      },
    );
    f.brIf(again, at.get().ne(h.param(0)));
  });
  h.store64(State.fpRest, lo.get());
  f.return(hi.get());
});
export const sumSeries = (h: HelperBody, table: number, terms: number, alternating: I32, y: Fixed): Wide => {
  const sum = fixedResult(h, h.call("fixedSeries", i32(table), i32(terms), alternating, y.hi, y.lo));
  return normalized(h.f, i32(BIAS), sum);
};

/** The number (hi:lo / 2^127) · 2^(exp − BIAS) with its top bit in place. */
export function normalized(f: Fn, exp: I32, x: Fixed): Wide {
  const hi = f.var("i64", x.hi);
  const lo = f.var("i64", x.lo);
  const e = f.var("i32", exp);
  f.if(hi.get().eqz(), () => {
    hi.set(lo.get());
    lo.set(i64(0));
    e.set(e.get().sub(64));
  });
  const n = f.let(hi.get().clz());
  f.if(n.wrap(), () => {
    hi.set(
      hi
        .get()
        .shl(n)
        .or(lo.get().shrU(i64(64).sub(n))),
    );
    lo.set(lo.get().shl(n));
    e.set(e.get().sub(n.wrap()));
  });
  return { exp: e.get(), hi: hi.get(), lo: lo.get() };
}

// (a, b) → product
defineHelper("wideMultiply", ["i32", "i64", "i64", "i32", "i64", "i64"], "i64", (h) => {
  const a = { hi: h.param<"i64">(1), lo: h.param<"i64">(2) };
  const b = { hi: h.param<"i64">(4), lo: h.param<"i64">(5) };
  const exp = h
    .param<"i32">(0)
    .add(h.param<"i32">(3))
    .sub(BIAS - 1);
  returnWide(h, normalized(h.f, exp, multiplyFixed(h, a, b)));
});
export const multiply = (h: HelperBody, a: Wide, b: Wide): Wide =>
  wideResult(h, h.call("wideMultiply", a.exp, a.hi, a.lo, b.exp, b.hi, b.lo));

// (a, b) → quotient
defineHelper("wideDivide", ["i32", "i64", "i64", "i32", "i64", "i64"], "i64", (h) => {
  const { f } = h;
  const [ah, al, bh, bl] = [h.param<"i64">(1), h.param<"i64">(2), h.param<"i64">(4), h.param<"i64">(5)];
  const large = f.let(ah.gtU(bh).or(ah.eq(bh).and(al.geU(bl))));
  const low = f.select(large, al.shrU(1).or(ah.shl(63)), al);
  const q = h.call<"i64">("fixedDivide", ah.shrU(large.extU()), low, bh, bl);
  const exp = h
    .param<"i32">(0)
    .sub(h.param(3))
    .add(BIAS - 1)
    .add(large);
  returnWide(h, normalized(f, exp, { hi: q, lo: h.load64(State.fpRest) }));
});
export const divide = (h: HelperBody, a: Wide, b: Wide): Wide =>
  wideResult(h, h.call("wideDivide", a.exp, a.hi, a.lo, b.exp, b.hi, b.lo));

// (1 to subtract, a, b), a > b → sum or difference
defineHelper("wideAdd", ["i32", "i32", "i64", "i64", "i32", "i64", "i64"], "i64", (h) => {
  const { f } = h;
  const [exp, ah, al] = [h.param<"i32">(1), h.param<"i64">(2), h.param<"i64">(3)];
  const hi = f.var("i64", h.param<"i64">(5));
  const lo = f.var("i64", h.param<"i64">(6));
  shiftRightSticky(f, hi, lo, exp.sub(h.param(4)));
  f.if(h.param(0), () => {
    const borrow = f.let(al.ltU(lo.get()).extU());
    returnWide(h, normalized(f, exp, { hi: f.let(ah.sub(hi.get()).sub(borrow)), lo: f.let(al.sub(lo.get())) }));
  });
  lo.set(al.add(lo.get()));
  const carryLow = f.let(lo.get().ltU(al).extU());
  const sum = f.let(ah.add(hi.get()).add(carryLow));
  f.if(sum.ltU(ah), () =>
    returnWide(h, { exp: exp.add(1), hi: sum.shrU(1).or(TOP_BIT), lo: lo.get().shrU(1).or(sum.shl(63)) }),
  );
  returnWide(h, { exp, hi: sum, lo: lo.get() });
});
export const add = (h: HelperBody, subtract: I32, a: Wide, b: Wide): Wide =>
  wideResult(h, h.call("wideAdd", subtract, a.exp, a.hi, a.lo, b.exp, b.hi, b.lo));

/** A number below 1 as a fraction. */
export function toFraction(f: Fn, w: Wide): Fixed {
  const hi: Var<"i64"> = f.var("i64", w.hi);
  const lo: Var<"i64"> = f.var("i64", w.lo);
  shiftRightSticky(f, hi, lo, i32(BIAS - 1).sub(w.exp));
  return { hi: hi.get(), lo: lo.get() };
}

/** Rounds to an 80-bit number. `inexact` says that there is more to the number than its 128 bits. */
export function roundWide(h: HelperBody, sign: I32, w: Wide, inexact: I32 = i32(1)): Extended {
  const control = h.call<"i32">("x87Control").or(3 << 16);
  return returned(h, h.call("fpRound80", control, sign, w.exp, w.hi, w.lo.or(inexact.extU())));
}
