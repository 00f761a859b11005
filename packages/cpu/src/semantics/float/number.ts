import { type Fn, type I32, type I64, i32, i64, i64Halves, type Val, type Var } from "@xenoserver/wasm";

/**
 * Numbers of the soft-float core.
 *
 * A number other than NaN is taken apart into sign (0 or 1), exponent (biased as in the 80-bit format, but unbounded) and a
 * significand whose bit 63 is set. Zero has significand 0 and any exponent; an infinity has exponent `SPECIAL` and
 * significand 2^63. A result that is not rounded yet carries 64 bits more below the significand, the lowest of them sticky.
 *
 * Control words are in the layout of MXCSR everywhere: exceptions 0–5, DAZ 6, masks 7–12, rounding 13–14, FTZ 15.
 */
export const SPECIAL = 0x100000;

/** Exceptions, as in MXCSR and in the x87 status word. */
export const Fpx = { ie: 1, de: 2, ze: 4, oe: 8, ue: 16, pe: 32, sf: 0x40, c1: 0x200 } as const;
export const FPX_ALL = 0x3f;
/** Exceptions that are found before computing: if one of them traps, no other is reported. */
export const FPX_BEFORE = Fpx.ie | Fpx.de | Fpx.ze;
export const Control = { daz: 0x40, maskShift: 7, roundShift: 13, ftz: 0x8000 } as const;
export const Rounding = { nearest: 0, down: 1, up: 2, zero: 3 } as const;

export const TOP_BIT = i64Halves(0, -0x80000000);
/** Significand of the default NaN, whose sign is set. */
export const QUIET_NAN = i64Halves(0, -0x40000000);
export const BIAS = 0x3fff;

/** A binary interchange format; exponents are biased as in the 80-bit format. */
export interface Format {
  readonly bits: 32 | 64;
  /** Bits of the fraction, without the implied one. */
  readonly fraction: number;
  /** Bits of a 64-bit significand that are rounded away. */
  readonly drop: number;
  /** Exponents of the smallest and the largest normal number. */
  readonly min: number;
  readonly max: number;
}
export const SINGLE: Format = { bits: 32, fraction: 23, drop: 40, min: BIAS - 126, max: BIAS + 127 };
export const DOUBLE: Format = { bits: 64, fraction: 52, drop: 11, min: BIAS - 1022, max: BIAS + 1023 };

/** Magnitudes of a format's landmarks, shifted left so that the sign is gone from a 64-bit word. */
export function landmarks(fmt: Format): { infinity: I64; minNormal: I64 } {
  return fmt.bits === 64
    ? { infinity: i64Halves(0, 0x7ff00000 * 2), minNormal: i64Halves(0, 0x00100000 * 2) }
    : { infinity: i64Halves(0, 0x7f800000 * 2), minNormal: i64Halves(0, 0x00800000 * 2) };
}
/** The magnitude of a number of the format, at the top of a 64-bit word. */
export const magnitude = (bits: I64, fmt: Format): I64 => bits.shl(fmt.bits === 64 ? 1 : 33);
export const signOf = (bits: I64, fmt: Format): I32 =>
  bits
    .shrU(fmt.bits - 1)
    .wrap()
    .and(1);

/** The bits of a number as the host's float, and the reverse. */
export const asFloat = (f: Fn, bits: I64, fmt: Format): Val =>
  fmt.bits === 64 ? f.op<"f64">("f64.reinterpret_i64", bits) : f.op<"f32">("f32.reinterpret_i32", bits.wrap());
export const asBits = (f: Fn, value: Val, fmt: Format): I64 =>
  f.let(fmt.bits === 64 ? f.op<"i64">("i64.reinterpret_f64", value) : f.op<"i32">("i32.reinterpret_f32", value).extU());
/** One of the host's comparisons: eq, lt, le, gt … */
export const compareFloats = (f: Fn, name: string, a: I64, b: I64, fmt: Format): I32 =>
  f.let(f.op<"i32">(`f${fmt.bits}.${name}`, asFloat(f, a, fmt), asFloat(f, b, fmt)));

export interface Unpacked {
  readonly sign: I32;
  readonly exp: I32;
  readonly sig: I64;
}

/** Takes apart a number of a 32- or 64-bit format that is not NaN. */
export function unpack(f: Fn, bits: I64, fmt: Format): Unpacked {
  const mag = f.let(magnitude(bits, fmt));
  const exp = f.var("i32", mag.shrU(64 - (fmt.bits - fmt.fraction - 1)).wrap());
  const fraction = f.let(mag.shl(fmt.bits - fmt.fraction - 1));
  const sig = f.var("i64", TOP_BIT.or(fraction.shrU(1)));
  f.if(
    exp.get().eqz(),
    () => {
      const n = f.let(fraction.clz());
      sig.set(fraction.shl(n));
      exp.set(i32(fmt.min - 1).sub(n.wrap()));
    },
    () =>
      exp.set(
        f.select(exp.get().eq((1 << (fmt.bits - fmt.fraction - 1)) - 1), i32(SPECIAL), exp.get().add(fmt.min - 1)),
      ),
  );
  return { sign: f.let(signOf(bits, fmt)), exp: exp.get(), sig: sig.get() };
}

/** Shifts hi:lo right by `n` ≥ 0; ones that fall out stay as the lowest bit. */
export function shiftRightSticky(f: Fn, hi: Var<"i64">, lo: Var<"i64">, n: I32): void {
  const count = f.var("i32", n);
  const stuck = (v: I64) => v.ne(0).extU();
  f.if(count.get().geU(64), () => {
    f.if(
      count.get().geU(128),
      () => {
        lo.set(stuck(hi.get().or(lo.get())));
        count.set(i32(0));
      },
      () => {
        lo.set(hi.get().or(stuck(lo.get())));
        count.set(count.get().sub(64));
      },
    );
    hi.set(i64(0));
  });
  f.if(count.get(), () => {
    const by = f.let(count.get().extU());
    const back = f.let(i64(64).sub(by));
    const fallen = f.let(stuck(lo.get().shl(back)));
    lo.set(hi.get().shl(back).or(lo.get().shrU(by)).or(fallen));
    hi.set(hi.get().shrU(by));
  });
}

/** Shifts hi:lo left until bit 63 of `hi` is set; returns by how much. hi:lo must not be 0. */
export function normalize(f: Fn, hi: Var<"i64">, lo: Var<"i64">): I32 {
  const count = f.var("i32", i32(0));
  f.if(hi.get().eqz(), () => {
    hi.set(lo.get());
    lo.set(i64(0));
    count.set(i32(64));
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
    count.set(count.get().add(n.wrap()));
  });
  return count.get();
}

/** The 128-bit product of two 64-bit words. */
export function multiplyWide(f: Fn, a: I64, b: I64): { hi: I64; lo: I64 } {
  const low = i64Halves(-1, 0);
  const [al, ah] = [f.let(a.and(low)), f.let(a.shrU(32))];
  const [bl, bh] = [f.let(b.and(low)), f.let(b.shrU(32))];
  const ll = f.let(al.mul(bl));
  const mid = f.let(ah.mul(bl).add(ll.shrU(32)));
  const mid2 = f.let(al.mul(bh).add(mid.and(low)));
  const hi = f.let(ah.mul(bh).add(mid.shrU(32)).add(mid2.shrU(32)));
  return { hi, lo: f.let(mid2.shl(32).or(ll.and(low))) };
}

/**
 * Whether rounding enlarges the magnitude.
 * @param half the bits below the last kept one, at the top of a word, the lowest of them sticky
 * @param odd  the last kept bit
 */
export function roundsUp(f: Fn, mode: I32, sign: I32, half: I64, odd: I32): I32 {
  const nearest = half.gtU(TOP_BIT).or(half.eq(TOP_BIT).and(odd));
  // Down enlarges negative numbers, up positive ones, towards zero none.
  const directed = f.select(mode.eq(Rounding.down), sign, f.select(mode.eq(Rounding.up), sign.eqz(), i32(0)));
  return f.let(f.select(mode, directed.and(half.ne(0)), nearest));
}
