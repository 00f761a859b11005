import { type I64, i32, i64, i64Halves } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { compareFloats, DOUBLE, type Format, Fpx, SINGLE, unpack } from "../float/number.ts";
import { raiseFlags, roundingMode } from "../float/round.ts";
import { defineHelper } from "../helpers.ts";
import { isNan, isSignaling, quieted, roundParts, takeDenormals } from "./lanes.ts";

/** Conversions of single lanes in full. Exceptions are gathered in `State.fpFlags` for "sseFinish". */

/** Rounding of a conversion: as MXCSR says. */
export const BY_CONTROL = 4;

for (const fmt of [SINGLE, DOUBLE]) {
  // (rounding 0–3 or BY_CONTROL, bits of the integer, number) → integer
  defineHelper(`sseToInteger${fmt.bits}`, ["i32", "i32", "i64"], "i64", (h) => {
    const { f } = h;
    const value = f.var("i64", h.param<"i64">(2));
    f.if(isNan(value.get(), fmt), () => {
      raiseFlags(h, Fpx.ie);
      f.return(i64(-1).shl(h.param<"i32">(1).sub(1).extU()));
    });
    const control = h.load32(State.mxcsr);
    takeDenormals(h, control, fmt, [value], i32(0));
    const x = unpack(f, value.get(), fmt);
    const asked = h.param<"i32">(0);
    const mode = f.let(f.select(asked.eq(BY_CONTROL), roundingMode(f, control), asked));
    f.return(h.call<"i64">("fpToInteger", mode, h.param(1), x.sign, x.exp, x.sig));
  });

  // (integer) → number
  defineHelper(`sseFromInteger${fmt.bits}`, ["i64"], "i64", (h) => {
    const sig = h.call<"i64">("fpFromInteger", h.param(0));
    h.f.return(roundParts(h, fmt, h.load32(State.mxcsr), sig));
  });

  // (immediate of ROUNDSD, number) → integral number
  defineHelper(`sseRound${fmt.bits}`, ["i32", "i64"], "i64", (h) => {
    const { f } = h;
    const imm = h.param<"i32">(0);
    const value = f.var("i64", h.param<"i64">(1));
    f.if(isNan(value.get(), fmt), () => {
      raiseFlags(h, isSignaling(f, value.get(), fmt));
      f.return(quieted(value.get(), fmt));
    });
    const control = h.load32(State.mxcsr);
    takeDenormals(h, control, fmt, [value], i32(0));
    const mode = f.let(f.select(imm.and(4), roundingMode(f, control), imm.and(3)));
    const before = h.load32(State.fpFlags);
    const x = unpack(f, value.get(), fmt);
    const sig = h.call<"i64">("fpToIntegral", mode, x.sign, x.exp, x.sig);
    f.if(imm.and(8), () => h.store32(State.fpFlags, before));
    f.return(roundParts(h, fmt, control, sig));
  });

  // (1 if quiet NaN are invalid, first, second) → 0 greater, 1 less, 2 equal, 3 unordered
  defineHelper(`sseOrder${fmt.bits}`, ["i32", "i64", "i64"], "i32", (h) => {
    const { f } = h;
    const a = f.var("i64", h.param<"i64">(1));
    const b = f.var("i64", h.param<"i64">(2));
    f.if(isNan(a.get(), fmt).or(isNan(b.get(), fmt)), () => {
      const signaling = isSignaling(f, a.get(), fmt).or(isSignaling(f, b.get(), fmt));
      raiseFlags(h, signaling.or(h.param<"i32">(0)));
      f.return(i32(3));
    });
    takeDenormals(h, h.load32(State.mxcsr), fmt, [a, b]);
    const [x, y] = [a.get(), b.get()];
    f.return(compareFloats(f, "lt", x, y, fmt).or(compareFloats(f, "eq", x, y, fmt).shl(1)));
  });
}

const defineBetween = (name: string, from: Format, to: Format): void =>
  defineHelper(name, ["i64"], "i64", (h) => {
    const { f } = h;
    const value = f.var("i64", h.param<"i64">(0));
    const shift = DOUBLE.fraction - SINGLE.fraction;
    f.if(isNan(value.get(), from), () => {
      raiseFlags(h, isSignaling(f, value.get(), from));
      const quiet = f.let(quieted(value.get(), from));
      f.return(to === DOUBLE ? widenNan(quiet, shift) : narrowNan(quiet, shift));
    });
    const control = h.load32(State.mxcsr);
    takeDenormals(h, control, from, [value]);
    const x = unpack(f, value.get(), from);
    f.return(h.call<"i64">(`fpRound${to.bits}`, control, x.sign, x.exp, x.sig, i64(0)));
  });
const widenNan = (bits: I64, shift: number): I64 =>
  bits.shl(shift).and(i64Halves(-1, 0x000fffff)).or(i64Halves(0, 0x7ff00000)).or(bits.shrU(31).shl(63));
const narrowNan = (bits: I64, shift: number): I64 =>
  bits.shrU(shift).and(0x7fffff).or(0x7f800000).or(bits.shrU(63).shl(31));
// (number) → the same number in the other format
defineBetween("sseWiden", SINGLE, DOUBLE);
defineBetween("sseNarrow", DOUBLE, SINGLE);
