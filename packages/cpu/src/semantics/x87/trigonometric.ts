import { type I32, i32, i64, i64Big } from "@xenoserver/wasm";
import { HALF_PI, SERIES } from "../../state/constants.ts";
import { State } from "../../state/layout.ts";
import { Tables } from "../../state/tables.ts";
import { define } from "../define.ts";
import { BIAS, Fpx, QUIET_NAN, SPECIAL, TOP_BIT } from "../float/number.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import { finish, noteDenormals, unlessEmpty } from "./arith.ts";
import { beginX87 } from "./control.ts";
import { returnInvalid } from "./exponential.ts";
import {
  clearFlags,
  type Extended,
  exponentOf,
  isEmpty,
  isSpecial,
  NAN_EXP,
  readRegister,
  returnExtended,
  returned,
  STACK_FAULT,
  Status,
  setFlags,
  unpack80,
  writeRegister,
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

/** FSIN, FCOS, FSINCOS, FPTAN and FPATAN. */

/** π/2 as the processor has it, to 66 bits: in units of 2^−67. Arguments are reduced by it, not by π/2 itself. */
const HALF_PI_66 = 0xc90fdaa22168c234cn;

// (exponent, significand) of a positive number below 2^63 → its distance from the nearest multiple of π/2 as a wide number, with
// the sign in the state; the multiple's two low bits are left in `State.result`
defineHelper("x87Reduce", ["i32", "i64"], "i64", (h) => {
  const { f } = h;
  const [exp, sig] = [h.param<"i32">(0), h.param<"i64">(1)];
  const [dh, dl] = [i64Big(HALF_PI_66 >> 64n), i64Big(HALF_PI_66)];
  const quadrant = f.var("i32", i32(0));
  h.store32(State.result, i32(0));
  h.store32(State.fpSign, i32(0));
  f.if(exp.ltS(BIAS - 1), () => returnWide(h, { exp, hi: sig, lo: i64(0) }));
  const below1 = f.let(exp.ltS(BIAS).extU());
  const hi = f.var("i64", sig.shrU(below1.add(60)));
  const lo = f.var("i64", sig.shl(i64(4).sub(below1)));
  const atLeast = () =>
    hi
      .get()
      .gtU(dh)
      .or(hi.get().eq(dh).and(lo.get().geU(dl)));
  const subtract = () => {
    const borrow = f.let(lo.get().ltU(dl).extU());
    lo.set(lo.get().sub(dl));
    hi.set(hi.get().sub(dh).sub(borrow));
  };
  const left = f.var("i32", exp.sub(BIAS));
  f.if(left.get().geS(0), () =>
    f.loop((again) => {
      const fits = f.let(atLeast());
      f.if(fits, subtract);
      quadrant.set(quadrant.get().shl(1).or(fits));
      f.if(left.get(), () => {
        left.set(left.get().sub(1));
        hi.set(hi.get().shl(1).or(lo.get().shrU(63)));
        lo.set(lo.get().shl(1));
        f.br(again);
      });
    }),
  );
  // Beyond π/4 the next multiple is nearer.
  const [half, halfLow] = [i64Big(HALF_PI_66 >> 65n), i64Big(HALF_PI_66 >> 1n)];
  f.if(
    hi
      .get()
      .gtU(half)
      .or(hi.get().eq(half).and(lo.get().gtU(halfLow))),
    () => {
      const borrow = f.let(dl.ltU(lo.get()).extU());
      lo.set(dl.sub(lo.get()));
      hi.set(dh.sub(hi.get()).sub(borrow));
      quadrant.set(quadrant.get().add(1));
      h.store32(State.fpSign, i32(1));
    },
  );
  h.store32(State.result, quadrant.get().and(3));
  returnWide(h, normalized(f, i32(BIAS + 60), { hi: hi.get(), lo: lo.get() }));
});

// (1 for the cosine, r) → sine or cosine of 0 ≤ r ≤ π/4
defineHelper("x87SineSeries", ["i32", "i32", "i64", "i64"], "i64", (h) => {
  const { f } = h;
  const r: Wide = { exp: h.param(1), hi: h.param(2), lo: h.param(3) };
  const square = toFraction(f, multiply(h, r, r));
  f.if(h.param(0), () => returnWide(h, sumSeries(h, Tables.cosine, SERIES.cosine.length, i32(1), square)));
  returnWide(h, multiply(h, r, sumSeries(h, Tables.sine, SERIES.sine.length, i32(1), square)));
});

/** The reduced argument of a finite number that is not 0. */
interface Reduced {
  readonly r: Wide;
  /** 1 if r counts down from the multiple. */
  readonly down: I32;
  readonly quadrant: I32;
  readonly sign: I32;
}
function reduce(h: HelperBody, x: { sign: I32; exp: I32; sig: ReturnType<typeof i64> }): Reduced {
  const hi = h.call<"i64">("x87Reduce", x.exp, x.sig);
  return { r: wideResult(h, hi), down: h.load32(State.fpSign), quadrant: h.load32(State.result), sign: x.sign };
}
/** Sine or cosine of the whole argument: which series it is and with what sign follows from the quadrant. */
function sineOrCosine(h: HelperBody, a: Reduced, cosine: boolean): { value: Wide; sign: I32 } {
  const { f } = h;
  const quadrant = f.let(a.quadrant.add(cosine ? 1 : 0).and(3));
  const useCosine = f.let(quadrant.and(1));
  const hi = h.call<"i64">("x87SineSeries", useCosine, a.r.exp, a.r.hi, a.r.lo);
  const odd = f.select(useCosine, i32(0), a.down);
  const sign = quadrant
    .shrU(1)
    .xor(odd)
    .xor(cosine ? i32(0) : a.sign);
  return { value: wideResult(h, hi), sign: f.let(sign) };
}

/** Kinds of results: (kind, sign and exponent, significand) → number. */
const Kind = { sine: 0, cosine: 1, tangent: 2 } as const;
defineHelper("x87Circular", ["i32", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const kind = h.param<"i32">(0);
  const a = { se: h.param<"i32">(1), sig: h.param<"i64">(2) };
  f.if(isSpecial(f, a), () => f.return(h.call<"i64">("x87Nan", a.se, a.sig, a.se, a.sig)));
  noteDenormals(h, a);
  const x = unpack80(f, a);
  f.if(x.exp.eq(SPECIAL), () => returnInvalid(h));
  f.if(x.sig.eqz(), () => {
    f.if(kind.eq(Kind.cosine), () => returnExtended(h, { se: i32(BIAS), sig: TOP_BIT }));
    returnExtended(h, a);
  });
  const reduced = reduce(h, x);
  const finishWith = (value: Wide, sign: I32) => returnExtended(h, roundWide(h, sign, value));
  f.if(kind.eq(Kind.cosine), () => {
    const { value, sign } = sineOrCosine(h, reduced, true);
    finishWith(value, sign);
  });
  const sine = sineOrCosine(h, reduced, false);
  f.if(kind.eq(Kind.sine), () => finishWith(sine.value, sine.sign));
  const cosine = sineOrCosine(h, reduced, true);
  finishWith(divide(h, sine.value, cosine.value), f.let(sine.sign.xor(cosine.sign)));
});

/** Arguments of 2^63 and more are refused: C2 is set and nothing changes. Runs `otherwise` with C2 clear for all others. */
function unlessTooLarge(h: HelperBody, otherwise: () => void): void {
  const { f } = h;
  const exponent = f.let(exponentOf(readRegister(h, 0)));
  const finite = exponent.ne(0x7fff);
  const status = f.let(h.load32(State.fpuStatus).and(~(Status.c2 | Status.c1)));
  f.if(
    exponent
      .geU(BIAS + 63)
      .and(finite)
      .and(isEmpty(h, 0).eqz()),
    () => h.store32(State.fpuStatus, status.or(Status.c2)),
    () => {
      h.store32(State.fpuStatus, status);
      otherwise();
    },
  );
}
const circular = (h: HelperBody, kind: number, a: Extended): Extended =>
  returned(h, h.call("x87Circular", i32(kind), a.se, a.sig));

for (const [name, kind] of [
  ["FSIN", Kind.sine],
  ["FCOS", Kind.cosine],
] as const) {
  defineHelper(`x87${name}`, [], undefined, (h) => {
    clearFlags(h);
    unlessTooLarge(h, () =>
      finish(
        h,
        0,
        unlessEmpty(h, isEmpty(h, 0), () => circular(h, kind, readRegister(h, 0))),
      ),
    );
  });
}
/** Two results: the first replaces ST(0), the second is pushed. A NaN is both. */
function defineTwoResults(
  name: string,
  first: number,
  second: (h: HelperBody, a: Extended, nan: I32) => Extended,
): void {
  defineHelper(`x87${name}`, [], undefined, (h) => {
    const { f } = h;
    clearFlags(h);
    unlessTooLarge(h, () => {
      const [se1, sig1] = [f.var("i32", i32(NAN_EXP)), f.var("i64", QUIET_NAN)];
      const [se2, sig2] = [f.var("i32", i32(NAN_EXP)), f.var("i64", QUIET_NAN)];
      f.if(
        isEmpty(h, 0),
        () => setFlags(h, STACK_FAULT),
        () =>
          f.if(
            isEmpty(h, 7).eqz(),
            () => setFlags(h, STACK_FAULT | Fpx.c1),
            () => {
              const a = readRegister(h, 0);
              const x = circular(h, first, a);
              se1.set(x.se);
              sig1.set(x.sig);
              const nan = f.let(x.se.and(0x7fff).eq(0x7fff));
              const y = second(h, a, nan);
              se2.set(f.select(nan, se1.get(), y.se));
              sig2.set(f.select(nan, sig1.get(), y.sig));
            },
          ),
      );
      f.if(h.call<"i32">("x87Settle"), () => {
        writeRegister(h, 0, { se: se1.get(), sig: sig1.get() });
        h.store32(State.fpuTop, h.load32(State.fpuTop).sub(1).and(7));
        writeRegister(h, 0, { se: se2.get(), sig: sig2.get() });
      });
    });
  });
}
defineTwoResults("FSINCOS", Kind.sine, (h, a) => circular(h, Kind.cosine, a));
defineTwoResults("FPTAN", Kind.tangent, () => ({ se: i32(BIAS), sig: TOP_BIT }));
for (const [name, encoding] of [
  ["FSIN", "d9 /7.6"],
  ["FCOS", "d9 /7.7"],
  ["FSINCOS", "d9 /7.3"],
  ["FPTAN", "d9 /6.2"],
] as const) {
  define(name, encoding, (o, i) => {
    beginX87(o, i);
    o.callVoid(`x87${name}`);
  });
}

// Arc tangent

const PI_QUARTERS = (n: bigint): Wide => {
  // HALF_PI is in units of 2^−127; the constant is made to have its top bit set.
  let value = (HALF_PI * n) >> 1n;
  let exp = BIAS;
  for (; value >> 128n; exp++) value >>= 1n;
  for (; value >> 127n === 0n; exp--) value <<= 1n;
  return { exp: i32(exp), ...constantFixed(value) };
};

// (t) → atan of 0 < t ≤ 1: atan(k/16) + atan(s) with s = (t − k/16)/(1 + t·k/16)
defineHelper("x87ArcTangentOf", ["i32", "i64", "i64"], "i64", (h) => {
  const { f } = h;
  const t: Wide = { exp: h.param(0), hi: h.param(1), lo: h.param(2) };
  const s = { exp: f.var("i32", t.exp), hi: f.var("i64", t.hi), lo: f.var("i64", t.lo) };
  const k = f.var("i32", i32(0));
  const negative = f.var("i32", i32(0));
  f.if(t.exp.geS(BIAS - 5), () => {
    // The nearest sixteenth.
    const fraction = f.let(
      t.hi.shrU(
        i32(BIAS - 1)
          .sub(t.exp)
          .extU(),
      ),
    );
    const nearest = fraction.shrU(59).wrap().add(1).shrU(1);
    k.set(f.select(t.exp.eq(BIAS), i32(16), nearest));
  });
  f.if(k.get(), () => {
    const center = normalized(f, i32(BIAS + 59), { hi: k.get().extU(), lo: i64(0) });
    const product = multiply(h, t, center);
    const d = f.ifElse(
      product.exp.eq(BIAS),
      "i64",
      () => h.call("wideAdd", i32(0), product.exp, product.hi, product.lo, ONE.exp, ONE.hi, ONE.lo),
      () => h.call("wideAdd", i32(0), ONE.exp, ONE.hi, ONE.lo, product.exp, product.hi, product.lo),
    );
    const denominator = wideResult(h, d);
    const above = f.let(t.exp.gtS(center.exp).or(t.exp.eq(center.exp).and(t.hi.geU(center.hi))));
    negative.set(above.eqz());
    const pick = (x: Wide, y: Wide): Wide => ({
      exp: f.let(f.select(above, x.exp, y.exp)),
      hi: f.let(f.select(above, x.hi, y.hi)),
      lo: f.let(f.select(above, x.lo, y.lo)),
    });
    const difference = add(h, i32(1), pick(t, center), pick(center, t));
    f.if(
      difference.hi.eqz(),
      () => s.hi.set(i64(0)),
      () => {
        const q = divide(h, difference, denominator);
        s.exp.set(q.exp);
        s.hi.set(q.hi);
        s.lo.set(q.lo);
      },
    );
  });
  const at = f.let(k.get().shl(4));
  const base = {
    hi: f.let(f.load<"i64">("i64.load", at, Tables.arcTangents + 8)),
    lo: f.let(f.load<"i64">("i64.load", at, Tables.arcTangents)),
  };
  const whole = normalized(f, i32(BIAS), base);
  f.if(s.hi.get().eqz(), () => returnWide(h, whole));
  const small: Wide = { exp: s.exp.get(), hi: s.hi.get(), lo: s.lo.get() };
  const square = toFraction(f, multiply(h, small, small));
  const part = multiply(h, small, sumSeries(h, Tables.inverseTangent, ARC_TERMS, i32(1), square));
  f.if(k.get().eqz(), () => returnWide(h, part));
  returnWide(h, add(h, negative.get(), whole, part));
});
/** |s| is at most 1/32. */
const ARC_TERMS = 12;

// (x, y) → the angle of the point (x, y)
defineHelper("x87Angle", ["i32", "i64", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const a = { se: h.param<"i32">(0), sig: h.param<"i64">(1) };
  const b = { se: h.param<"i32">(2), sig: h.param<"i64">(3) };
  f.if(isSpecial(f, a).or(isSpecial(f, b)), () => f.return(h.call<"i64">("x87Nan", a.se, a.sig, b.se, b.sig)));
  noteDenormals(h, a, b);
  const [x, y] = [unpack80(f, a), unpack80(f, b)];
  const quarters = (n: bigint) => returnExtended(h, roundWide(h, y.sign, PI_QUARTERS(n)));
  const [xInfinite, yInfinite] = [f.let(x.exp.eq(SPECIAL)), f.let(y.exp.eq(SPECIAL))];
  f.if(yInfinite, () => {
    f.if(xInfinite.eqz(), () => quarters(2n));
    f.if(x.sign, () => quarters(3n));
    quarters(1n);
  });
  f.if(xInfinite.or(y.sig.eqz()), () => {
    f.if(x.sign, () => quarters(4n));
    returnExtended(h, { se: y.sign.shl(15), sig: i64(0) });
  });
  f.if(x.sig.eqz(), () => quarters(2n));
  const steep = f.let(y.exp.gtS(x.exp).or(y.exp.eq(x.exp).and(y.sig.gtU(x.sig))));
  const pick = (p: typeof x, q: typeof x): Wide => ({
    exp: f.let(f.select(steep, p.exp, q.exp)),
    hi: f.let(f.select(steep, p.sig, q.sig)),
    lo: i64(0),
  });
  const ratio = divide(h, pick(x, y), pick(y, x));
  const angle = wideResult(h, h.call("x87ArcTangentOf", ratio.exp, ratio.hi, ratio.lo));
  // Counted from the y axis if steep, from the negative x axis if x is negative.
  const from = (n: bigint, down: I32) => returnExtended(h, roundWide(h, y.sign, add(h, down, PI_QUARTERS(n), angle)));
  f.if(steep, () => from(2n, x.sign.eqz()));
  f.if(x.sign, () => from(4n, i32(1)));
  returnExtended(h, roundWide(h, y.sign, angle));
});
defineHelper("x87FPATAN", [], undefined, (h) => {
  clearFlags(h);
  const result = unlessEmpty(h, isEmpty(h, 0).or(isEmpty(h, 1)), () => {
    const [a, b] = [readRegister(h, 0), readRegister(h, 1)];
    return returned(h, h.call("x87Angle", a.se, a.sig, b.se, b.sig));
  });
  finish(h, 1, result, i32(1));
});
define("FPATAN", "d9 /6.3", (o, i) => {
  beginX87(o, i);
  o.callVoid("x87FPATAN");
});
