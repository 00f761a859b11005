import type { Fn, I32, I64, V128, Var } from "@xenoserver/wasm";
import { State } from "../state/layout.ts";
import type { PlacedInstruction } from "./region.ts";

/**
 * XMM registers of the block that is being translated, in locals as far as they are used more than once. The state always has them
 * too: what is written is stored at once, so that leaving costs nothing. But a store that is read again right away costs some five
 * cycles, in each step of a chain of dependent instructions.
 */
export class VectorRegisters {
  private readonly f: Fn;
  private readonly vb: I32;
  private readonly locals = new Map<number, Var<"v128">>();
  /** Registers of this block that are worth a local, and those whose local has the value, whatever path led there. */
  private readonly kept = new Set<number>();
  private readonly known = new Set<number>();

  constructor(f: Fn, vb: I32) {
    this.f = f;
    this.vb = vb;
  }

  /** To be called outside of scopes: locals that are made here last for the function. */
  beginBlock(instructions: readonly PlacedInstruction[]): void {
    this.known.clear();
    this.kept.clear();
    const once = new Set<number>();
    for (const { d } of instructions)
      for (const operand of d.operands) {
        if (operand.kind !== "xmm") continue;
        if (once.has(operand.reg)) this.keep(operand.reg);
        once.add(operand.reg);
      }
  }
  private keep(reg: number): void {
    if (!this.locals.has(reg)) this.locals.set(reg, this.f.var("v128"));
    this.kept.add(reg);
  }
  /** The state's registers were changed by something else. */
  forget(): void {
    this.known.clear();
  }

  /** @param isConditional what is emitted now runs on some paths only */
  read(reg: number, isConditional: boolean): V128 {
    const { f } = this;
    const local = this.localOf(reg, isConditional);
    // A value that later changes of the variable do not reach.
    return local ? f.var("v128", local.get()).get() : f.let(this.load(reg));
  }
  /** The low 1, 2, 4 or 8 bytes, zero-extended. */
  readLow(reg: number, width: number, isConditional: boolean): I64 {
    const { f } = this;
    const local = width >= 4 ? this.localOf(reg, isConditional) : undefined;
    if (!local) return f.let(f.load<"i64">(width >= 8 ? "i64.load" : `i64.load${width * 8}_u`, this.vb, placeOf(reg)));
    if (width >= 8) return f.let(f.lane<"i64">("i64x2.extract_lane", 0, local.get()));
    return f.let(f.lane<"i32">("i32x4.extract_lane", 0, local.get()).extU());
  }
  write(reg: number, value: V128, isConditional: boolean): void {
    const { f } = this;
    const local = this.locals.get(reg);
    const isKnown = this.known.has(reg);
    if (!local || !this.kept.has(reg) || (isConditional && !isKnown))
      return f.store("v128.store", this.vb, value, placeOf(reg));
    local.set(value);
    f.store("v128.store", this.vb, local.get(), placeOf(reg));
    this.known.add(reg);
  }
  /** Replaces the low 1, 2, 4 or 8 bytes. */
  writeLow(reg: number, width: number, value: I64): void {
    const { f } = this;
    const low = f.let(value);
    f.store(width >= 8 ? "i64.store" : `i64.store${width * 8}`, this.vb, low, placeOf(reg));
    if (!this.known.has(reg)) return;
    const local = this.locals.get(reg)!;
    const lane = { 1: "i8x16", 2: "i16x8", 4: "i32x4", 8: "i64x2" }[width];
    local.set(f.lane(`${lane}.replace_lane`, 0, local.get(), width === 8 ? low : low.wrap()));
  }

  private load(reg: number): V128 {
    return this.f.load<"v128">("v128.load", this.vb, placeOf(reg));
  }
  /** The register's local with its value in it, if it is kept in one. */
  private localOf(reg: number, isConditional: boolean): Var<"v128"> | undefined {
    const local = this.kept.has(reg) ? this.locals.get(reg)! : undefined;
    if (!local || this.known.has(reg)) return local;
    if (isConditional) return undefined;
    local.set(this.load(reg));
    this.known.add(reg);
    return local;
  }
}

const placeOf = (reg: number): number => State.xmm + reg * 16;
