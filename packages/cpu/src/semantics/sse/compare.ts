import { type I32, type I64, i32, type V128, v128 } from "@xenoserver/wasm";
import { define } from "../define.ts";
import { asBits, asFloat, compareFloats, DOUBLE, type Format, SINGLE } from "../float/number.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { high, low, source128, vector } from "./access.ts";
import { needSse } from "./control.ts";
import { lanes } from "./convert.ts";
import { isOrdered, noDaz } from "./fast.ts";
import { packedSlow } from "./float.ts";
import { LaneOp } from "./lanes.ts";

/** Comparisons into the flags, rounding to integral numbers, dot products and approximations. */

const FORMATS = [
  { fmt: SINGLE, prefix: "np", size: "d", letter: "S" },
  { fmt: DOUBLE, prefix: "66", size: "q", letter: "D" },
] as const;

/** ZF, PF and CF of an order: 0 greater, 1 less, 2 equal, 3 unordered; the other flags become 0. */
export function setOrder(o: Ops, order: I32): void {
  const { f } = o;
  const unordered = f.let(order.eq(3));
  // A result of 0 has even parity, which "equal" must not have: its bit 1 inverts PF, and is taken from "unordered".
  const word = f.let(order.xor(unordered.shl(1)));
  o.setFlagWords(order.ltU(2).extU(), word.extU().shl(63), word);
}
for (const { fmt, prefix, size, letter } of FORMATS) {
  for (const [name, opcode, signaling] of [
    ["UCOMIS", "2e", 0],
    ["COMIS", "2f", 1],
  ] as const) {
    define(`${name}${letter}`, `${prefix} 0f ${opcode} V${size},W${size}`, (o, i) => {
      needSse(o);
      const { f } = o;
      const b = i.operands[1].read();
      const a = i.operands[0].read();
      const order = f.var("i32");
      f.if(
        isOrdered(o, a, fmt)
          .and(isOrdered(o, b, fmt))
          .and(noDaz(o)),
        () => order.set(compareFloats(f, "lt", a, b, fmt).or(compareFloats(f, "eq", a, b, fmt).shl(1))),
        () => order.set(lanes(o, () => o.call<"i32">(`sseOrder${fmt.bits}`, i32(signaling), a, b))),
      );
      setOrder(o, order.get());
    });
  }
}

// ROUND: bits 0–1 of the immediate round, unless bit 2 leaves that to MXCSR; bit 3 keeps PE quiet

function roundLane(o: Ops, fmt: Format, imm: I32, value: I64): I64 {
  const { f } = o;
  const x = f.let(asFloat(f, value, fmt));
  const rounded = (name: string) => f.op(`f${fmt.bits}.${name}`, x);
  const down = f.select(imm.and(1), rounded("floor"), rounded("nearest"));
  const up = f.select(imm.and(1), rounded("trunc"), rounded("ceil"));
  const r = f.var("i64", asBits(f, f.select(imm.and(2), up, down), fmt));
  const quiet = imm.and(12).eq(8);
  f.if(isOrdered(o, value, fmt).and(quiet).eqz(), () =>
    r.set(lanes(o, () => o.call<"i64">(`sseRound${fmt.bits}`, imm, value))),
  );
  return r.get();
}
for (const { fmt, size, letter } of FORMATS) {
  const double = fmt === DOUBLE;
  define(`ROUNDS${letter}`, `66 0f3a ${double ? "0b" : "0a"} V${size},W${size},Ib`, (o, i) => {
    needSse(o);
    i.operands[0].write(roundLane(o, fmt, i.imm(), i.operands[1].read()));
  });
  define(`ROUNDP${letter}`, `66 0f3a ${double ? "09" : "08"} Vx,Wx,Ib`, (o, i) => {
    needSse(o);
    const { f } = o;
    const v = source128(o, i, i.operands[1]);
    const imm = i.imm();
    const helper = `sseRound${fmt.bits}`;
    if (double) {
      const [a, b] = lanes(o, () => [low(o, v), high(o, v)].map((x) => o.call<"i64">(helper, imm, x)));
      return i.operands[0].writeV(vector(o, a, b));
    }
    const words = lanes(o, () =>
      [0, 1, 2, 3].map((k) => o.call<"i64">(helper, imm, f.lane<"i32">("i32x4.extract_lane", k, v).extU()).wrap()),
    );
    let r = f.op<"v128">("i32x4.splat", words[0]);
    for (let k = 1; k < 4; k++) r = f.lane<"v128">("i32x4.replace_lane", k, r, words[k]);
    i.operands[0].writeV(r);
  });
}

// Dot products: bits 4–7 of the immediate choose the products, bits 0–3 where the sum goes

/** All ones in the lanes whose bit of `bits` is set. */
function laneMask(o: Ops, fmt: Format, bits: I32): V128 {
  const { f } = o;
  const bytes = fmt.bits / 8;
  const own = v128(Uint8Array.from({ length: 16 }, (_, k) => 1 << Math.floor(k / bytes)));
  const chosen = f.op<"v128">("v128.and", f.op("i8x16.splat", bits), own);
  return f.let(f.op<"v128">("i8x16.ne", chosen, v128(new Uint8Array(16))));
}
function dotProduct(o: Ops, i: Instruction, fmt: Format): void {
  needSse(o);
  const { f } = o;
  const b = source128(o, i, i.operands[1]);
  const imm = i.imm();
  const taken = laneMask(o, fmt, f.let(imm.shrU(4)));
  const a = i.operands[0].readV();
  // 0 · 0 raises nothing.
  const products = packedSlow(
    o,
    fmt,
    i32(LaneOp.mul),
    f.let(f.op<"v128">("v128.and", a, taken)),
    f.let(f.op<"v128">("v128.and", b, taken)),
  );
  const zero = v128(new Uint8Array(16));
  const sum =
    fmt === DOUBLE
      ? packedSlow(o, fmt, i32(LaneOp.add), vector(o, low(o, products)), vector(o, high(o, products)))
      : sumOfFour(o, products, zero);
  const bytes = fmt.bits / 8;
  const spread = f.shuffle(
    Array.from({ length: 16 }, (_, k) => k % bytes),
    sum,
    sum,
  );
  i.operands[0].writeV(f.op("v128.and", spread, laneMask(o, fmt, imm)));
}
/** (v0 + v1) + (v2 + v3) in lane 0. */
function sumOfFour(o: Ops, v: V128, zero: V128): V128 {
  const { f } = o;
  const lane = (k: number) => [4 * k, 4 * k + 1, 4 * k + 2, 4 * k + 3];
  const pairs = (p: number, q: number) => f.let(f.shuffle([...lane(p), ...lane(q), ...lane(4), ...lane(4)], v, zero));
  const halves = packedSlow(o, SINGLE, i32(LaneOp.add), pairs(0, 2), pairs(1, 3));
  const first = (k: number) => f.let(f.shuffle([...lane(k), ...lane(4), ...lane(4), ...lane(4)], halves, zero));
  return packedSlow(o, SINGLE, i32(LaneOp.add), first(0), first(1));
}
define("DPPS", "66 0f3a 40 Vx,Wx,Ib", (o, i) => dotProduct(o, i, SINGLE));
define("DPPD", "66 0f3a 41 Vx,Wx,Ib", (o, i) => dotProduct(o, i, DOUBLE));

// Approximations: here they are as exact as a float can be, well within 1.5 · 2^−12. Denormals count as zero and become zero.

const all = (bits: number): V128 => v128(new Uint8Array(new Uint32Array(4).fill(bits).buffer));
function approximate(o: Ops, x: V128, root: boolean): V128 {
  const { f } = o;
  const one = all(0x3f800000);
  const minNormal = all(0x00800000);
  const abs = f.let(f.op<"v128">("f32x4.abs", x));
  const sign = f.let(f.op<"v128">("v128.and", x, all(0x80000000)));
  const tiny = f.op<"v128">("f32x4.lt", abs, minNormal);
  const r = f.var("v128", f.op<"v128">("f32x4.div", one, root ? f.op("f32x4.sqrt", x) : x));
  const choose = (mask: V128, value: V128) => r.set(f.op("v128.bitselect", value, r.get(), mask));
  if (root) choose(f.op("f32x4.lt", x, all(0)), all(0xffc00000));
  else choose(f.op("f32x4.lt", f.op("f32x4.abs", r.get()), minNormal), sign);
  choose(tiny, f.op("v128.or", sign, all(0x7f800000)));
  choose(f.op("f32x4.ne", x, x), f.op("v128.or", x, all(0x00400000)));
  return r.get();
}
for (const [name, opcode, root] of [
  ["RSQRT", "52", true],
  ["RCP", "53", false],
] as const) {
  define(`${name}PS`, `np 0f ${opcode} Vx,Wx`, (o, i) => {
    needSse(o);
    i.operands[0].writeV(approximate(o, source128(o, i, i.operands[1]), root));
  });
  define(`${name}SS`, `f3 0f ${opcode} Vd,Wd`, (o, i) => {
    needSse(o);
    i.operands[0].write(low(o, approximate(o, vector(o, i.operands[1].read()), root)));
  });
}
