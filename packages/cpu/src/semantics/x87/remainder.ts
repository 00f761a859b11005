import { type Fn, type I32, type I64, i32, i64, type Var } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { Fpx, SPECIAL } from "../float/number.ts";
import { defineHelper } from "../helpers.ts";
import { noteDenormals, unlessEmpty } from "./arith.ts";
import { beginX87 } from "./control.ts";
import {
  CONDITIONS,
  clearFlags,
  DEFAULT_NAN,
  isEmpty,
  isSpecial,
  readRegister,
  returnExtended,
  returned,
  Status,
  setFlags,
  unpack80,
  writeRegister,
} from "./stack.ts";

/**
 * FPREM and FPREM1: remainders, exact. A step subtracts at most 63 quotient bits; if exponents are farther apart the
 * remainder is partial, which C2 tells. Otherwise C0, C3 and C1 are the quotient's three low bits.
 */

const FULL_PRECISION = 3 << 16;
/** How many bits a step that is not the last takes off the exponent: such that the next difference is a multiple of 32. */
const PARTIAL_BASE = 32;

// (1 to round the quotient to nearest, first, second) → remainder; the condition codes are left in `State.result`
defineHelper("x87Remainder", ["i32", "i32", "i64", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const nearest = h.param<"i32">(0);
  const a = { se: h.param<"i32">(1), sig: h.param<"i64">(2) };
  const b = { se: h.param<"i32">(3), sig: h.param<"i64">(4) };
  f.if(isSpecial(f, a).or(isSpecial(f, b)), () => f.return(h.call<"i64">("x87Nan", a.se, a.sig, b.se, b.sig)));
  noteDenormals(h, a, b);
  const [x, y] = [unpack80(f, a), unpack80(f, b)];
  f.if(x.exp.eq(SPECIAL).or(y.sig.eqz()), () => {
    setFlags(h, Fpx.ie);
    returnExtended(h, DEFAULT_NAN);
  });
  h.store32(State.result, i32(0));
  const control = f.let(h.call<"i32">("x87Control").or(FULL_PRECISION));
  f.if(y.exp.eq(SPECIAL).or(x.sig.eqz()), () =>
    f.return(h.call<"i64">("fpRound80", control, x.sign, x.exp, x.sig, i64(0))),
  );
  const distance = f.let(x.exp.sub(y.exp));
  const rest = f.var("i64", x.sig);
  const quotient = f.var("i64", i64(0));
  const exp = f.var("i32", x.exp);
  const sign = f.var("i32", x.sign);
  const partial = f.let(distance.geS(64));
  f.if(distance.geS(0), () => {
    const taken = f.let(f.select(partial, distance.and(31).or(PARTIAL_BASE), distance));
    divideBits(f, rest, quotient, y.sig, taken);
    exp.set(exp.get().sub(taken));
  });
  f.if(
    partial,
    () => h.store32(State.result, i32(Status.c2)),
    () => {
      f.if(nearest.and(distance.geS(-1)), () => roundQuotient(f, rest, quotient, sign, y.sig, distance));
      h.store32(State.result, quotientBits(f.let(quotient.get().wrap())));
    },
  );
  const shift = f.let(rest.get().clz());
  const parts = [sign.get(), exp.get().sub(shift.wrap()), rest.get().shl(shift), i64(0)];
  f.return(h.call<"i64">("fpRound80", control, ...parts));
});

/** Makes the quotient the nearest one, the even one of two. For a distance of −1 the remainder counts half units. */
function roundQuotient(
  f: Fn,
  rest: Var<"i64">,
  quotient: Var<"i64">,
  sign: Var<"i32">,
  divisor: I64,
  distance: I32,
): void {
  const halves = f.let(distance.ltS(0));
  const opposite = f.let(divisor.shl(halves.extU()).sub(rest.get()));
  const odd = quotient.get().wrap().and(1);
  const above = rest.get().gtU(opposite).or(rest.get().eq(opposite).and(odd));
  f.if(f.select(halves, rest.get().gtU(divisor), above), () => {
    rest.set(opposite);
    quotient.set(quotient.get().add(1));
    sign.set(sign.get().xor(1));
  });
}

// (1 for FPREM1)
defineHelper("x87PartialRemainder", ["i32"], undefined, (h) => {
  clearFlags(h);
  // C0 and C3 stay if nothing was divided.
  h.store32(State.result, h.load32(State.fpuStatus).and(Status.c0 | Status.c3));
  const kept = h.load32(State.result);
  const result = unlessEmpty(h, isEmpty(h, 0).or(isEmpty(h, 1)), () => {
    const [a, b] = [readRegister(h, 0), readRegister(h, 1)];
    return returned(h, h.call("x87Remainder", h.param(0), a.se, a.sig, b.se, b.sig));
  });
  const settled = h.call<"i32">("x87Settle");
  h.f.if(settled, () => writeRegister(h, 0, result));
  const status = h.load32(State.fpuStatus).and(~CONDITIONS);
  h.store32(State.fpuStatus, status.or(h.f.select(settled, h.load32(State.result), kept)));
});
for (const [name, encoding, nearest] of [
  ["FPREM", "d9 /7.0", 0],
  ["FPREM1", "d9 /6.5", 1],
] as const) {
  define(name, encoding, (o, i) => {
    beginX87(o, i);
    o.callVoid("x87PartialRemainder", i32(nearest));
  });
}

/** C0, C3 and C1 are bits 2, 1 and 0 of the quotient. */
function quotientBits(q: I32): I32 {
  const bit = (from: number, to: number) => q.shrU(from).and(1).shl(to);
  return bit(2, 8).or(bit(1, 14)).or(bit(0, 9));
}
/** Divides rest · 2^count by a divisor with bit 63 set, bit by bit: the quotient's `count` + 1 bits, and what is left. */
function divideBits(f: Fn, rest: Var<"i64">, quotient: Var<"i64">, divisor: I64, count: I32): void {
  const n = f.var("i32", count);
  const carry = f.var("i32", i32(0));
  f.loop((again) => {
    const fits = f.let(carry.get().or(rest.get().geU(divisor)));
    f.if(fits, () => rest.set(rest.get().sub(divisor)));
    quotient.set(quotient.get().shl(1).or(fits.extU()));
    f.if(n.get(), () => {
      carry.set(rest.get().shrU(63).wrap());
      rest.set(rest.get().shl(1));
      n.set(n.get().sub(1));
      f.br(again);
    });
  });
}
