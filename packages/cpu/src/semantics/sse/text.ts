import { type Fn, type I32, type I64, i32, type V128, type Var } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { vector } from "./access.ts";
import { needSse } from "./control.ts";

/**
 * SSE4.2's string comparisons. Control byte: bits 1–0 element format (bytes or words, unsigned or signed), 3–2 what is
 * compared, 5–4 polarity, 6 lowest or highest index, or bit or element mask.
 */

const [A, B] = [State.bounce, State.bounce2];
/** For the length of a string: up to its first zero. */
const IMPLICIT = -1;

/** Elements of one width. */
interface Lanes {
  readonly name: "i8x16" | "i16x8";
  readonly count: 16 | 8;
  readonly splat: "v128.load8_splat" | "v128.load16_splat";
}
const BYTES: Lanes = { name: "i8x16", count: 16, splat: "v128.load8_splat" };
const WORDS: Lanes = { name: "i16x8", count: 8, splat: "v128.load16_splat" };

interface Comparison {
  readonly h: HelperBody;
  readonly lanes: Lanes;
  readonly b: V128;
  /** Added to elements so that those without sign compare as those with one. */
  readonly bias: V128;
  readonly lengthA: I32;
  readonly lengthB: I32;
  readonly result: Var<"i32">;
}

const bitmask = (f: Fn, lanes: Lanes, v: V128): I32 => f.op<"i32">(`${lanes.name}.bitmask`, v);
const firstBits = (count: I32): I32 => i32(1).shl(count).sub(1);

/** Runs `body` for index `step`·n below `end`, with the address of that element of A. */
function eachOfA({ h, lanes }: Comparison, end: I32, step: number, body: (k: I32, at: I32) => void): void {
  const k = h.f.var("i32", i32(0));
  h.f.while(
    () => k.get().ltU(end),
    () => {
      const index = h.f.let(k.get().or(0));
      body(index, h.f.let(h.vb.add(index.mul(16 / lanes.count))));
      k.set(k.get().add(step));
    },
  );
}
/** Where B equals the element of A at an address. */
const equals = ({ h: { f }, lanes, b }: Comparison, at: I32): I32 =>
  bitmask(f, lanes, f.op<"v128">(`${lanes.name}.eq`, f.load<"v128">(lanes.splat, at, A), b));

/** Any element of A equal to this one of B. */
function equalAny(c: Comparison): void {
  eachOfA(c, c.lengthA, 1, (_k, at) => c.result.set(c.result.get().or(equals(c, at))));
  c.result.set(c.result.get().and(firstBits(c.lengthB)));
}
/** Pairs of A are ranges. */
function ranges(c: Comparison): void {
  const { f } = c.h;
  const { name, splat, count } = c.lanes;
  const biased = (v: V128): V128 => f.op<"v128">("v128.xor", v, c.bias);
  const b = f.let(biased(c.b));
  eachOfA(c, f.let(c.lengthA.and(-2)), 2, (_k, at) => {
    const from = f.op<"v128">(`${name}.ge_s`, b, biased(f.load<"v128">(splat, at, A)));
    const to = f.op<"v128">(`${name}.le_s`, b, biased(f.load<"v128">(splat, at, A + 16 / count)));
    c.result.set(c.result.get().or(bitmask(f, c.lanes, f.op<"v128">("v128.and", from, to))));
  });
  c.result.set(c.result.get().and(firstBits(c.lengthB)));
}
/** Element by element; two invalid ones count as equal. */
function equalEach(c: Comparison): void {
  const { f, vb } = c.h;
  const same = bitmask(f, c.lanes, f.op<"v128">(`${c.lanes.name}.eq`, f.load<"v128">("v128.load", vb, A), c.b));
  const validA = f.let(firstBits(c.lengthA));
  const validB = f.let(firstBits(c.lengthB));
  c.result.set(
    same
      .and(validA)
      .and(validB)
      .or(validA.or(validB).xor((1 << c.lanes.count) - 1)),
  );
}
/** A found in B from this place on, as far as B reaches. */
function equalOrdered(c: Comparison): void {
  const { f } = c.h;
  const all = i32((1 << c.lanes.count) - 1);
  const validB = f.let(firstBits(c.lengthB));
  c.result.set(all);
  eachOfA(c, c.lengthA, 1, (k, at) => {
    const found = equals(c, at).and(validB).shrU(k);
    const beyond = all.shrU(k).xor(-1);
    c.result.set(c.result.get().and(found.or(beyond)));
  });
}

/**
 * (control, lengthA, lengthB) → result bits before polarity | lengthA << 16 | lengthB << 24, of the operands in the bounce
 * buffers. A length is `IMPLICIT` or a number of elements.
 */
defineHelper("compareStrings", ["i32", "i32", "i32"], "i32", (h) => {
  const { f } = h;
  const control = h.param<"i32">(0);
  for (const lanes of [WORDS, BYTES]) f.if(control.and(1).eq(lanes === WORDS ? 1 : 0), () => compareLanes(h, lanes));
});
function compareLanes(h: HelperBody, lanes: Lanes): void {
  const { f, vb } = h;
  const control = h.param<"i32">(0);
  const zero = f.let(f.op<"v128">("i32x4.splat", i32(0)));
  const operand = (at: number) => f.load<"v128">("v128.load", vb, at);
  const length = (at: number, given: I32): I32 => {
    const zeros = bitmask(f, lanes, f.op<"v128">(`${lanes.name}.eq`, operand(at), zero));
    return f.let(f.select(given.eq(IMPLICIT), zeros.or(1 << lanes.count).ctz(), given));
  };
  const [lengthA, lengthB] = [length(A, h.param(1)), length(B, h.param(2))];
  const sign = i32(lanes.count === 16 ? 0x80 : 0x8000);
  const bias = f.let(f.op<"v128">(`${lanes.name}.splat`, f.select(control.and(2), i32(0), sign)));
  const result = f.var("i32", i32(0));
  const c = { h, lanes, b: f.let(operand(B)), bias, lengthA, lengthB, result };
  const kind = f.let(control.shrU(2).and(3));
  [equalAny, ranges, equalEach, equalOrdered].forEach((compute, k) => f.if(kind.eq(k), () => compute(c)));
  f.return(result.get().or(lengthA.shl(16)).or(lengthB.shl(24)));
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
  const given = (reg: number) => (explicit ? explicitLength(o, i, reg, count) : i32(IMPLICIT));
  const compared = o.call<"i32">("compareStrings", control, given(0), given(2));
  const lengthA = f.let(compared.shrU(16).and(0xff));
  const lengthB = f.let(compared.shrU(24));
  const all = firstBits(count);
  const inverted = f.select(control.and(0x20), firstBits(lengthB), all);
  const plain = f.let(compared.and(0xffff));
  const bits = f.let(f.select(control.and(0x10), plain.xor(inverted), plain));
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
  o.writeXmm(0, out.get());
}
define("PCMPESTRM", "66 0f3a 60 Vx,Wx,Ib", (o, i) => mask(o, i, true));
define("PCMPESTRI", "66 0f3a 61 Vx,Wx,Ib", (o, i) => index(o, i, true));
define("PCMPISTRM", "66 0f3a 62 Vx,Wx,Ib", (o, i) => mask(o, i, false));
define("PCMPISTRI", "66 0f3a 63 Vx,Wx,Ib", (o, i) => index(o, i, false));
