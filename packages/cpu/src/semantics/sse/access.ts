import { type I64, i32, i64, type V128 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import type { Instruction, Operand } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { MMX } from "../units.ts";
import { needSse } from "./control.ts";

/** How SSE and MMX instructions reach their operands. */

/** A vector of two 64-bit halves. */
export function vector(o: Ops, lo: I64, hi: I64 = i64(0)): V128 {
  const { f } = o;
  return f.let(f.lane<"v128">("i64x2.replace_lane", 1, f.op<"v128">("i64x2.splat", lo), hi));
}
export const low = (o: Ops, v: V128): I64 => o.f.let(o.f.lane<"i64">("i64x2.extract_lane", 0, v));
export const high = (o: Ops, v: V128): I64 => o.f.let(o.f.lane<"i64">("i64x2.extract_lane", 1, v));

/** A 128-bit source; in memory it must be aligned, as for all but the explicitly unaligned instructions. */
export function source128(o: Ops, i: Instruction, operand: Operand): V128 {
  if (operand.kind === "mem") needAligned(o, i);
  return operand.readV();
}
export function needAligned(o: Ops, i: Instruction): void {
  o.f.if(i.address().wrap().and(15), () => o.raise(13));
}

/** MMX: #UD or #NM as for x87, and #MF for an exception that waits. */
export function needMmx(o: Ops): void {
  o.needUnit(MMX);
  o.f.if(o.state32(State.fpuStatus).and(0x80), () => o.raise(16));
}
/** An MMX instruction makes all registers valid and the stack's top register 0. */
export function enterMmx(o: Ops): void {
  o.setState32(State.fpuTop, i32(0));
  o.setState32(State.fpuEmpty, i32(0));
}

type Compute = (o: Ops, a: V128, b: V128, i: Instruction) => V128;

/** `dst = compute(dst, src)` on XMM registers. */
export function binary128(compute: Compute): (o: Ops, i: Instruction) => void {
  return (o, i) => {
    needSse(o);
    const [dst, src] = i.operands;
    const b = source128(o, i, src);
    dst.writeV(compute(o, dst.readV(), b, i));
  };
}
/** The same on MMX registers; `compute` sees them as the low half of a vector and its low half is the result. */
export function binary64(compute: Compute): (o: Ops, i: Instruction) => void {
  return (o, i) => {
    needMmx(o);
    const [dst, src] = i.operands;
    const b = vector(o, src.read());
    enterMmx(o);
    dst.write(low(o, o.f.let(compute(o, vector(o, dst.read()), b, i))));
  };
}
