import { type Fn, type I32, type I64, i32 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { FPX_ALL, FPX_BEFORE, Fpx, QUIET_NAN, SPECIAL, type Unpacked } from "../float/number.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";

/**
 * The x87 register stack, and how instructions end.
 *
 * A helper gathers exceptions in `State.fpFlags`, computes what a masked response would be, and lets "x87Settle" enter the
 * exceptions into the status word and say whether the result may be written.
 */

/** Bits of the status word. */
export const Status = { es: 0x80, busy: 0x8000, c0: 0x100, c1: 0x200, c2: 0x400, c3: 0x4000 } as const;
export const CONDITIONS = Status.c0 | Status.c1 | Status.c2 | Status.c3;
/** Sign and exponent of the default NaN. */
export const NAN_EXP = 0xffff;
export const STACK_FAULT = Fpx.ie | Fpx.sf;

/** An 80-bit number as it lies in a register. */
export interface Extended {
  /** Sign (bit 15) and exponent. */
  readonly se: I32;
  readonly sig: I64;
}
export const DEFAULT_NAN: Extended = { se: i32(NAN_EXP), sig: QUIET_NAN };

/** Number of the physical register ST(i). */
const physical = (h: HelperBody, i: I32 | number): I32 => {
  const top = h.f.load<"i32">("i32.load", h.vb, State.fpuTop);
  return h.f.let(typeof i === "number" && i === 0 ? top : top.add(typeof i === "number" ? i32(i) : i).and(7));
};
/** Address of ST(i), without the offset `State.fpr`. */
export const registerAt = (h: HelperBody, i: I32 | number): I32 => h.f.let(physical(h, i).shl(4).add(h.vb));
export const isEmpty = (h: HelperBody, i: I32 | number): I32 => {
  const n = physical(h, i);
  return h.f.let(h.f.load<"i32">("i32.load", h.vb, State.fpuEmpty).shrU(n).and(1));
};

export function readRegister(h: HelperBody, i: I32 | number): Extended {
  const { f } = h;
  const at = registerAt(h, i);
  return {
    se: f.let(f.load<"i32">("i32.load16_u", at, State.fpr + 8)),
    sig: f.let(f.load<"i64">("i64.load", at, State.fpr)),
  };
}
/** Replaces ST(i), which is no longer empty. */
export function writeRegister(h: HelperBody, i: I32 | number, x: Extended): void {
  const { f } = h;
  const n = physical(h, i);
  h.store32(State.fpuEmpty, h.load32(State.fpuEmpty).and(i32(-2).rotl(n)));
  const at = f.let(n.shl(4).add(h.vb));
  f.store("i64.store", at, x.sig, State.fpr);
  f.store("i32.store16", at, x.se, State.fpr + 8);
}
export function popRegister(h: HelperBody): void {
  const top = h.load32(State.fpuTop);
  h.store32(State.fpuEmpty, h.load32(State.fpuEmpty).or(i32(1).shl(top)));
  h.store32(State.fpuTop, top.add(1).and(7));
}

/** What a helper of the core returned: the significand, with sign and exponent in the state. */
export const returned = (h: HelperBody, sig: I64): Extended => ({ se: h.load32(State.fpSignExp), sig });
export function returnExtended(h: HelperBody, x: Extended): void {
  h.store32(State.fpSignExp, x.se);
  h.f.return(x.sig);
}

// Kinds of numbers

export const exponentOf = (x: Extended): I32 => x.se.and(0x7fff);
/** Encodings that the 80-bit format has no use for: the integer bit is clear although the exponent is not 0. */
export const isUnsupported = (f: Fn, x: Extended): I32 => f.let(exponentOf(x).ne(0).and(x.sig.geS(0)));
export const isNan80 = (f: Fn, x: Extended): I32 =>
  f.let(exponentOf(x).eq(0x7fff).and(x.sig.shl(1).ne(0)).and(x.sig.ltS(0)));
export const isSignaling80 = (f: Fn, x: Extended): I32 =>
  f.let(exponentOf(x).eq(0x7fff).and(x.sig.shl(2).ne(0)).and(x.sig.shrU(62).eq(2)));
export const isDenormal80 = (f: Fn, x: Extended): I32 => f.let(exponentOf(x).eqz().and(x.sig.ne(0)));
export const quieted80 = (x: Extended): Extended => ({ se: x.se, sig: x.sig.or(QUIET_NAN) });

/** Takes apart a number that is neither NaN nor unsupported. */
export function unpack80(f: Fn, x: Extended): Unpacked {
  const exp = f.var("i32", exponentOf(x));
  const sig = f.var("i64", x.sig);
  f.if(
    exp.get().eqz(),
    () => {
      const n = f.let(sig.get().clz());
      sig.set(sig.get().shl(n));
      exp.set(i32(1).sub(n.wrap()));
    },
    () => f.if(exp.get().eq(0x7fff), () => exp.set(i32(SPECIAL))),
  );
  return { sign: f.let(x.se.shrU(15)), exp: exp.get(), sig: sig.get() };
}

// Control and exceptions

/** The control word in MXCSR's layout, with precision control in bits 16–17. */
defineHelper("x87Control", [], "i32", (h) => {
  const word = h.load32(State.fpuControl);
  h.f.return(word.and(0x3f).shl(7).or(word.and(0xc00).shl(3)).or(word.and(0x300).shl(8)));
});
export const clearFlags = (h: HelperBody): void => h.store32(State.fpFlags, i32(0));
export const setFlags = (h: HelperBody, flags: number): void => h.store32(State.fpFlags, i32(flags));
export const dropFlags = (h: HelperBody, flags: number): void =>
  h.store32(State.fpFlags, h.load32(State.fpFlags).and(~flags));

/**
 * () → 1 if the result may be written and the stack popped. Enters the exceptions met into the status word; C1 is as the last
 * rounding or stack fault left it.
 */
defineHelper("x87Settle", [], "i32", (h) => {
  const { f } = h;
  const flags = f.var("i32", h.load32(State.fpFlags));
  const enabled = f.let(h.load32(State.fpuControl).xor(-1).and(FPX_ALL));
  const prevented = f.let(flags.get().and(enabled).and(FPX_BEFORE));
  // Nothing was computed then, so nothing was rounded.
  f.if(prevented, () => {
    const c1 = f.select(flags.get().and(Fpx.sf), i32(Fpx.c1), i32(0));
    flags.set(flags.get().and(c1.or(FPX_BEFORE | Fpx.sf | KEEP_C1)));
  });
  h.callVoid("x87Enter", flags.get());
  f.return(prevented.eqz());
});
/** (flags): enters exceptions and C1 into the status word. */
defineHelper("x87Enter", ["i32"], undefined, (h) => {
  const { f } = h;
  const flags = h.param<"i32">(0);
  const enabled = h.load32(State.fpuControl).xor(-1).and(FPX_ALL);
  const old = h.load32(State.fpuStatus).and(flags.shrU(1).or(~Status.c1));
  const status = old.or(flags.and(FPX_ALL | Fpx.sf | Fpx.c1));
  const summary = f.select(flags.and(enabled), i32(Status.es | Status.busy), i32(0));
  h.store32(State.fpuStatus, status.or(summary));
});

/** A flag among the exceptions: C1 stays as it was. */
const KEEP_C1 = 0x400;
/** Leaves C1 as it was, unless the instruction ends in a stack fault. */
export function keepC1(h: HelperBody): void {
  const { f } = h;
  const flags = h.load32(State.fpFlags);
  h.store32(State.fpFlags, flags.or(f.select(flags.and(Fpx.sf), i32(0), i32(KEEP_C1))));
}

/** (sign and exponent, significand): pushes a number; exceptions of its making are in the state. */
defineHelper("x87Push", ["i32", "i64"], undefined, (h) => {
  const { f } = h;
  const se = f.var("i32", h.param<"i32">(0));
  const sig = f.var("i64", h.param<"i64">(1));
  f.if(isEmpty(h, 7).eqz(), () => {
    // That the number itself comes from an empty register is reported first.
    const under = h.load32(State.fpFlags).and(Fpx.sf);
    h.store32(State.fpFlags, f.select(under, i32(STACK_FAULT), i32(STACK_FAULT | Fpx.c1)));
    se.set(i32(NAN_EXP));
    sig.set(QUIET_NAN);
  });
  // A denormal is loaded even if that is an exception to be handled.
  const valid = h.load32(State.fpFlags).and(Fpx.ie).eqz();
  f.if(h.call<"i32">("x87Settle").or(valid), () => {
    h.store32(State.fpuTop, h.load32(State.fpuTop).sub(1).and(7));
    writeRegister(h, 0, { se: se.get(), sig: sig.get() });
  });
});

/** (first, second) → the NaN that an operation with a NaN or an unsupported operand gives. DE goes before neither. */
defineHelper("x87Nan", ["i32", "i64", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const a = { se: h.param<"i32">(0), sig: h.param<"i64">(1) };
  const b = { se: h.param<"i32">(2), sig: h.param<"i64">(3) };
  const invalid = isSignaling80(f, a).or(isSignaling80(f, b));
  const flags = f.let(h.load32(State.fpFlags).and(~Fpx.de));
  f.if(isUnsupported(f, a).or(isUnsupported(f, b)), () => {
    h.store32(State.fpFlags, flags.or(Fpx.ie));
    returnExtended(h, DEFAULT_NAN);
  });
  h.store32(State.fpFlags, flags.or(invalid));
  // The larger significand, then the positive one.
  const tie = a.sig.eq(b.sig).and(a.se.ltU(b.se));
  const both = f.let(a.sig.gtU(b.sig).or(tie));
  const first = f.let(isNan80(f, a).and(isNan80(f, b).eqz().or(both)));
  returnExtended(h, {
    se: f.select(first, a.se, b.se),
    sig: f.select(first, a.sig, b.sig).or(QUIET_NAN),
  });
});
export const isSpecial = (f: Fn, x: Extended): I32 => isUnsupported(f, x).or(isNan80(f, x));
