import { type Fn, type I32, type I64, i32, i64, i64Halves, type Var } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import {
  Control,
  DOUBLE,
  type Format,
  Fpx,
  Rounding,
  roundsUp,
  SINGLE,
  SPECIAL,
  shiftRightSticky,
  TOP_BIT,
} from "./number.ts";

/** Rounding and packing: the last step of every operation, and where OE, UE and PE come from. */

export function raiseFlags(h: HelperBody, flags: number | I32): void {
  const set = typeof flags === "number" ? i32(flags) : flags;
  h.store32(State.fpFlags, h.load32(State.fpFlags).or(set));
}
export const roundingMode = (f: Fn, control: I32): I32 => f.let(control.shrU(Control.roundShift).and(3));
/** 1 if the exceptions of the mask are all masked. */
export const isMasked = (control: I32, exception: number): I32 => control.and(exception << Control.maskShift).ne(0);

interface Rounded {
  readonly sig: I64;
  /** 1 if rounding went into the next exponent. */
  readonly carry: I32;
  readonly inexact: I32;
  readonly up: I32;
}
/** Rounds hi:lo to all but `drop` bits of `hi`. */
function roundAt(f: Fn, hi: I64, lo: I64, drop: I64, mode: I32, sign: I32): Rounded {
  const sticky = lo.ne(0).extU();
  const half = f.let(
    drop.isConst
      ? hi.shl(i64(64).sub(drop)).or(sticky)
      : f.select(drop.wrap(), hi.shl(i64(64).sub(drop)).or(sticky), lo),
  );
  const up = roundsUp(f, mode, sign, half, hi.shrU(drop).wrap().and(1));
  const step = f.let(i64(1).shl(drop));
  const kept = f.let(hi.and(i64(0).sub(step)));
  const next = f.let(kept.add(f.select(up, step, i64(0))));
  const carry = f.let(next.ltU(kept));
  return { sig: f.let(f.select(carry, TOP_BIT, next)), carry, inexact: f.let(half.ne(0)), up };
}

/** What differs between the formats. */
interface Packing {
  readonly min: number;
  readonly max: number;
  readonly drop: (h: HelperBody, control: I32) => I64;
  /** Returns the number with a biased exponent in the 80-bit format's range; `exp` 0 with bit 63 clear is denormal. */
  readonly pack: (h: HelperBody, sign: I32, exp: I32, sig: I64) => void;
  readonly special: (h: HelperBody, sign: I32, sig: I64) => void;
  /** Exponent of the largest finite number, packed. */
  readonly largest: (h: HelperBody, sign: I32, drop: I64) => void;
  /** Trapped overflow and underflow deliver a number whose exponent differs by this: x87 registers; 0 where they deliver none. */
  readonly wrap: number;
}

function defineRounding(name: string, p: Packing): void {
  defineHelper(name, ["i32", "i32", "i32", "i64", "i64"], "i64", (h) => {
    const { f } = h;
    const [control, sign, exp] = [h.param<"i32">(0), h.param<"i32">(1), h.param<"i32">(2)];
    const [sig, rest] = [h.param<"i64">(3), h.param<"i64">(4)];
    f.if(sig.eqz(), () => p.pack(h, sign, i32(0), i64(0)));
    f.if(exp.eq(SPECIAL), () => p.special(h, sign, sig));
    const mode = roundingMode(f, control);
    const drop = p.drop(h, control);
    const full = roundAt(f, sig, rest, drop, mode, sign);
    const e = f.var("i32", exp.add(full.carry));
    f.if(e.get().ltS(p.min), () => underflow(h, p, { control, sign, exp, sig, rest, mode, drop, full }, e));
    f.if(full.inexact, () => raiseFlags(h, i32(Fpx.pe).or(full.up.shl(9))));
    f.if(e.get().gtS(p.max), () => overflow(h, p, control, sign, mode, drop, e));
    p.pack(h, sign, e.get(), full.sig);
  });
}

interface Unrounded {
  readonly control: I32;
  readonly sign: I32;
  readonly exp: I32;
  readonly sig: I64;
  readonly rest: I64;
  readonly mode: I32;
  readonly drop: I64;
  readonly full: Rounded;
}

/** The number is tiny after rounding. Masked: a denormal, or zero; otherwise goes on with the exponent wrapped. */
function underflow(h: HelperBody, p: Packing, n: Unrounded, e: Var<"i32">): void {
  const { f } = h;
  f.if(
    isMasked(n.control, Fpx.ue),
    () => {
      f.if(n.control.and(Control.ftz), () => {
        raiseFlags(h, Fpx.ue | Fpx.pe);
        p.pack(h, n.sign, i32(0), i64(0));
      });
      const hi = f.var("i64", n.sig);
      const lo = f.var("i64", n.rest);
      shiftRightSticky(f, hi, lo, i32(p.min).sub(n.exp));
      const rounded = roundAt(f, hi.get(), lo.get(), n.drop, n.mode, n.sign);
      f.if(rounded.inexact, () => raiseFlags(h, i32(Fpx.ue | Fpx.pe).or(rounded.up.shl(9))));
      p.pack(h, n.sign, i32(0), rounded.sig);
    },
    () => {
      raiseFlags(h, Fpx.ue);
      if (p.wrap === 0) return;
      e.set(e.get().add(p.wrap));
      // Scaling can leave even the wrapped range.
      f.if(e.get().ltS(p.min), () => {
        raiseFlags(h, Fpx.pe);
        p.pack(h, n.sign, i32(0), i64(0));
      });
    },
  );
}

function overflow(h: HelperBody, p: Packing, control: I32, sign: I32, mode: I32, drop: I64, e: Var<"i32">): void {
  const { f } = h;
  raiseFlags(h, Fpx.oe);
  f.if(
    isMasked(control, Fpx.oe),
    () => {
      // Infinity, unless the mode rounds towards the finite side.
      const away = f.select(sign, i32(Rounding.down), i32(Rounding.up));
      const infinite = f.let(mode.eqz().or(mode.eq(away)));
      const flags = f.let(h.load32(State.fpFlags).and(~Fpx.c1));
      h.store32(State.fpFlags, flags.or(Fpx.pe).or(infinite.shl(9)));
      f.if(infinite, () => p.special(h, sign, TOP_BIT));
      p.largest(h, sign, drop);
    },
    () => {
      if (p.wrap === 0) return;
      e.set(e.get().sub(p.wrap));
      f.if(e.get().gtS(p.max), () => {
        raiseFlags(h, Fpx.pe | Fpx.c1);
        p.special(h, sign, TOP_BIT);
      });
    },
  );
}

function interchange(fmt: Format): Packing {
  const returnBits = (h: HelperBody, sign: I32, magnitudeBits: I64) =>
    h.f.return(magnitudeBits.or(sign.extU().shl(fmt.bits - 1)));
  const infinity = fmt.bits === 64 ? i64Halves(0, 0x7ff00000) : i64(0x7f800000);
  return {
    min: fmt.min,
    max: fmt.max,
    drop: () => i64(fmt.drop),
    // Without the bias's lowest unit, since bit 63 of the significand adds it.
    pack: (h, sign, exp, sig) => {
      const biased = h.f.select(exp, exp.sub(fmt.min), i32(0));
      returnBits(h, sign, biased.extU().shl(fmt.fraction).add(sig.shrU(fmt.drop)));
    },
    special: (h, sign, sig) =>
      returnBits(
        h,
        sign,
        sig
          .shl(1)
          .shrU(64 - fmt.fraction)
          .or(infinity),
      ),
    largest: (h, sign) => returnBits(h, sign, infinity.sub(1)),
    wrap: 0,
  };
}
defineRounding("fpRound32", interchange(SINGLE));
defineRounding("fpRound64", interchange(DOUBLE));

/** Precision of x87 results, in bits 16–17 of the control word as in bits 8–9 of the x87 one: 24, (64), 53 or 64 bits. */
export const PRECISION_SHIFT = 16;

/** An 80-bit result: the significand is returned, sign and exponent are left in the state. */
function return80(h: HelperBody, sign: I32, exp: I32, sig: I64): void {
  h.store32(State.fpSignExp, exp.or(sign.shl(15)));
  h.f.return(sig);
}
defineRounding("fpRound80", {
  min: 1,
  max: 0x7ffe,
  drop: (h, control) => {
    const { f } = h;
    const precision = f.let(control.shrU(PRECISION_SHIFT).and(3));
    // The reserved value 1 counts as full precision.
    const shorter = f.select(precision.eq(2), i64(DOUBLE.drop), i64(0));
    return f.let(f.select(precision.eqz(), i64(SINGLE.drop), shorter));
  },
  pack: (h, sign, exp, sig) => {
    // A denormal that rounding made normal has its exponent.
    const made = sig.shrU(63).wrap().and(exp.eqz());
    return80(h, sign, exp.or(made), sig);
  },
  special: (h, sign, sig) => return80(h, sign, i32(0x7fff), sig),
  largest: (h, sign, drop) => return80(h, sign, i32(0x7ffe), i64(-1).shl(drop)),
  wrap: 0x6000,
});
