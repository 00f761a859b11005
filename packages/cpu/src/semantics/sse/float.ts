import type { I32, I64, V128 } from "@xenoserver/wasm";
import { i32, i64, v128 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { asBits, asFloat, compareFloats, DOUBLE, type Format, SINGLE } from "../float/number.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { source128 } from "./access.ts";
import { needSse } from "./control.ts";
import {
  allFinite,
  allInside,
  isBounded,
  isInside,
  isOrdered,
  noDaz,
  noneDenormal,
  noneNan,
  notDenormal,
  plainControl,
} from "./fast.ts";
import { LaneOp } from "./lanes.ts";

/** SSE, SSE2 and SSE3 arithmetic and comparisons on lanes. */

/** Leaves if a helper met an exception that is not masked. */
export function leaveIfTrapped(o: Ops): void {
  o.f.if(o.state32(State.fpTrap), () => o.leaveFaulted());
}
const shape = (fmt: Format): string => (fmt.bits === 64 ? "f64x2" : "f32x4");

/** The scalar operation in full; leaves if it traps. */
function scalarSlow(o: Ops, fmt: Format, op: I32, a: I64, b: I64): I64 {
  const r = o.call<"i64">(`sseScalar${fmt.bits}`, op, a, b);
  leaveIfTrapped(o);
  return r;
}
export function packedSlow(o: Ops, fmt: Format, op: I32, a: V128, b: V128): V128 {
  const r = o.call<"v128">(`ssePacked${fmt.bits}`, op, a, b);
  leaveIfTrapped(o);
  return r;
}

const PREFIXES = [
  { fmt: SINGLE, scalar: "f3", packed: "np", letter: "S", size: "d" },
  { fmt: DOUBLE, scalar: "f2", packed: "66", letter: "D", size: "q" },
] as const;

/** How an operation is done natively, and when the result shows that this was right. */
interface Arithmetic {
  readonly name: string;
  readonly opcode: string;
  readonly op: number;
  readonly native: string;
  /** Results that cannot hide an exception: finite ones, or those that are not near underflow either. */
  readonly result: "finite" | "inside";
  readonly unary?: boolean;
}
const ARITHMETIC: readonly Arithmetic[] = [
  { name: "ADD", opcode: "58", op: LaneOp.add, native: "add", result: "finite" },
  { name: "MUL", opcode: "59", op: LaneOp.mul, native: "mul", result: "inside" },
  { name: "SUB", opcode: "5c", op: LaneOp.sub, native: "sub", result: "finite" },
  { name: "DIV", opcode: "5e", op: LaneOp.div, native: "div", result: "inside" },
  { name: "SQRT", opcode: "51", op: LaneOp.sqrt, native: "sqrt", result: "finite", unary: true },
];

function scalarArithmetic(o: Ops, i: Instruction, fmt: Format, arithmetic: Arithmetic): void {
  const { f } = o;
  const [dst, src] = i.operands;
  const b = src.read();
  const a = arithmetic.unary ? b : dst.read();
  const operands = (arithmetic.unary ? [b] : [a, b]).map((x) => asFloat(f, x, fmt));
  const r = f.var("i64", asBits(f, f.op(`f${fmt.bits}.${arithmetic.native}`, operands[0], operands[1]), fmt));
  const good = arithmetic.result === "finite" ? isBounded(r.get(), fmt) : isInside(r.get(), fmt);
  const normal = arithmetic.unary ? notDenormal(b, fmt) : notDenormal(a, fmt).and(notDenormal(b, fmt));
  f.if(plainControl(o).and(good).and(normal).eqz(), () => r.set(scalarSlow(o, fmt, i32(arithmetic.op), a, b)));
  dst.write(r.get());
}
function packedArithmetic(o: Ops, fmt: Format, arithmetic: Arithmetic, a: V128, b: V128): V128 {
  const { f } = o;
  const native = `${shape(fmt)}.${arithmetic.native}`;
  const r = f.var("v128", arithmetic.unary ? f.op<"v128">(native, b) : f.op<"v128">(native, a, b));
  const good = arithmetic.result === "finite" ? allFinite(o, r.get(), fmt) : allInside(o, r.get(), fmt);
  const normal = noneDenormal(o, arithmetic.unary ? [b] : [a, b], fmt);
  f.if(plainControl(o).and(good).and(normal).eqz(), () => r.set(packedSlow(o, fmt, i32(arithmetic.op), a, b)));
  return r.get();
}
for (const arithmetic of ARITHMETIC) {
  for (const { fmt, scalar, packed, letter, size } of PREFIXES) {
    define(`${arithmetic.name}S${letter}`, `${scalar} 0f ${arithmetic.opcode} V${size},W${size}`, (o, i) => {
      needSse(o);
      scalarArithmetic(o, i, fmt, arithmetic);
    });
    define(`${arithmetic.name}P${letter}`, `${packed} 0f ${arithmetic.opcode} Vx,Wx`, (o, i) => {
      needSse(o);
      const b = source128(o, i, i.operands[1]);
      i.operands[0].writeV(packedArithmetic(o, fmt, arithmetic, i.operands[0].readV(), b));
    });
  }
}

// MIN and MAX give the second operand of equal ones: the host's pseudo-minimum with its operands exchanged

for (const [name, opcode, op, native] of [
  ["MIN", "5d", LaneOp.min, "pmin"],
  ["MAX", "5f", LaneOp.max, "pmax"],
] as const) {
  for (const { fmt, scalar, packed, letter, size } of PREFIXES) {
    define(`${name}S${letter}`, `${scalar} 0f ${opcode} V${size},W${size}`, (o, i) => {
      needSse(o);
      const { f } = o;
      const [dst, src] = i.operands;
      const b = src.read();
      const a = dst.read();
      const comparison = compareFloats(f, name === "MIN" ? "lt" : "gt", a, b, fmt);
      const r = f.var("i64", f.select(comparison, a, b));
      const ordered = isOrdered(o, a, fmt).and(isOrdered(o, b, fmt));
      f.if(ordered.and(noDaz(o)).eqz(), () => r.set(scalarSlow(o, fmt, i32(op), a, b)));
      dst.write(r.get());
    });
    define(`${name}P${letter}`, `${packed} 0f ${opcode} Vx,Wx`, (o, i) => {
      needSse(o);
      const { f } = o;
      const b = source128(o, i, i.operands[1]);
      const a = i.operands[0].readV();
      const r = f.var("v128", f.op<"v128">(`${shape(fmt)}.${native}`, b, a));
      f.if(
        noneNan(o, a, b, fmt)
          .and(noneDenormal(o, [a, b], fmt))
          .and(noDaz(o))
          .eqz(),
        () => r.set(packedSlow(o, fmt, i32(op), a, b)),
      );
      i.operands[0].writeV(r.get());
    });
  }
}

// Comparisons that give masks

for (const { fmt, scalar, packed, letter, size } of PREFIXES) {
  define(`CMPS${letter}`, `${scalar} 0f c2 V${size},W${size},Ib`, (o, i) => {
    needSse(o);
    const { f } = o;
    const [dst, src] = i.operands;
    const b = src.read();
    const a = dst.read();
    const predicate = f.let(i.imm().and(7));
    const r = f.var("i64");
    f.if(
      isOrdered(o, a, fmt)
        .and(isOrdered(o, b, fmt))
        .and(noDaz(o)),
      () => r.set(i64(0).sub(holds(o, fmt, predicate, a, b).extU())),
      () => r.set(scalarSlow(o, fmt, predicate.or(LaneOp.compare), a, b)),
    );
    dst.write(r.get());
  });
  define(`CMPP${letter}`, `${packed} 0f c2 Vx,Wx,Ib`, (o, i) => {
    needSse(o);
    const { f } = o;
    const b = source128(o, i, i.operands[1]);
    const a = i.operands[0].readV();
    const predicate = f.let(i.imm().and(7));
    const r = f.var("v128");
    f.if(
      noneNan(o, a, b, fmt)
        .and(noneDenormal(o, [a, b], fmt))
        .and(noDaz(o)),
      () => r.set(compareOrdered(o, fmt, predicate, a, b)),
      () => r.set(packedSlow(o, fmt, predicate.or(LaneOp.compare), a, b)),
    );
    i.operands[0].writeV(r.get());
  });
}
/** Predicates 0–3 are equal, less, less or equal, unordered; bit 2 negates. 1 if the predicate holds of two ordered numbers. */
function holds(o: Ops, fmt: Format, predicate: I32, a: I64, b: I64): I32 {
  const { f } = o;
  const kind = f.let(predicate.and(3));
  const equal = compareFloats(f, "eq", a, b, fmt);
  const less = compareFloats(f, "lt", a, b, fmt);
  const counts = (bits: number) => i32(bits).shrU(kind).and(1);
  return f.let(
    equal
      .and(counts(0b101))
      .or(less.and(counts(0b110)))
      .xor(predicate.shrU(2)),
  );
}
/** The same for each lane, as a mask. */
function compareOrdered(o: Ops, fmt: Format, predicate: I32, a: V128, b: V128): V128 {
  const { f } = o;
  const kind = f.let(predicate.and(3));
  const compare = (name: string) => f.op<"v128">(`${shape(fmt)}.${name}`, a, b);
  const never = v128(new Uint8Array(16));
  const less = f.select(kind.eq(1), compare("lt"), f.select(kind.eq(2), compare("le"), never));
  const holds = f.select(kind.eqz(), compare("eq"), less);
  const negate = f.op<"v128">("i32x4.splat", i32(0).sub(predicate.shrU(2)));
  return f.op("v128.xor", holds, negate);
}

// SSE3: alternating and horizontal sums

const ADD = ARITHMETIC[0];
const SUB = ARITHMETIC[2];
/** Bytes of the elements of a:b that stand at even places, or at odd ones. */
function everyOther(fmt: Format, odd: number): number[] {
  const bytes = fmt.bits / 8;
  const elements = Array.from({ length: 16 / bytes }, (_, k) => 2 * k + odd);
  return elements.flatMap((e) => Array.from({ length: bytes }, (_, k) => e * bytes + k));
}
for (const [prefix, fmt, letter] of [
  ["f2", SINGLE, "S"],
  ["66", DOUBLE, "D"],
] as const) {
  define(`ADDSUBP${letter}`, `${prefix} 0f d0 Vx,Wx`, (o, i) => {
    needSse(o);
    const b = source128(o, i, i.operands[1]);
    i.operands[0].writeV(packedSlow(o, fmt, i32(LaneOp.addSub), i.operands[0].readV(), b));
  });
  for (const [name, opcode, arithmetic] of [
    ["HADD", "7c", ADD],
    ["HSUB", "7d", SUB],
  ] as const) {
    define(`${name}P${letter}`, `${prefix} 0f ${opcode} Vx,Wx`, (o, i) => {
      needSse(o);
      const { f } = o;
      const b = source128(o, i, i.operands[1]);
      const a = i.operands[0].readV();
      const even = f.let(f.shuffle(everyOther(fmt, 0), a, b));
      const odd = f.let(f.shuffle(everyOther(fmt, 1), a, b));
      i.operands[0].writeV(packedArithmetic(o, fmt, arithmetic, even, odd));
    });
  }
}
