import { type I64, i32, i64 } from "@xenoserver/wasm";
import { define } from "../define.ts";
import { bitsOf, type Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";

const DIVIDE_ERROR = 0;

/** High 64 bits of the unsigned product, from four 32-bit ones. */
export function mulHighU(o: Ops, a: I64, b: I64): I64 {
  const { f } = o;
  const low = (v: I64) => v.zeroExtend(32);
  const [a0, a1] = [f.let(low(a)), f.let(a.shrU(32))];
  const [b0, b1] = [f.let(low(b)), f.let(b.shrU(32))];
  const middle = f.let(a1.mul(b0).add(a0.mul(b0).shrU(32)));
  const carry = f.let(a0.mul(b1).add(low(middle)));
  return f.let(a1.mul(b1).add(middle.shrU(32)).add(carry.shrU(32)));
}
/** High 64 bits of the signed product. */
export function mulHighS(o: Ops, a: I64, b: I64): I64 {
  const unsigned = mulHighU(o, a, b);
  return o.f.let(unsigned.sub(a.shrS(63).and(b)).sub(b.shrS(63).and(a)));
}

/** CF and OF tell whether the upper half matters; the other flags are undefined and follow the lower half. */
function setProductFlags(o: Ops, low: I64, overflow: () => I64): void {
  if (!o.wantsFlags) return;
  const flag = o.f.let(overflow());
  o.setFlags({ kind: "explicit", res: low, cf: flag, of: flag });
}

function widening(name: string, digit: number, signed: boolean): void {
  define(name, [`f6 /${digit} Eb`, `f7 /${digit} Ev`], (o, i) => {
    const { f } = o;
    const src = i.operands[0];
    const { width } = src;
    const bits = bitsOf(width);
    const a = signed ? o.readGprS(0, width) : o.readGpr(0, width);
    const b = signed ? src.readS() : src.read();
    const product = f.let(a.mul(b));
    const low = f.let(product.signExtend(bits));
    if (width === 1) {
      o.writeGpr(0, 2, product);
      const fits = () => (signed ? low.eq(product) : product.shrU(8).eqz());
      return setProductFlags(o, low, () => fits().eqz().extU());
    }
    const high = width === 8 ? (signed ? mulHighS(o, a, b) : mulHighU(o, a, b)) : f.let(product.shrU(bits));
    o.writeGpr(0, width, product);
    o.writeGpr(2, width, high);
    setProductFlags(o, low, () => {
      const full = width === 8 ? high.eq(low.shrS(63)) : low.eq(product);
      const fits = signed ? full : width === 8 ? high.eqz() : product.shrU(bits).eqz();
      return fits.eqz().extU();
    });
  });
}
widening("MUL", 4, false);
widening("IMUL", 5, true);

define("IMUL", ["0f af Gv,Ev", "69 Gv,Ev,Iz", "6b Gv,Ev,Ibs"], (o, i) => {
  const { f } = o;
  const three = i.operands.length === 3;
  const dst = i.operands[0];
  const a = i.operands[three ? 1 : 0].readS();
  const b = i.operands[three ? 2 : 1].readS();
  const { width } = dst;
  const product = f.let(a.mul(b));
  const low = f.let(product.signExtend(bitsOf(width)));
  dst.write(low);
  setProductFlags(o, low, () => (width === 8 ? overflows(o, a, b, low) : low.ne(product).extU()));
});

/** 1 if a signed product needs more than 64 bits; of small factors that is known without multiplying their parts. */
function overflows(o: Ops, a: I64, b: I64, low: I64): I64 {
  const { f } = o;
  const overflow = f.var("i64", i64(0));
  const areSmall = a.signExtend(32).eq(a).and(b.signExtend(32).eq(b));
  f.if(areSmall.eqz(), () => overflow.set(mulHighS(o, a, b).ne(low.shrS(63)).extU()));
  return overflow.get();
}

/** Quotient and remainder of a dividend that fits 64 bits; raises #DE if the quotient does not fit `width`. */
function divideNarrow(o: Ops, dividend: I64, divisor: I64, width: number, signed: boolean): { q: I64; r: I64 } {
  const { f } = o;
  f.if(divisor.eqz(), () => o.raise(DIVIDE_ERROR));
  if (!signed) {
    const q = f.let(dividend.divU(divisor));
    if (width < 8) f.if(q.shrU(bitsOf(width)).eqz().eqz(), () => o.raise(DIVIDE_ERROR));
    return { q, r: f.let(dividend.remU(divisor)) };
  }
  // The one quotient that WebAssembly traps on.
  const minimum = o.const64(0, -0x80000000);
  f.if(dividend.eq(minimum).and(divisor.eq(-1)), () => o.raise(DIVIDE_ERROR));
  const q = f.let(dividend.divS(divisor));
  f.if(q.signExtend(bitsOf(width)).ne(q), () => o.raise(DIVIDE_ERROR));
  return { q, r: f.let(dividend.remS(divisor)) };
}

/** Unsigned 128 by 64 bits, one bit at a time; needs high < divisor. */
function divideWide(o: Ops, high: I64, low: I64, divisor: I64): { q: I64; r: I64 } {
  const { f } = o;
  const r = f.var("i64", high);
  const q = f.var("i64", low);
  f.if(
    high.eqz(),
    () => {
      r.set(low.remU(divisor));
      q.set(low.divU(divisor));
    },
    () => {
      const n = f.var("i32", i32(64));
      f.loop((again) => {
        const carried = f.let(r.get().shrU(63).wrap());
        r.set(r.get().shl(1).or(q.get().shrU(63)));
        q.set(q.get().shl(1));
        f.if(carried.or(r.get().geU(divisor)), () => {
          r.set(r.get().sub(divisor));
          q.set(q.get().or(1));
        });
        n.set(n.get().sub(1));
        f.brIf(again, n.get());
      });
    },
  );
  return { q: q.get(), r: r.get() };
}

function divideSignedWide(o: Ops, high: I64, low: I64, divisor: I64): { q: I64; r: I64 } {
  const { f } = o;
  f.if(divisor.eqz(), () => o.raise(DIVIDE_ERROR));
  const negative = f.let(high.shrS(63));
  const divisorSign = f.let(divisor.shrS(63));
  // Two's complement of the 128-bit dividend if it is negative.
  const absLow = f.let(low.xor(negative).sub(negative));
  const borrow = negative.and(low.eqz().extU());
  const absHigh = f.let(high.xor(negative).add(borrow));
  const absDivisor = f.let(divisor.xor(divisorSign).sub(divisorSign));
  f.if(absHigh.geU(absDivisor), () => o.raise(DIVIDE_ERROR));
  const { q, r } = divideWide(o, absHigh, absLow, absDivisor);
  const sign = f.let(negative.xor(divisorSign));
  const quotient = f.let(q.xor(sign).sub(sign));
  f.if(quotient.shrS(63).ne(sign).and(quotient.eqz().eqz()), () => o.raise(DIVIDE_ERROR));
  return { q: quotient, r: f.let(r.xor(negative).sub(negative)) };
}

function divide(o: Ops, i: Instruction, signed: boolean): void {
  const { f } = o;
  const src = i.operands[0];
  const { width } = src;
  const divisor = signed ? src.readS() : src.read();
  if (width === 1) {
    const { q, r } = divideNarrow(o, signed ? o.readGprS(0, 2) : o.readGpr(0, 2), divisor, 1, signed);
    return o.writeGpr(0, 2, q.and(0xff).or(r.and(0xff).shl(8)));
  }
  const low = o.readGpr(0, width);
  const high = o.readGpr(2, width);
  let result: { q: I64; r: I64 };
  if (width < 8) {
    const together = f.let(high.shl(bitsOf(width)).or(low));
    const dividend = signed && width === 2 ? f.let(together.signExtend(32)) : together;
    result = divideNarrow(o, dividend, divisor, width, signed);
  } else if (signed) result = divideSignedWide(o, high, low, divisor);
  else {
    f.if(divisor.eqz().or(high.geU(divisor)), () => o.raise(DIVIDE_ERROR));
    result = divideWide(o, high, low, divisor);
  }
  o.writeGpr(0, width, result.q);
  o.writeGpr(2, width, result.r);
}
define("DIV", ["f6 /6 Eb", "f7 /6 Ev"], (o, i) => divide(o, i, false));
define("IDIV", ["f6 /7 Eb", "f7 /7 Ev"], (o, i) => divide(o, i, true));

/** Decimal adjustments exist outside 64-bit mode only. */
define("AAM", "d4 Ib i64", (o, i) => {
  const { f } = o;
  const base = f.let(i.imm().and(0xff).extU());
  f.if(base.eqz(), () => o.raise(DIVIDE_ERROR));
  const al = o.readGpr(0, 1);
  const low = f.let(al.remU(base));
  o.writeGpr(0, 2, al.divU(base).shl(8).or(low));
  o.setFlags({ kind: "logic", res: f.let(low.signExtend(8)) });
});
define("AAD", "d5 Ib i64", (o, i) => {
  const { f } = o;
  const ax = o.readGpr(0, 2);
  const low = f.let(ax.add(ax.shrU(8).mul(i.imm().and(0xff).extU())).and(0xff));
  o.writeGpr(0, 2, low);
  o.setFlags({ kind: "logic", res: f.let(low.signExtend(8)) });
});

function ascii(name: string, encoding: string, add: boolean): void {
  define(name, encoding, (o) => {
    const { f } = o;
    const ax = o.readGpr(0, 2);
    const flags = o.arithmeticFlags();
    const adjust = f.let(ax.and(15).gtU(9).or(flags.shrU(4).wrap().and(1)).extU());
    const changed = add ? ax.add(adjust.mul(0x106)) : ax.sub(adjust.mul(6)).sub(adjust.shl(8));
    const res = f.let(changed.and(0xff0f));
    o.writeGpr(0, 2, res);
    o.setArithmeticFlags(adjust.or(adjust.shl(4)));
  });
}
ascii("AAA", "37 i64", true);
ascii("AAS", "3f i64", false);

function decimal(name: string, encoding: string, add: boolean): void {
  define(name, encoding, (o) => {
    const { f } = o;
    const al = o.readGpr(0, 1);
    const flags = o.arithmeticFlags();
    const oldCarry = flags.and(1).wrap();
    const low = f.let(al.and(15).gtU(9).or(flags.shrU(4).wrap().and(1)).extU());
    const high = f.let(al.gtU(0x99).or(oldCarry).extU());
    const correction = f.let(low.mul(6).add(high.mul(0x60)));
    const res = f.let((add ? al.add(correction) : al.sub(correction)).signExtend(8));
    // DAS borrows when the low correction passes zero.
    const borrow = add ? i64(0) : low.and(al.ltU(6).extU());
    o.writeGpr(0, 1, res);
    o.setFlags({ kind: "explicit", res, cf: f.let(high.or(borrow)), of: i64(0) });
    const now = o.arithmeticFlags();
    o.setArithmeticFlags(now.and(~0x10).or(low.shl(4)));
  });
}
decimal("DAA", "27 i64", true);
decimal("DAS", "2f i64", false);
