import { i32, i64 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { BIAS, Fpx, QUIET_NAN, SPECIAL, TOP_BIT } from "../float/number.ts";
import { raiseFlags, roundingMode } from "../float/round.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import { finish, noteDenormals, round80, unlessEmpty } from "./arith.ts";
import { beginX87 } from "./control.ts";
import {
  clearFlags,
  DEFAULT_NAN,
  type Extended,
  isEmpty,
  isSpecial,
  readRegister,
  returnExtended,
  returned,
  STACK_FAULT,
  setFlags,
  unpack80,
  writeRegister,
} from "./stack.ts";

/** Integral parts, exponents and partial remainders. */

/** ST(0) = compute(ST(0)), where `compute` is a helper (sign and exponent, significand) → result. */
function unary(name: string, encoding: string, helper: string): void {
  defineHelper(`x87${name}`, [], undefined, (h) => {
    clearFlags(h);
    const result = unlessEmpty(h, isEmpty(h, 0), () => {
      const a = readRegister(h, 0);
      return returned(h, h.call(helper, a.se, a.sig));
    });
    finish(h, 0, result);
  });
  define(name, encoding, (o, i) => {
    beginX87(o, i);
    o.callVoid(`x87${name}`);
  });
}
/** Returns the NaN if the number is one, or unsupported. */
function takeNan(h: HelperBody, a: Extended): void {
  h.f.if(isSpecial(h.f, a), () => h.f.return(h.call<"i64">("x87Nan", a.se, a.sig, a.se, a.sig)));
}

defineHelper("x87Integral", ["i32", "i64"], "i64", (h) => {
  const { f } = h;
  const a = { se: h.param<"i32">(0), sig: h.param<"i64">(1) };
  takeNan(h, a);
  noteDenormals(h, a);
  const x = unpack80(f, a);
  const control = h.call<"i32">("x87Control");
  const sig = h.call<"i64">("fpToIntegral", roundingMode(f, control), x.sign, x.exp, x.sig);
  // All 64 bits count, whatever the precision control.
  returnExtended(h, round80(h, f.let(control.or(FULL_PRECISION)), sig));
});
const FULL_PRECISION = 3 << 16;
unary("FRNDINT", "d9 /7.4", "x87Integral");

// (first, second) → first · 2^(second, cut to an integer)
defineHelper("x87ScaleBy", ["i32", "i64", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const a = { se: h.param<"i32">(0), sig: h.param<"i64">(1) };
  const b = { se: h.param<"i32">(2), sig: h.param<"i64">(3) };
  f.if(isSpecial(f, a).or(isSpecial(f, b)), () => f.return(h.call<"i64">("x87Nan", a.se, a.sig, b.se, b.sig)));
  noteDenormals(h, a, b);
  const [x, y] = [unpack80(f, a), unpack80(f, b)];
  f.if(y.exp.eq(SPECIAL), () => {
    // 0 · 2^∞ and ∞ · 2^−∞ are invalid.
    f.if(f.select(y.sign, x.exp.eq(SPECIAL), x.sig.eqz()), () => {
      setFlags(h, Fpx.ie);
      returnExtended(h, DEFAULT_NAN);
    });
    const sign = f.let(x.sign.shl(15));
    f.if(y.sign, () => returnExtended(h, { se: sign, sig: i64(0) }));
    returnExtended(h, { se: sign.or(0x7fff), sig: TOP_BIT });
  });
  f.if(x.exp.eq(SPECIAL).or(x.sig.eqz()), () => returnExtended(h, a));
  // Beyond 2^16 every number overflows or underflows.
  const shift = f.let(i32(BIAS + 63).sub(y.exp));
  const whole = f.let(y.sig.shrU(shift.extU()).wrap());
  const bounded = f.select(y.exp.gtS(BIAS + 16), i32(0x20000), f.select(y.exp.ltS(BIAS), i32(0), whole));
  const by = f.let(f.select(y.sig.eqz(), i32(0), bounded));
  const control = h.call<"i32">("x87Control");
  const exp = x.exp.add(f.select(y.sign, i32(0).sub(by), by));
  const sig = h.call<"i64">("fpRound80", control.or(FULL_PRECISION), x.sign, exp, x.sig, i64(0));
  f.return(sig);
});
defineHelper("x87Scale", [], undefined, (h) => {
  clearFlags(h);
  const result = unlessEmpty(h, isEmpty(h, 0).or(isEmpty(h, 1)), () => {
    const [a, b] = [readRegister(h, 0), readRegister(h, 1)];
    return returned(h, h.call("x87ScaleBy", a.se, a.sig, b.se, b.sig));
  });
  finish(h, 0, result);
});
const simple = (name: string, encoding: string, helper: string): void =>
  define(name, encoding, (o, i) => {
    beginX87(o, i);
    o.callVoid(helper);
  });
simple("FSCALE", "d9 /7.5", "x87Scale");

/** Splits ST(0): its exponent as a number takes its place, its significand is pushed. */
defineHelper("x87Extract", [], undefined, (h) => {
  const { f } = h;
  clearFlags(h);
  const exponent = { se: f.var("i32", i32(0xffff)), sig: f.var("i64", QUIET_NAN) };
  const fraction = { se: f.var("i32", i32(0xffff)), sig: f.var("i64", QUIET_NAN) };
  const set = (part: typeof exponent, x: Extended) => {
    part.se.set(x.se);
    part.sig.set(x.sig);
  };
  const split = () => {
    const a = readRegister(h, 0);
    f.if(
      isSpecial(f, a),
      () => {
        const nan = returned(h, h.call("x87Nan", a.se, a.sig, a.se, a.sig));
        set(exponent, nan);
        set(fraction, nan);
      },
      () => {
        noteDenormals(h, a);
        const x = unpack80(f, a);
        set(fraction, a);
        f.if(
          x.sig.eqz(),
          () => {
            raiseFlags(h, Fpx.ze);
            set(exponent, { se: i32(0xffff), sig: TOP_BIT });
          },
          () =>
            f.if(
              x.exp.eq(SPECIAL),
              () => set(exponent, { se: i32(0x7fff), sig: TOP_BIT }),
              () => {
                const sig = h.call<"i64">("x87FromInteger", x.exp.sub(BIAS).extS());
                set(exponent, returned(h, sig));
                set(fraction, { se: a.se.and(0x8000).or(BIAS), sig: x.sig });
              },
            ),
        );
      },
    );
  };
  f.if(
    isEmpty(h, 0),
    () => setFlags(h, STACK_FAULT),
    () => f.if(isEmpty(h, 7), split, () => setFlags(h, STACK_FAULT | Fpx.c1)),
  );
  f.if(h.call<"i32">("x87Settle"), () => {
    writeRegister(h, 0, { se: exponent.se.get(), sig: exponent.sig.get() });
    h.store32(State.fpuTop, h.load32(State.fpuTop).sub(1).and(7));
    writeRegister(h, 0, { se: fraction.se.get(), sig: fraction.sig.get() });
  });
});
simple("FXTRACT", "d9 /6.4", "x87Extract");
