import { type I32, type I64, i32, i64 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { defineHelper } from "../helpers.ts";
import { BIAS, Fpx, roundsUp, shiftRightSticky } from "./number.ts";
import { raiseFlags } from "./round.ts";

/** Numbers to integers and back. */

/**
 * (mode, bits, sign, exponent, significand) → a signed integer of 16, 32 or 64 bits. IE and the integer indefinite if it does
 * not fit, PE and perhaps C1 if it is not exact.
 */
defineHelper("fpToInteger", ["i32", "i32", "i32", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const [mode, bits] = [h.param<"i32">(0), h.param<"i32">(1)];
  const [sign, exp] = [h.param<"i32">(2), h.param<"i32">(3)];
  const hi = f.var("i64", h.param<"i64">(4));
  const indefinite = f.let(i64(-1).shl(bits.sub(1).extU()));
  f.if(hi.get().eqz(), () => f.return(i64(0)));
  const invalid = () => {
    raiseFlags(h, Fpx.ie);
    f.return(indefinite);
  };
  f.if(exp.gtS(BIAS + 63), invalid);
  const lo = f.var("i64", i64(0));
  shiftRightSticky(f, hi, lo, i32(BIAS + 63).sub(exp));
  const up = roundsUp(f, mode, sign, lo.get(), hi.get().wrap().and(1));
  const value = f.let(hi.get().add(up.extU()));
  // −2^(bits−1) fits, its opposite does not.
  const limit = indefinite.not().add(sign.extU());
  f.if(value.gtU(limit).or(up.and(value.eqz())), invalid);
  f.if(lo.get().ne(0), () => raiseFlags(h, i32(Fpx.pe).or(up.shl(9))));
  f.return(f.select(sign, i64(0).sub(value), value));
});

/** (integer) → significand; sign and exponent are left in the state as of an unrounded result. */
defineHelper("fpFromInteger", ["i64"], "i64", (h) => {
  const { f } = h;
  const value = h.param<"i64">(0);
  const sign = f.let(value.shrU(63).wrap());
  const size = f.let(f.select(sign, i64(0).sub(value), value));
  const shift = f.let(size.clz());
  h.store32(State.fpSign, sign);
  h.store32(State.fpExp, i32(BIAS + 63).sub(shift.wrap()));
  h.store64(State.fpRest, i64(0));
  f.return(size.shl(shift));
});

/**
 * (mode, sign, exponent, significand) → the significand of the nearest integral number, the rest of it in the state as of an
 * unrounded result; PE and perhaps C1 if that is another number.
 */
defineHelper("fpToIntegral", ["i32", "i32", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const [mode, sign, exp] = [h.param<"i32">(0), h.param<"i32">(1), h.param<"i32">(2)];
  const hi = f.var("i64", h.param<"i64">(3));
  const lo = f.var("i64", i64(0));
  const result = (e: I32, sig: I64) => {
    h.store32(State.fpSign, sign);
    h.store32(State.fpExp, e);
    h.store64(State.fpRest, i64(0));
    f.return(sig);
  };
  f.if(
    hi
      .get()
      .eqz()
      .or(exp.geS(BIAS + 63)),
    () => result(exp, hi.get()),
  );
  shiftRightSticky(f, hi, lo, i32(BIAS + 63).sub(exp));
  const up = roundsUp(f, mode, sign, lo.get(), hi.get().wrap().and(1));
  f.if(lo.get().ne(0), () => raiseFlags(h, i32(Fpx.pe).or(up.shl(9))));
  const value = f.let(hi.get().add(up.extU()));
  const shift = f.let(value.clz());
  result(i32(BIAS + 63).sub(shift.wrap()), value.shl(shift));
});
