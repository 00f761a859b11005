import { type I64, i64 } from "@xenoserver/wasm";
import { define } from "../define.ts";
import { bitsOf, type Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";

/** Group 2: by 1, by CL, by an immediate. */
const encodings = (digit: number): string[] => [
  `d0 /${digit} Eb,1`,
  `d1 /${digit} Ev,1`,
  `d2 /${digit} Eb,CL`,
  `d3 /${digit} Ev,CL`,
  `c0 /${digit} Eb,Ib`,
  `c1 /${digit} Ev,Ib`,
];

/** The shift count, cut to 5 or 6 bits, as a local. */
function countOf(o: Ops, i: Instruction): I64 {
  const mask = i.operands[0].width === 8 ? 63 : 31;
  return o.f.let(i.operands[1].read().and(mask));
}

interface Shifted {
  readonly res: I64;
  /** Emits CF and OF, if anyone sees them. */
  readonly flags: () => { readonly cf: I64; readonly of: I64 };
}

/** Defines a shift or rotate; with a count of 0 nothing changes, not even flags. */
function shift(
  name: string,
  digits: number[],
  compute: (o: Ops, a: I64, n: I64, width: number) => Shifted,
  rotates: boolean,
): void {
  define(name, digits.flatMap(encodings), (o, i) => {
    const { f } = o;
    const dst = i.operands[0];
    const n = countOf(o, i);
    const width = dst.width;
    let made: Shifted | undefined;
    o.modify(dst, i, (old) => {
      const a = f.let(old.zeroExtend(bitsOf(width)));
      made = compute(o, a, n, width);
      return made.res;
    });
    if (!o.wantsFlags) return;
    const { res, flags } = made!;
    const { cf, of } = flags();
    f.if(n.eqz().eqz(), () => {
      if (rotates) {
        const cfNow = f.let(cf);
        o.setCarryAndOverflow(cfNow, of);
      } else o.setFlags({ kind: "explicit", res: f.let(res.signExtend(bitsOf(width))), cf: f.let(cf), of: f.let(of) });
    });
  });
}

const bit = (v: I64, n: I64 | number): I64 => v.shrU(n).and(1);

shift(
  "SHL",
  [4, 6],
  (o, a, n, width) => {
    const bits = width * 8;
    const res = o.f.let(a.shl(n));
    // The bit shifted out last; for counts beyond the width there is none.
    const flags = () => {
      const cf = o.f.let(width === 8 ? bit(a, i64(64).sub(n).and(63)) : bit(res, bits));
      return { cf, of: o.f.let(bit(res, bits - 1).xor(cf)) };
    };
    return { res, flags };
  },
  false,
);
shift(
  "SHR",
  [5],
  (o, a, n, width) => {
    const last = n.sub(1).and(63);
    const flags = () => ({ cf: o.f.let(bit(a, last)), of: o.f.let(bit(a, width * 8 - 1)) });
    return { res: o.f.let(a.shrU(n)), flags };
  },
  false,
);
shift(
  "SAR",
  [7],
  (o, a, n, width) => {
    const signed = o.f.let(a.signExtend(bitsOf(width)));
    const flags = () => ({ cf: o.f.let(signed.shrS(n.sub(1).and(63)).and(1)), of: i64(0) });
    return { res: o.f.let(signed.shrS(n)), flags };
  },
  false,
);

/** Rotates a zero-extended value within its width. */
function rotate(o: Ops, a: I64, n: I64, width: number, left: boolean): I64 {
  if (width === 8) return o.f.let(left ? a.rotl(n) : a.rotr(n));
  if (width === 4) return o.f.let((left ? a.wrap().rotl(n.wrap()) : a.wrap().rotr(n.wrap())).extU());
  const bits = width * 8;
  const twice = o.f.let(a.or(a.shl(bits)));
  const by = n.and(bits - 1);
  const turned = left ? twice.shl(by).shrU(bits) : twice.shrU(by);
  return o.f.let(turned.zeroExtend(bitsOf(width)));
}
shift(
  "ROL",
  [0],
  (o, a, n, width) => {
    const res = rotate(o, a, n, width, true);
    const flags = () => {
      const cf = o.f.let(res.and(1));
      return { cf, of: o.f.let(bit(res, width * 8 - 1).xor(cf)) };
    };
    return { res, flags };
  },
  true,
);
shift(
  "ROR",
  [1],
  (o, a, n, width) => {
    const res = rotate(o, a, n, width, false);
    const bits = width * 8;
    const flags = () => ({ cf: o.f.let(bit(res, bits - 1)), of: o.f.let(bit(res, bits - 1).xor(bit(res, bits - 2))) });
    return { res, flags };
  },
  true,
);

/** Rotates through carry: the value and CF are one ring of width + 1 bits. */
function rotateCarry(name: string, digit: number, left: boolean): void {
  define(name, encodings(digit), (o, i) => {
    const { f } = o;
    const dst = i.operands[0];
    const { width } = dst;
    const bits = width * 8;
    const masked = countOf(o, i);
    const n = width <= 2 ? f.let(masked.remU(bits + 1)) : masked;
    const cf = f.var("i64", o.carry());
    const old = cf.get();
    const first = f.let(old.or(0));
    let result: I64 = n;
    let sign: I64 = n;
    o.modify(dst, i, (signed) => {
      const a = f.let(signed.zeroExtend(bitsOf(width)));
      const at = left ? f.let(i64(bits).sub(n)) : f.let(n.sub(1));
      const out = bit(a, at.and(63));
      // Shifts by 64 have no effect in WebAssembly, so the far part goes in two steps.
      const moved = left
        ? a
            .shl(n)
            .or(first.shl(n.sub(1).and(63)))
            .or(a.shrU(at).shrU(1))
        : a
            .shrU(n)
            .or(first.shl(i64(bits).sub(n).and(63)))
            .or(a.shl(i64(bits).sub(n)).shl(1));
      result = f.let(f.select(n.eqz(), a, moved.zeroExtend(bitsOf(width))));
      sign = f.let(bit(result, bits - 1));
      cf.set(f.select(n.eqz(), first, out));
      return result;
    });
    const carry = f.let(cf.get().or(0));
    const of = left ? sign.xor(carry) : sign.xor(bit(result, bits - 2));
    f.if(masked.eqz().eqz(), () => o.setCarryAndOverflow(carry, of));
  });
}
rotateCarry("RCL", 2, true);
rotateCarry("RCR", 3, false);

function doubleShift(name: string, byImm: string, byCl: string, left: boolean): void {
  define(name, [byImm, byCl], (o, i) => {
    const { f } = o;
    const [dst, src, count] = i.operands;
    const { width } = dst;
    const bits = width * 8;
    const n = f.let(count.read().and(width === 8 ? 63 : 31));
    const filler = src.read();
    let made: Shifted | undefined;
    o.modify(dst, i, (signed) => {
      const a = f.let(signed.zeroExtend(bitsOf(width)));
      const rest = f.let(i64(bits).sub(n));
      let res: I64;
      // A 16-bit shift by more than 16 takes its bits from the pair repeated; the result is undefined by the manual.
      if (width === 2) {
        const ring = left ? a.shl(32).or(filler.shl(16)).or(a) : filler.shl(16).or(a).or(a.shl(32));
        res = left ? f.let(f.let(ring).shl(n).shrU(32).and(0xffff)) : f.let(f.let(ring).shrU(n).and(0xffff));
      } else {
        const far = left ? filler.shrU(rest.sub(1).and(63)).shrU(1) : filler.shl(rest.sub(1).and(63)).shl(1);
        const near = left ? a.shl(n) : a.shrU(n);
        res = f.let(f.select(n.eqz(), a, near.or(far).zeroExtend(bitsOf(width))));
      }
      const flags = () => ({
        cf: f.let(left ? bit(a, rest.and(63)) : bit(a, n.sub(1).and(63))),
        of: f.let(bit(res, bits - 1).xor(bit(a, bits - 1))),
      });
      made = { res, flags };
      return res;
    });
    if (!o.wantsFlags) return;
    const { res, flags } = made!;
    const { cf, of } = flags();
    f.if(n.eqz().eqz(), () => o.setFlags({ kind: "explicit", res: f.let(res.signExtend(bitsOf(width))), cf, of }));
  });
}
doubleShift("SHLD", "0f a4 Ev,Gv,Ib", "0f a5 Ev,Gv,CL", true);
doubleShift("SHRD", "0f ac Ev,Gv,Ib", "0f ad Ev,Gv,CL", false);
