import { type I32, type I64, i32, i64, i64Halves, type V128 } from "@xenoserver/wasm";
import type { Decoded, DecodedOperand } from "../decode/decoded.ts";
import { Seg } from "../decode/decoded.ts";
import { ignoresSegment, segmentSlot } from "../interp/address.ts";
import { bitsOf, type Instruction, type Operand, type Width } from "../semantics/instruction.ts";
import { State } from "../state/layout.ts";

import type { JitOps } from "./jit-ops.ts";

/** An instruction whose operands are known. */
export class JitInstruction implements Instruction {
  readonly name: string;
  readonly operands: readonly Operand[];
  readonly width: Width;
  readonly addressSize: number;
  readonly stackSize = 8;
  readonly mode64 = true;
  readonly lock: boolean;
  readonly isOfOneRegister: boolean;
  readonly rep: number;
  readonly opcodeLow: number;
  private readonly o: JitOps;
  private readonly d: Decoded;
  private readonly nextOffset: number;
  private linear: I64 | undefined;

  constructor(o: JitOps, d: Decoded, nextOffset: number) {
    this.o = o;
    this.d = d;
    this.nextOffset = nextOffset;
    this.name = d.def.name;
    this.width = d.operandSize as Width;
    this.addressSize = d.addressSize;
    this.lock = d.lock;
    const [first, second] = d.operands;
    this.isOfOneRegister =
      first?.kind === "gpr" && second?.kind === "gpr" && first.reg === second.reg && !first.high && !second.high;
    this.rep = d.encoding.options.has("a") ? d.rep : 0;
    this.opcodeLow = d.encoding.opcode & 15;
    this.operands = d.operands.map((operand) => new JitOperand(o, this, d, operand));
  }

  address(): I64 {
    // Rarely asked for more than where it is known to lie, and then at once.
    if (this.o.knowsPlace) return this.effectiveAddress();
    // A variable of its own: a bare base register may change before the address is used.
    this.linear ??= this.o.f.var("i64", this.effectiveAddress()).get();
    return this.linear;
  }
  addressPast(bytes: I64): I64 {
    return this.d.addressSize === 8 ? this.address().add(bytes) : this.effectiveAddress(bytes);
  }
  private effectiveAddress(past: I64 = i64(0)): I64 {
    const { o, d } = this;
    const m = d.memory!;
    if (m.ripRelative) return this.segmented(o.addressOf(this.nextOffset + m.disp).add(past));
    let at: I64 | undefined = m.base >= 0 ? o.peekGpr(m.base) : undefined;
    if (m.index >= 0) {
      const scaled = o.peekGpr(m.index).shl(m.scale);
      at = at ? at.add(scaled) : scaled;
    }
    const disp = i64Halves(m.disp, m.dispHi).add(past);
    return this.segmented(at ? at.add(disp) : disp);
  }
  private segmented(offset: I64): I64 {
    const { d, o } = this;
    const cut = d.addressSize === 4 ? offset.zeroExtend(32) : offset;
    const segment = d.memory!.segment;
    if (segment < Seg.fs || ignoresSegment(d)) return cut;
    return cut.add(o.f.load<"i64">("i64.load", o.vb, segmentSlot(segment)));
  }
  segmentNumber(): I32 {
    throw new Error("regions are made of 64-bit code, whose segments are not checked");
  }
  segmentBase(): I64 {
    const { d, o } = this;
    if (d.segmentOverride < Seg.fs) return i64(0);
    return o.state64(segmentSlot(d.segmentOverride));
  }
  imm(): I32 {
    const numbered = this.d.operands.find((operand) => operand.kind === "sreg" || operand.kind === "st");
    return i32(numbered && "reg" in numbered ? numbered.reg : immediateOf(this.d));
  }
  imm2(): I32 {
    return i32(this.d.imm2);
  }
}

/** The immediate, sign-extended from its own width. */
function immediateOf(d: Decoded): number {
  const width = d.operands.find((operand) => operand.kind === "imm")?.width ?? 4;
  return width === 1 ? (d.immLo << 24) >> 24 : width === 2 ? (d.immLo << 16) >> 16 : d.immLo;
}

class JitOperand implements Operand {
  readonly kind: string;
  readonly width: number;
  private readonly o: JitOps;
  private readonly i: JitInstruction;
  private readonly d: Decoded;
  private readonly operand: DecodedOperand;

  constructor(o: JitOps, i: JitInstruction, d: Decoded, operand: DecodedOperand) {
    this.o = o;
    this.i = i;
    this.d = d;
    this.operand = operand;
    this.kind = operand.kind;
    this.width = operand.width;
  }

  private immediate(): I64 {
    if (this.width === 8 && this.d.encoding.operands.some((spec) => spec.text === "Iv"))
      return i64Halves(this.d.immLo, this.d.immHi);
    return i64(immediateOf(this.d));
  }
  /** Where an MMX register lies in the state. */
  private get mmxAt(): number {
    const { operand } = this;
    if (operand.kind === "mmx") return State.fpr + operand.reg * 16;
    throw new Error(`operand ${operand.kind} of ${this.d.def.name} is no vector`);
  }

  read(): I64 {
    const { o, operand, width } = this;
    switch (operand.kind) {
      case "gpr":
        return operand.high ? o.readHigh(operand.reg) : o.readGpr(operand.reg, width);
      case "mem":
        return o.load(this.i.address(), width);
      case "imm":
        return width < 8 ? o.f.let(this.immediate().zeroExtend(bitsOf(width))) : this.immediate();
      case "xmm":
        return o.readXmmLow(operand.reg, width);
      default:
        return o.f.let(o.f.load<"i64">(width >= 8 ? "i64.load" : `i64.load${width * 8}_u`, o.vb, this.mmxAt));
    }
  }
  readS(): I64 {
    const { o, operand, width } = this;
    switch (operand.kind) {
      case "gpr":
        return operand.high ? o.f.let(o.readHigh(operand.reg).signExtend(8)) : o.readGprS(operand.reg, width);
      case "mem":
        return o.loadS(this.i.address(), width);
      case "imm":
        return this.immediate();
      case "xmm":
        return o.f.let(o.readXmmLow(operand.reg, width).signExtend(bitsOf(Math.min(width, 8))));
      default:
        return o.f.let(o.f.load<"i64">(width >= 8 ? "i64.load" : `i64.load${width * 8}_s`, o.vb, this.mmxAt));
    }
  }
  write(value: I64): void {
    const { o, operand, width } = this;
    switch (operand.kind) {
      case "gpr":
        if (operand.high) o.writeHigh(operand.reg, value);
        else o.writeGpr(operand.reg, width, value);
        return;
      case "mem":
        return o.store(this.i.address(), width, value);
      case "imm":
        throw new Error("an immediate cannot be written");
      case "xmm":
        return o.writeXmmLow(operand.reg, Math.min(width, 8), value);
      default:
        o.f.store(width >= 8 ? "i64.store" : `i64.store${width * 8}`, o.vb, value, this.mmxAt);
        o.f.store("i32.store16", o.vb, i32(0xffff), this.mmxAt + 8);
    }
  }
  readV(): V128 {
    if (this.kind === "mem") return this.o.loadV(this.i.address());
    if (this.operand.kind === "xmm") return this.o.readXmm(this.operand.reg);
    return this.o.f.let(this.o.f.load<"v128">("v128.load", this.o.vb, this.mmxAt));
  }
  writeV(value: V128): void {
    if (this.kind === "mem") return this.o.storeV(this.i.address(), value);
    if (this.operand.kind === "xmm") return this.o.writeXmm(this.operand.reg, value);
    this.o.f.store("v128.store", this.o.vb, value, this.mmxAt);
  }
}
