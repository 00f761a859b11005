import { type I32, type I64, i32, type V128, type Var } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import type { Instruction, Ops } from "../ops.ts";
import { vector } from "./access.ts";
import { needSse } from "./control.ts";

/**
 * SSE4.2's string comparisons. Control byte: bits 1–0 element format (bytes or words, unsigned or signed), 3–2 what is
 * compared, 5–4 polarity, 6 lowest or highest index, or bit or element mask.
 */

interface Comparison {
  readonly o: Ops;
  /** Elements of a register: 16 or 8. */
  readonly count: I32;
  readonly control: I32;
  /** Valid elements of the two operands. */
  readonly lengthA: I32;
  readonly lengthB: I32;
}

/** Element `index` of the operand at a bounce buffer, extended by the format. */
function element(c: { o: Ops; control: I32 }, buffer: number, at: I32): I32 {
  const { f, vb } = c.o;
  const index = f.let(at);
  const words = f.let(c.control.and(1));
  const raw = f.let(
    f.ifElse(
      words,
      "i32",
      () => f.load<"i32">("i32.load16_u", vb.add(index.shl(1)), buffer),
      () => f.load<"i32">("i32.load8_u", vb.add(index), buffer),
    ),
  );
  const signed = f.select(words, raw.signExtend(16), raw.signExtend(8));
  return f.let(f.select(c.control.and(2), signed, raw));
}

/** Runs `body` for index 0 ≤ k < limit. */
function each(o: Ops, end: I32, body: (k: I32) => void): void {
  const limit = o.f.let(end);
  const k = o.f.var("i32", i32(0));
  o.f.while(
    () => k.get().ltU(limit),
    () => {
      body(o.f.let(k.get().or(0)));
      k.set(k.get().add(1));
    },
  );
}

const [A, B] = [State.bounce, State.bounce2];

/** Any element of A equal to this one of B. */
function equalAny(c: Comparison, result: Var<"i32">): void {
  each(c.o, c.lengthB, (j) => {
    const b = element(c, B, j);
    each(c.o, c.lengthA, (i) => result.set(result.get().or(element(c, A, i).eq(b).shl(j))));
  });
}
/** Pairs of A are ranges. */
function ranges(c: Comparison, result: Var<"i32">): void {
  each(c.o, c.lengthB, (j) => {
    const b = element(c, B, j);
    each(c.o, c.lengthA.shrU(1), (pair) => {
      const from = element(c, A, pair.shl(1));
      const to = element(c, A, pair.shl(1).or(1));
      result.set(result.get().or(from.leS(b).and(b.leS(to)).shl(j)));
    });
  });
}
/** Element by element; two invalid ones count as equal. */
function equalEach(c: Comparison, result: Var<"i32">): void {
  each(c.o, c.count, (k) => {
    const validA = k.ltU(c.lengthA);
    const validB = c.o.f.let(k.ltU(c.lengthB));
    const same = element(c, A, k).eq(element(c, B, k));
    const both = c.o.f.let(validA);
    const equal = c.o.f.select(both.and(validB), same, both.or(validB).eqz());
    result.set(result.get().or(equal.shl(k)));
  });
}
/** A found in B from this place on, as far as B reaches. */
function equalOrdered(c: Comparison, result: Var<"i32">): void {
  const { f } = c.o;
  each(c.o, c.count, (j) => {
    const found = f.var("i32", i32(1));
    each(c.o, f.let(c.count.sub(j)), (i) => {
      const place = f.let(i.add(j));
      const same = element(c, A, i)
        .eq(element(c, B, place))
        .and(place.ltU(c.lengthB));
      found.set(found.get().and(f.select(i.geU(c.lengthA), i32(1), same)));
    });
    result.set(result.get().or(found.get().shl(j)));
  });
}

/** Valid elements up to the first zero. */
function implicitLength(o: Ops, control: I32, buffer: number, count: I32): I32 {
  const length = o.f.var("i32", i32(0));
  o.f.block((end) =>
    each(o, count, (k) => {
      o.f.brIf(end, element({ o, control }, buffer, k).eqz());
      length.set(k.add(1));
    }),
  );
  return o.f.let(length.get().or(0));
}
/** |rAX| or |rDX|, at most `count`. */
function explicitLength(o: Ops, i: Instruction, reg: number, count: I32): I32 {
  const { f } = o;
  const value = i.width === 8 ? o.readGpr(reg, 8) : o.readGprS(reg, 4);
  const sign = value.shrS(63);
  const magnitude = f.let(value.xor(sign).sub(value.shrS(63)));
  return f.let(f.select(magnitude.gtU(count.extU()), count, magnitude.wrap()));
}

/** Computes the result bits and sets the flags. */
function compareStrings(o: Ops, i: Instruction, explicit: boolean): { bits: I32; control: I32; count: I32 } {
  needSse(o);
  const { f } = o;
  const b = i.operands[1].readV();
  f.store("v128.store", o.vb, i.operands[0].readV(), A);
  f.store("v128.store", o.vb, b, B);
  const control = f.let(i.imm().and(0x7f));
  const count = f.let(f.select(control.and(1), i32(8), i32(16)));
  const lengthA = explicit ? explicitLength(o, i, 0, count) : implicitLength(o, control, A, count);
  const lengthB = explicit ? explicitLength(o, i, 2, count) : implicitLength(o, control, B, count);
  const c = { o, count, control, lengthA, lengthB };
  const result = f.var("i32", i32(0));
  const kind = f.let(control.shrU(2).and(3));
  [equalAny, ranges, equalEach, equalOrdered].forEach((compute, k) => f.if(kind.eq(k), () => compute(c, result)));
  const all = f.let(i32(1).shl(count).sub(1));
  const valid = f.let(i32(1).shl(lengthB).sub(1));
  const inverted = f.select(control.and(0x20), valid, all);
  const bits = f.let(f.select(control.and(0x10), result.get().xor(inverted), result.get().or(0)));
  const flag = (condition: I32, place: number): I64 => condition.extU().shl(place);
  const flags = flag(bits.ne(0), 0)
    .or(flag(lengthB.ltU(count), 6))
    .or(flag(lengthA.ltU(count), 7))
    .or(flag(bits.and(1), 11));
  o.setArithmeticFlags(flags);
  return { bits, control, count };
}

function index(o: Ops, i: Instruction, explicit: boolean): void {
  const { f } = o;
  const { bits, control, count } = compareStrings(o, i, explicit);
  const found = f.select(control.and(0x40), i32(31).sub(bits.clz()), bits.ctz());
  o.writeGpr(1, 4, f.select(bits, found, count).extU());
}
function mask(o: Ops, i: Instruction, explicit: boolean): void {
  const { f } = o;
  const { bits, control } = compareStrings(o, i, explicit);
  const out = f.var("v128", vector(o, bits.extU()));
  f.if(control.and(0x40), () => {
    const spread = (lane: string, count: number): V128 => {
      let v = f.op<"v128">(`${lane}.splat`, i32(0));
      for (let k = 0; k < count; k++) v = f.lane<"v128">(`${lane}.replace_lane`, k, v, i32(0).sub(bits.shrU(k).and(1)));
      return v;
    };
    f.if(
      control.and(1),
      () => out.set(spread("i16x8", 8)),
      () => out.set(spread("i8x16", 16)),
    );
  });
  f.store("v128.store", o.vb, out.get(), State.xmm);
}
define("PCMPESTRM", "66 0f3a 60 Vx,Wx,Ib", (o, i) => mask(o, i, true));
define("PCMPESTRI", "66 0f3a 61 Vx,Wx,Ib", (o, i) => index(o, i, true));
define("PCMPISTRM", "66 0f3a 62 Vx,Wx,Ib", (o, i) => mask(o, i, false));
define("PCMPISTRI", "66 0f3a 63 Vx,Wx,Ib", (o, i) => index(o, i, false));
