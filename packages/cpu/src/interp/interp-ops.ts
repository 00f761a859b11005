import { type Fn, type I32, type I64, i32, i64, type V128, type Var } from "@xenoserver/wasm";
import { type Decoded, type DecodedOperand, Seg } from "../decode/decoded.ts";
import { bitsOf, type FlagRecipe, type Instruction, type Operand, type Width } from "../semantics/instruction.ts";
import { CodeMode, RECORD_BYTES, Slot, State } from "../state/layout.ts";
import { Vector } from "../system/faults.ts";
import { type AccessHelpers, CallingOps } from "./calling-ops.ts";
import { AddressRecord, Field, HandlerStatus, INTERRUPTS_OPENED, OFFSET_MASK, SCALE_SHIFT } from "./record.ts";

/** A segment may be written if it is no code and has its write bit. */
const ATTR_CODE_OR_WRITABLE = 10;
const ATTR_WRITABLE = 2;

/** How a handler leaves; the main loop's inline handlers and separate functions differ only in this. */
export interface HandlerExits {
  fault(): void;
  /** Looks up the trace at a linear address and goes on there. */
  redirect(linear: I64): void;
  /** Takes a direct branch: to the linked record, or by look-up of pageVa + disp. */
  follow(): void;
  /** Lets the host program execute the record's instruction. */
  toHost(): void;
}

/** `Ops` whose operands are fields of the record at `pc`. */
export class InterpOps extends CallingOps {
  readonly pc: Var<"i32"> | { get(): I32 };
  private readonly exits: HandlerExits;
  private readonly legacyIp: boolean;
  private readonly instruction: Decoded;

  constructor(
    f: Fn,
    vb: I32,
    helpers: AccessHelpers,
    pc: { get(): I32 },
    exits: HandlerExits,
    d: Decoded,
    codeMode: number,
  ) {
    super(f, vb, helpers);
    this.pc = pc;
    this.exits = exits;
    this.instruction = d;
    this.legacyIp = (codeMode & CodeMode.sizeMask) !== CodeMode.code64;
  }

  field8(field: number): I32 {
    return this.f.load<"i32">("i32.load8_u", this.pc.get(), field);
  }
  field32(field: number): I32 {
    return this.f.load<"i32">("i32.load", this.pc.get(), field);
  }
  /** Value of the slot that a field names. */
  slot(field: number): I64 {
    return this.f.load<"i64">("i64.load", this.vb.add(this.field8(field)));
  }

  override getGpr(reg: number): I64 {
    return this.state64(reg * 8);
  }
  override setGpr(reg: number, value: I64): void {
    this.setState64(reg * 8, value);
  }
  override readGpr(reg: number, width: number): I64 {
    return this.f.let(this.f.load<"i64">(width === 8 ? "i64.load" : `i64.load${width * 8}_u`, this.vb, reg * 8));
  }
  override readGprS(reg: number, width: number): I64 {
    return this.f.let(this.f.load<"i64">(width === 8 ? "i64.load" : `i64.load${width * 8}_s`, this.vb, reg * 8));
  }
  override writeGpr(reg: number, width: number, value: I64): void {
    if (width >= 4) this.f.store("i64.store", this.vb, value.zeroExtend(bitsOf(width)), reg * 8);
    else this.f.store(`i64.store${width * 8}`, this.vb, value, reg * 8);
  }
  override readHigh(reg: number): I64 {
    return this.f.let(this.f.load<"i64">("i64.load8_u", this.vb, reg * 8 + 1));
  }
  override writeHigh(reg: number, value: I64): void {
    this.f.store("i64.store8", this.vb, value, reg * 8 + 1);
  }

  override setFlags(recipe: FlagRecipe): void {
    const words = this.flagWords(recipe);
    this.setFlagWords(words.res, words.carries, words.cf);
  }
  override flagWord(which: "res" | "carries"): I64 {
    return this.f.load<"i64">("i64.load", this.vb, which === "res" ? State.flagRes : State.flagCarries);
  }
  override flagCf(): I32 {
    return this.f.load<"i32">("i32.load", this.vb, State.flagCf);
  }
  override setFlagWords(res: I64, carries: I64, cf: I32): void {
    const { f } = this;
    // All three may be computed from the old ones.
    const [r, c, carry] = [f.let(res), f.let(carries), f.let(cf)];
    f.store("i64.store", this.vb, r, State.flagRes);
    f.store("i64.store", this.vb, c, State.flagCarries);
    f.store("i32.store", this.vb, carry, State.flagCf);
  }

  override leaveFaulted(): void {
    this.exits.fault();
  }

  /** Linear address of this record's instruction, plus `skip`. */
  private ownAddress(record: I32): I64 {
    return this.state64(Slot.pageVa).add(
      this.f.load<"i32">("i32.load16_u", record, Field.place).and(OFFSET_MASK).extU(),
    );
  }
  private toIp(linear: I64): I64 {
    return this.legacyIp ? linear.sub(this.state64(Slot.segBase + 8)).and(this.const64(-1, 0)) : linear;
  }
  /** An instruction pointer wraps at the operand size. */
  private toOffset(ip: I64): I64 {
    return ip.and(this.instruction.operandSize === 2 ? i64(0xffff) : this.const64(-1, 0));
  }
  private toLinear(ip: I64): I64 {
    if (!this.legacyIp) return ip;
    return this.toOffset(ip)
      .add(this.state64(Slot.segBase + 8))
      .and(this.const64(-1, 0));
  }
  override ownIp(): I64 {
    return this.f.let(this.toIp(this.ownAddress(this.pc.get())));
  }
  override nextIp(): I64 {
    return this.f.let(this.toIp(this.ownAddress(this.pc.get().add(16))));
  }
  override needTarget(ip?: I64, condition?: I32): void {
    if (!this.legacyIp) return;
    const { f } = this;
    const limit = f.load<"i64">("i64.load32_u", this.vb, State.segLimit + Seg.cs * 4);
    const beyond = this.toOffset(ip ?? this.relativeTarget()).gtU(limit);
    f.if(condition ? beyond.and(condition) : beyond, () => this.raise(Vector.gp), undefined, false);
  }
  override jumpTo(ip: I64): void {
    this.needTarget(ip);
    this.exits.redirect(this.toLinear(ip));
  }
  override jumpRelative(condition?: I32): void {
    if (condition) this.f.if(condition, () => this.take());
    else this.take();
  }
  private take(): void {
    if (!this.legacyIp) return this.exits.follow();
    const target = this.relativeTarget();
    this.needTarget(target);
    this.exits.redirect(this.toLinear(target));
  }
  private relativeTarget(): I64 {
    const target = this.state64(Slot.pageVa).add(this.field32(Field.disp).extS());
    return this.f.let(this.toIp(target));
  }
  override requestCheck(): void {
    this.setState32(State.instructionLimit, i32(INTERRUPTS_OPENED));
  }
  override restart(): void {
    this.exits.redirect(this.f.let(this.ownAddress(this.pc.get())));
  }
  override shouldPause(): I32 {
    return this.f.load<"i32">("i32.load", this.vb, State.instructionLimit).leU(INTERRUPTS_OPENED);
  }

  override checkSegment(segment: I32, offset: I64, size: number, kind: "read" | "write"): void {
    if (!this.legacyIp) return;
    const { f } = this;
    const write = i32(kind === "write" ? 1 : 0);
    const find = this.helpers.named("segmentFault");
    const vector = f.let(f.call<"i32">(find, this.vb, segment, offset, i32(size - 1), write));
    f.if(vector, () => {
      this.setState32(State.faultVector, vector);
      this.setState32(State.faultErrorCode, i32(0));
      this.leaveFaulted();
    });
  }
  override checkOperandWrite(): void {
    if (!this.legacyIp) return;
    // The record in front made the address; it knows the segment.
    const flags = this.f.load<"i32">("i32.load", this.pc.get().sub(RECORD_BYTES), Field.imm);
    const segment = this.f.let(flags.and(AddressRecord.segmentMask));
    const attr = this.f.load<"i32">("i32.load", segment.shl(2).add(this.vb), State.segAttr);
    const refuses = attr.and(ATTR_CODE_OR_WRITABLE).ne(ATTR_WRITABLE).and(this.state32(State.cr0));
    this.f.if(refuses.and(1), () => this.raise(13), undefined, false);
  }

  override leaveToHost(): void {
    this.exits.toHost();
  }

  bind(d: Decoded, codeMode: number, indexed: boolean): Instruction {
    return new RecordInstruction(this, d, codeMode, indexed);
  }
}

/** Binds the operands of a sample instruction to record fields; every instruction with the same handler key fits. */
class RecordInstruction implements Instruction {
  readonly name: string;
  readonly operands: readonly Operand[];
  readonly width: Width;
  readonly addressSize: number;
  readonly stackSize: number;
  readonly mode64: boolean;
  readonly lock: boolean;
  readonly isOfOneRegister = false;
  readonly rep: number;
  readonly opcodeLow: number;
  private readonly o: InterpOps;
  private readonly indexed: boolean;
  private linear: I64 | undefined;

  constructor(o: InterpOps, d: Decoded, codeMode: number, indexed: boolean) {
    this.o = o;
    this.indexed = indexed;
    this.name = d.def.name;
    this.width = d.operandSize as Width;
    this.addressSize = d.addressSize;
    this.mode64 = (codeMode & CodeMode.sizeMask) === CodeMode.code64;
    this.stackSize = this.mode64 ? 8 : codeMode & CodeMode.stack32 ? 4 : 2;
    this.lock = d.lock;
    this.rep = d.rep;
    this.opcodeLow = d.encoding.opcode & 15;
    let registers = 0;
    this.operands = d.operands.map((operand, position) => {
      const fixed = d.encoding.operands[position].kind === "fixed";
      if (operand.kind === "mem") return new MemoryBinding(o, this, operand.width);
      if (operand.kind === "imm") return new ImmediateBinding(o, operand.width, isWideImmediate(d));
      if (operand.kind === "gpr" && fixed) return new FixedBinding(o, operand);
      if (operand.kind !== "gpr" && operand.kind !== "xmm" && operand.kind !== "mmx")
        return new ImmediateBinding(o, operand.width, false);
      const field = registers++ === 0 ? Field.dst : Field.src;
      if (operand.kind === "xmm" || operand.kind === "mmx") return new VectorBinding(o, operand, field);
      return new RegisterBinding(o, operand, field);
    });
  }

  address(): I64 {
    if (!this.linear) {
      const { o } = this;
      let at = o.slot(Field.base);
      if (this.indexed) {
        const scale = o.f.load<"i32">("i32.load16_u", o.pc.get(), Field.place).shrU(SCALE_SHIFT).extU();
        at = at.add(o.slot(Field.index).shl(scale));
      }
      this.linear = o.f.let(at.add(o.field32(Field.disp).extS()));
    }
    return this.linear;
  }
  addressPast(bytes: I64): I64 {
    const { o } = this;
    const at = this.address();
    if (this.addressSize === 8) return at.add(bytes);
    // The record in front made the address; it knows the segment.
    const segment = o.f.load<"i32">("i32.load8_u", o.pc.get().sub(RECORD_BYTES), Field.dst);
    const base = o.f.let(o.f.load<"i64">("i64.load", o.vb.add(segment)));
    const moved = at.sub(base).add(bytes).zeroExtend(bitsOf(this.addressSize)).add(base);
    return this.mode64 ? moved : moved.zeroExtend(32);
  }
  segmentBase(): I64 {
    return this.o.f.let(this.o.slot(Field.base));
  }
  segmentNumber(): I32 {
    return this.o.f.let(this.o.field8(Field.base).sub(Slot.segBase).shrU(3));
  }
  imm(): I32 {
    return this.o.f.let(this.o.field32(Field.imm));
  }
  imm2(): I32 {
    return this.o.f.let(this.o.field32(Field.disp));
  }
}

/** A MOV of a 64-bit immediate keeps it in `disp` and `imm` together. */
export const isWideImmediate = (d: Decoded): boolean =>
  d.operandSize === 8 && d.encoding.operands.some((o) => o.text === "Iv");

class RegisterBinding implements Operand {
  readonly kind = "gpr";
  readonly width: number;
  private readonly o: InterpOps;
  private readonly at: I32;

  constructor(o: InterpOps, operand: DecodedOperand, field: number) {
    this.o = o;
    this.width = operand.width;
    this.at = o.f.let(o.vb.add(o.field8(field)));
  }
  private get name(): string {
    return this.width === 8 ? "" : String(this.width * 8);
  }
  read(): I64 {
    return this.o.f.let(this.o.f.load<"i64">(`i64.load${this.name && `${this.name}_u`}`, this.at));
  }
  readS(): I64 {
    return this.o.f.let(this.o.f.load<"i64">(`i64.load${this.name && `${this.name}_s`}`, this.at));
  }
  write(value: I64): void {
    if (this.width >= 4) this.o.f.store("i64.store", this.at, value.zeroExtend(bitsOf(this.width)));
    else this.o.f.store(`i64.store${this.name}`, this.at, value);
  }
  readV(): V128 {
    throw new Error("a general register is no vector");
  }
  writeV(): void {
    throw new Error("a general register is no vector");
  }
}

class FixedBinding implements Operand {
  readonly kind = "gpr";
  readonly width: number;
  private readonly o: InterpOps;
  private readonly reg: number;
  private readonly high: boolean;

  constructor(o: InterpOps, operand: DecodedOperand & { kind: "gpr" }) {
    this.o = o;
    this.width = operand.width;
    this.reg = operand.reg;
    this.high = operand.high;
  }
  read(): I64 {
    return this.high ? this.o.readHigh(this.reg) : this.o.readGpr(this.reg, this.width);
  }
  readS(): I64 {
    return this.high ? this.read().signExtend(8) : this.o.readGprS(this.reg, this.width);
  }
  write(value: I64): void {
    if (this.high) this.o.writeHigh(this.reg, value);
    else this.o.writeGpr(this.reg, this.width, value);
  }
  readV(): V128 {
    throw new Error("a general register is no vector");
  }
  writeV(): void {
    throw new Error("a general register is no vector");
  }
}

class MemoryBinding implements Operand {
  readonly kind = "mem";
  readonly width: number;
  private readonly o: InterpOps;
  private readonly i: Instruction;

  constructor(o: InterpOps, i: Instruction, width: number) {
    this.o = o;
    this.i = i;
    this.width = width;
  }
  read(): I64 {
    return this.o.load(this.i.address(), this.width);
  }
  readS(): I64 {
    return this.o.loadS(this.i.address(), this.width);
  }
  write(value: I64): void {
    this.o.checkOperandWrite();
    this.o.store(this.i.address(), this.width, value);
  }
  readV(): V128 {
    return this.o.loadV(this.i.address());
  }
  writeV(value: V128): void {
    this.o.checkOperandWrite();
    this.o.storeV(this.i.address(), value);
  }
}

class ImmediateBinding implements Operand {
  readonly kind = "imm";
  readonly width: number;
  private readonly o: InterpOps;
  private readonly wide: boolean;

  constructor(o: InterpOps, width: number, wide: boolean) {
    this.o = o;
    this.width = width;
    this.wide = wide;
  }
  readS(): I64 {
    const { f, pc } = this.o;
    if (this.wide) return f.let(f.load<"i64">("i64.load", pc.get(), Field.disp));
    return f.let(f.load<"i64">("i64.load32_s", pc.get(), Field.imm));
  }
  read(): I64 {
    return this.o.f.let(this.readS().zeroExtend(bitsOf(this.width)));
  }
  write(): void {
    throw new Error("an immediate cannot be written");
  }
  readV(): V128 {
    throw new Error("an immediate is no vector");
  }
  writeV(): void {
    throw new Error("an immediate cannot be written");
  }
}

/** An XMM register, or an MMX register (the significand of an x87 register). */
class VectorBinding implements Operand {
  readonly kind: string;
  readonly width: number;
  private readonly o: InterpOps;
  private readonly at: I32;
  private readonly offset: number;

  constructor(o: InterpOps, operand: DecodedOperand, field: number) {
    this.o = o;
    this.kind = operand.kind;
    this.width = operand.width;
    this.at = o.f.let(o.vb.add(o.field8(field)));
    this.offset = operand.kind === "xmm" ? State.xmm : State.fpr;
  }
  private get name(): string {
    return this.width >= 8 ? "" : String(this.width * 8);
  }
  /** The low `width` bytes, at most 8. */
  read(): I64 {
    return this.o.f.let(this.o.f.load<"i64">(`i64.load${this.name && `${this.name}_u`}`, this.at, this.offset));
  }
  readS(): I64 {
    return this.o.f.let(this.o.f.load<"i64">(`i64.load${this.name && `${this.name}_s`}`, this.at, this.offset));
  }
  /** Replaces the low `width` bytes, at most 8; the rest stays, but for an MMX register's exponent, which becomes all ones. */
  write(value: I64): void {
    this.o.f.store(`i64.store${this.name}`, this.at, value, this.offset);
    if (this.kind === "mmx") this.o.f.store("i32.store16", this.at, i32(0xffff), this.offset + 8);
  }
  readV(): V128 {
    return this.o.f.let(this.o.f.load<"v128">("v128.load", this.at, this.offset));
  }
  writeV(value: V128): void {
    this.o.f.store("v128.store", this.at, value, this.offset);
  }
}

/** The function form of the exits: a status for the main loop to act upon. */
export function functionExits(f: Fn, vb: I32, pc: I32): HandlerExits {
  const redirect = (linear: I64) => {
    f.store("i64.store", vb, linear, Slot.rip);
    f.return(i32(HandlerStatus.redirect));
  };
  return {
    fault: () => f.return(i32(HandlerStatus.fault)),
    redirect,
    toHost: () => f.return(i32(HandlerStatus.system)),
    follow: () => {
      const page = f.load<"i64">("i64.load", vb, Slot.pageVa);
      redirect(page.add(f.load<"i32">("i32.load", pc, Field.disp).extS()));
    },
  };
}
