import {
  type Address,
  type Callee,
  constant,
  type Fn,
  type I32,
  type I64,
  i32,
  i64,
  i64Halves,
  type Label,
  type V128,
  type Val,
  type ValType,
} from "@xenoserver/wasm";
import { emitTlbLookup } from "../mmu/tlb.ts";
import { Slot, State, Tlb } from "../state/layout.ts";
import { Flag } from "./flags.ts";

/** Operand widths in bytes. */
export type Width = 1 | 2 | 4 | 8;
export const bitsOf = (width: number): 8 | 16 | 32 | 64 => (width * 8) as 8 | 16 | 32 | 64;

/**
 * One operand. Integers travel as i64: `read` zero-extends, `readS` sign-extends the operand's width, `write` takes the low
 * bits. Reads happen at the call, so a value read before a write stays what it was.
 */
export interface Operand {
  readonly kind: string;
  readonly width: number;
  read(): I64;
  readS(): I64;
  write(value: I64): void;
  /** XMM, or 16 bytes of memory. */
  readV(): V128;
  writeV(value: V128): void;
}

/** The instruction that semantics are asked to emit, with operands already bound to registers, memory and immediates. */
export interface Instruction {
  readonly name: string;
  readonly operands: readonly Operand[];
  /** Operand size in bytes. */
  readonly width: Width;
  /** Address size in bytes: 2, 4 or 8. */
  readonly addressSize: number;
  /** Bytes of the stack pointer that count: 8 in 64-bit mode. */
  readonly stackSize: number;
  readonly mode64: boolean;
  readonly lock: boolean;
  /** 0, 0xf2 or 0xf3. */
  readonly rep: number;
  /** Linear address of the memory operand. */
  address(): I64;
  /**
   * Linear address so many bytes behind the memory operand, in its segment; wraps as the address size says. Only for
   * encodings marked `a`, which have handlers for each address size.
   */
  addressPast(bytes: I64): I64;
  /** Base and number of the segment of an implied DS operand (strings, XLAT). */
  segmentBase(): I64;
  segmentNumber(): I32;
  /** First and second immediate as i32; constants where they are known. */
  imm(): I32;
  imm2(): I32;
  /** The immediate if the handler is made for one value of it. */
  readonly opcodeLow: number;
}

/** How the flags follow from an operation; values are sign-extended to 64 bits from their width. */
export type FlagRecipe =
  | { readonly kind: "add" | "sub"; readonly a: I64; readonly b: I64; readonly res: I64 }
  | { readonly kind: "adc" | "sbb"; readonly a: I64; readonly b: I64; readonly res: I64; readonly carry: I64 }
  | { readonly kind: "logic"; readonly res: I64 }
  /** INC and DEC: as add or sub of 1, but CF stays. */
  | { readonly kind: "inc" | "dec"; readonly a: I64; readonly res: I64 }
  /** ZF, SF, PF from `res`; CF and OF (i64 0 or 1) as given; AF clear. */
  | { readonly kind: "explicit"; readonly res: I64; readonly cf: I64; readonly of: I64 };

/** Functions of the engine that generated code calls. */
export interface Helpers {
  /** (vb): puts the time-stamp counter into `State.result`. */
  readonly readTime: Callee;
  /** Finds a helper that a semantics file defined, see helpers.ts. */
  readonly named: (name: string) => Callee;
}

export const PAGE_MASK = i64(-4096);

/**
 * What instruction semantics are written against. The interpreter's handlers and the translator's regions are two
 * implementations of the abstract part: where registers and flags live, and how control leaves.
 */
export abstract class Ops {
  readonly f: Fn;
  /** Address of the vcpu's area. */
  readonly vb: I32;
  readonly helpers: Helpers;

  constructor(f: Fn, vb: I32, helpers: Helpers) {
    this.f = f;
    this.vb = vb;
    this.helpers = helpers;
  }

  // What an implementation provides

  abstract getGpr(reg: number): I64;
  abstract setGpr(reg: number, value: I64): void;
  abstract setFlags(recipe: FlagRecipe): void;
  /** False where nobody sees the flags that the instruction sets: what they follow from need not be computed. */
  get wantsFlags(): boolean {
    return true;
  }
  /** The flag words of state/layout.ts. */
  abstract flagWord(which: "res" | "carries"): I64;
  abstract flagCf(): I32;
  abstract setFlagWords(res: I64, carries: I64, cf: I32): void;
  /** Leaves with the fault that is in the state; the instruction counts as not begun. */
  abstract leaveFaulted(): void;
  /** Architectural addresses of this instruction and of the next one (relative to CS base outside 64-bit mode). */
  abstract ownIp(): I64;
  abstract nextIp(): I64;
  /**
   * Raises #GP if the code segment does not reach to an architectural address, or to that of the instruction's `rel` operand. To be
   * used before anything else is changed by instructions that change more than where control goes.
   */
  needTarget(_ip?: I64, _condition?: I32): void {}
  /** Goes on at an architectural address that is known only now. */
  abstract jumpTo(ip: I64): void;
  /** Goes on at the instruction's `rel` operand, if the condition holds. */
  abstract jumpRelative(condition?: I32): void;
  /** Leaves to have interrupts looked at soon, and goes on behind this instruction. */
  abstract requestCheck(): void;
  /** The same if one waits for the interrupt flag, which was just set. */
  letInterruptsIn(): void {
    this.f.if(
      this.f.load<"i32">("i32.load", this.vb, State.interruptWaits),
      () => this.requestCheck(),
      undefined,
      false,
    );
  }
  /** Begins this instruction again: for string instructions that pause. */
  abstract restart(): void;
  /** Asks whether a long instruction should pause for an interrupt. */
  abstract shouldPause(): I32;
  /** Has the host program execute this instruction by its system semantics. */
  abstract leaveToHost(): void;

  // Constants and state

  state32(offset: number): I32 {
    return this.f.let(this.f.load<"i32">("i32.load", this.vb, offset));
  }
  state64(offset: number): I64 {
    return this.f.let(this.f.load<"i64">("i64.load", this.vb, offset));
  }
  setState32(offset: number, value: I32): void {
    this.f.store("i32.store", this.vb, value, offset);
  }
  setState64(offset: number, value: I64): void {
    this.f.store("i64.store", this.vb, value, offset);
  }
  /** Calls a helper that returns a value, see helpers.ts. */
  call<T extends ValType>(name: string, ...args: Val[]): Val<T> {
    return this.f.let(this.f.call<T>(this.helpers.named(name), this.vb, ...args));
  }
  callVoid(name: string, ...args: Val[]): void {
    this.f.callVoid(this.helpers.named(name), this.vb, ...args);
  }

  /** Address of the TLB in use. */
  tlbBase(): I32 {
    return this.f.load<"i32">("i32.load", this.vb, State.tlb);
  }

  /** Leaves with exception `vector`. */
  raise(vector: number, errorCode: I32 = i32(0)): void {
    this.setState32(State.faultVector, i32(vector));
    this.setState32(State.faultErrorCode, errorCode);
    this.leaveFaulted();
  }

  // Vector registers

  readXmm(reg: number): V128 {
    return this.f.let(this.f.load<"v128">("v128.load", this.vb, State.xmm + reg * 16));
  }
  writeXmm(reg: number, value: V128): void {
    this.f.store("v128.store", this.vb, value, State.xmm + reg * 16);
  }
  /** To be called when the state's vector registers were changed by other ways than these. */
  xmmChanged(): void {}
  /** Replaces the low 4 or 8 bytes of a vector register; the rest stays. */
  writeLow(dst: Operand, width: 4 | 8, value: I64): void {
    const { f } = this;
    const old = dst.readV();
    dst.writeV(
      width === 8
        ? f.lane<"v128">("i64x2.replace_lane", 0, old, value)
        : f.lane<"v128">("i32x4.replace_lane", 0, old, value.wrap()),
    );
  }
  /** Marks all x87 registers empty. */
  emptyFpu(): void {
    this.setState32(State.fpuEmpty, i32(0xff));
    this.setState32(State.fpuTop, i32(0));
  }

  // Registers by number, at a width

  readGpr(reg: number, width: number): I64 {
    return this.f.let(this.getGpr(reg).zeroExtend(bitsOf(width)));
  }
  readGprS(reg: number, width: number): I64 {
    return this.f.let(this.getGpr(reg).signExtend(bitsOf(width)));
  }
  /** Writes the low `width` bytes; 32-bit writes clear the upper half, narrower ones keep the rest. */
  writeGpr(reg: number, width: number, value: I64): void {
    if (width === 8) return this.setGpr(reg, value);
    if (width === 4) return this.setGpr(reg, value.zeroExtend(32));
    const mask = width === 1 ? 0xff : 0xffff;
    const low = this.f.let(value.and(mask));
    this.setGpr(reg, this.getGpr(reg).and(i64(~mask)).or(low));
  }
  /** AH, CH, DH, BH. */
  readHigh(reg: number): I64 {
    return this.f.let(this.getGpr(reg).shrU(8).and(0xff));
  }
  writeHigh(reg: number, value: I64): void {
    const shifted = this.f.let(value.and(0xff).shl(8));
    this.setGpr(reg, this.getGpr(reg).and(i64(~0xff00)).or(shifted));
  }

  // Memory

  /**
   * Lets `use` have the host address of `size` readable bytes at a linear address. It may be emitted more than once, for one way or another to
   * have come by it.
   */
  protected abstract findReadable(va: I64, size: number, use: (host: Address) => void): void;
  abstract store(va: I64, width: number, value: I64): void;
  /** Checks a place for writing, then lets `body` read and write it through a host address. */
  abstract update(va: I64, size: number, body: (host: Address) => void): void;
  /**
   * Replaces what is in memory by a function of it, unless somebody comes between; then once more. `change` gets the old value sign-extended, is emitted
   * once, and must only compute.
   */
  abstract lockedChange(va: I64, width: number, change: (old: I64) => I64): void;

  /** Host address of `size` readable bytes at a linear address. */
  hostRead(va: I64, size: number): Address {
    const host = this.f.var(this.f.addressType);
    this.findReadable(va, size, (found) => host.set(found));
    return host.get();
  }

  load(va: I64, width: number): I64 {
    return this.read("i64", `i64.load${width === 8 ? "" : `${width * 8}_u`}`, va, width);
  }
  loadS(va: I64, width: number): I64 {
    return this.f.let(this.load(va, width).signExtend(bitsOf(width)));
  }
  loadV(va: I64): V128 {
    return this.read("v128", "v128.load", va, 16);
  }
  /** With a load on either way: an address that comes from both V8 would extend to 64 bits once more. */
  private read<T extends "i64" | "v128">(type: T, load: string, va: I64, width: number): Val<T> {
    const value = this.f.var(type);
    this.findReadable(va, width, (host) => value.set(this.f.load<T>(load, host)));
    return value.get();
  }

  storeV(va: I64, value: V128): void {
    const data = this.f.let(value);
    this.update(va, 16, (host) => this.f.store("v128.store", host, data));
  }

  /**
   * Raises #GP or #SS unless the segment allows an access to so many bytes at an offset. Nothing in 64-bit code, whose segments
   * have neither limits nor rights.
   * @param segment number of a segment register
   */
  checkSegment(_segment: I32, _offset: I64, _size: number, _kind: "read" | "write"): void {}
  /** Raises #GP unless the segment of the memory operand may be written; reading and limits are checked with the address. */
  checkOperandWrite(): void {}

  /** True if 1 ≤ size bytes at `va` lie in one page that can be used directly; never faults. See string instructions. */
  directHost(va: I64, kind: "read" | "write"): { readonly matches: I32; readonly host: Address } {
    return emitTlbLookup(this, this.f.let(va), 1, Tlb[kind]);
  }

  // Read, change, write

  /**
   * Replaces an operand by a function of it. `change` gets the old value sign-extended and returns the new one; for a locked
   * memory operand it is emitted once but may run several times, so it must only compute.
   */
  modify(dst: Operand, i: Instruction, change: (old: I64) => I64): void {
    if (dst.kind !== "mem") {
      dst.write(change(dst.readS()));
      return;
    }
    this.checkOperandWrite();
    if (i.lock) return this.lockedChange(i.address(), dst.width, change);
    this.update(i.address(), dst.width, (host) => {
      const old = this.loadHost(host, dst.width);
      this.storeHost(host, dst.width, change(old));
    });
  }

  loadHost(host: Address, width: number): I64 {
    const value = this.f.let(this.f.load<"i64">(width === 8 ? "i64.load" : `i64.load${width * 8}_u`, host));
    return this.f.let(value.signExtend(bitsOf(width)));
  }
  storeHost(host: Address, width: number, value: I64): void {
    this.f.store(width === 8 ? "i64.store" : `i64.store${width * 8}`, host, value);
  }

  /**
   * Emits one compare-and-exchange of `lockedChange`, at an aligned host address.
   * @param again  what to repeat if somebody came between
   */
  protected exchange(again: Label, host: Address, width: number, old: I64, next: I64): void {
    const { f } = this;
    const bits = bitsOf(width);
    const name = width === 8 ? "i64.atomic.rmw.cmpxchg" : `i64.atomic.rmw${bits}.cmpxchg_u`;
    const expected = f.let(old.zeroExtend(bits));
    const found = f.load<"i64">(name, host, 0, expected, next.zeroExtend(bits));
    f.brIf(again, found.ne(expected));
  }

  // Stack

  /** The stack pointer as an address offset, and the linear address of an offset. */
  stackPointer(i: Instruction): I64 {
    return i.stackSize === 8 ? this.getGpr(4) : this.readGpr(4, i.stackSize);
  }
  stackLinear(i: Instruction, offset: I64, width: number = i.width): I64 {
    if (i.stackSize === 8) return offset;
    const inSegment = this.f.let(offset.and(i.stackSize === 4 ? i64Halves(-1, 0) : i64(0xffff)));
    this.checkSegment(i32(2), inSegment, width, "write");
    return this.f.let(inSegment.add(this.state64(Slot.segBase + 16)).and(i64Halves(-1, 0)));
  }
  push(i: Instruction, width: number, value: I64): void {
    const data = this.f.let(value);
    const sp = this.f.let(this.stackPointer(i).sub(width));
    this.store(this.stackLinear(i, sp, width), width, data);
    this.writeGpr(4, i.stackSize, sp);
  }
  /**
   * Reads the top of the stack and moves the pointer; the caller writes the value after this.
   * @param check  looks at the value before the pointer is moved
   */
  pop(i: Instruction, width: number, check?: (value: I64) => void): I64 {
    const sp = this.f.let(this.stackPointer(i));
    const value = this.load(this.stackLinear(i, sp, width), width);
    check?.(value);
    this.writeGpr(4, i.stackSize, sp.add(width));
    return value;
  }
  /** Pops where control goes on. */
  popTarget(i: Instruction): I64 {
    return this.pop(i, i.width, (ip) => this.needTarget(ip));
  }

  // Flags

  /** Turns a recipe into the three flag words. */
  flagWords(recipe: FlagRecipe): { res: I64; carries: I64; cf: I32 } {
    const { f } = this;
    switch (recipe.kind) {
      case "add":
        return { res: recipe.res, carries: recipe.a.xor(recipe.b).xor(recipe.res), cf: recipe.res.ltU(recipe.a) };
      case "sub":
        return { res: recipe.res, carries: recipe.a.xor(recipe.b).xor(recipe.res), cf: recipe.a.ltU(recipe.b) };
      case "adc": {
        const tie = recipe.res.eq(recipe.a).and(recipe.carry.wrap());
        return {
          res: recipe.res,
          carries: recipe.a.xor(recipe.b).xor(recipe.res),
          cf: recipe.res.ltU(recipe.a).or(tie),
        };
      }
      case "sbb": {
        const tie = recipe.a.eq(recipe.b).and(recipe.carry.wrap());
        return { res: recipe.res, carries: recipe.a.xor(recipe.b).xor(recipe.res), cf: recipe.a.ltU(recipe.b).or(tie) };
      }
      case "logic":
        return { res: recipe.res, carries: i64(0), cf: i32(0) };
      case "inc":
      case "dec": {
        // Bit 63 of the carries must be OF xor CF, and CF is the old one.
        const cf = f.let(this.flagCf().and(1));
        const signs = recipe.kind === "inc" ? recipe.res.and(recipe.a.not()) : recipe.a.and(recipe.res.not());
        const overflow = signs.and(i64Halves(0, -0x80000000));
        const low = recipe.a.xor(recipe.res).xor(1).and(0x10);
        return { res: recipe.res, carries: overflow.xor(cf.extU().shl(63)).or(low), cf };
      }
      default:
        return { res: recipe.res, carries: recipe.cf.xor(recipe.of).shl(63), cf: recipe.cf.wrap() };
    }
  }

  /** CF as i64 0 or 1. */
  carry(): I64 {
    return this.f.let(this.flagCf().and(1).extU());
  }
  /** Sets CF alone; OF is kept. */
  setCarry(cf: I64): void {
    const { f } = this;
    const next = f.let(cf.wrap());
    const old = f.let(this.flagCf());
    const changed = f.let(old.xor(next).and(1));
    const res = f.let(this.flagWord("res"));
    const carries = f.let(this.flagWord("carries").xor(changed.extU().shl(63)));
    this.setFlagWords(res, carries, old.and(-2).or(next));
  }

  /** Sets CF and OF; the rest is kept. */
  setCarryAndOverflow(cf: I64, of: I64): void {
    const { f } = this;
    const carries = this.flagWord("carries").and(this.const64(-1, 0x7fffffff)).or(of.xor(cf).shl(63));
    const word = this.flagCf().and(-2).or(cf.wrap());
    this.setFlagWords(f.let(this.flagWord("res")), f.let(carries), f.let(word));
  }

  private overflow(): I32 {
    return this.flagWord("carries").shrU(63).wrap().xor(this.flagCf().and(1));
  }
  private sign(): I32 {
    return this.flagWord("res").shrU(63).wrap().xor(this.flagCf().shrU(2).and(1));
  }
  private less(): I32 {
    const cf = this.f.let(this.flagCf());
    return this.flagWord("res")
      .xor(this.flagWord("carries"))
      .shrU(63)
      .wrap()
      .xor(cf.xor(cf.shrU(2)).and(1));
  }
  private parity(): I32 {
    const low = this.flagWord("res").wrap().and(0xff).popcnt().and(1).xor(1);
    return low.xor(this.flagCf().shrU(1).and(1));
  }

  /** Condition code 0–15 as in the encodings of Jcc: 1 if it holds. */
  condition(cc: number): I32 {
    const positive = this.positiveCondition(cc >> 1);
    return cc & 1 ? positive.eqz() : positive;
  }
  private positiveCondition(pairOfCodes: number): I32 {
    switch (pairOfCodes) {
      case 0:
        return this.overflow();
      case 1:
        return this.flagCf().and(1);
      case 2:
        return this.flagWord("res").eqz();
      case 3:
        return this.flagCf().and(1).or(this.flagWord("res").eqz());
      case 4:
        return this.sign();
      case 5:
        return this.parity();
      case 6:
        return this.less();
      default:
        return this.less().or(this.flagWord("res").eqz());
    }
  }

  /** The six arithmetic flags at their places in RFLAGS. */
  arithmeticFlags(): I64 {
    const { f } = this;
    const cf = f.let(this.flagCf().and(1).extU());
    const af = this.flagWord("carries").and(0x10);
    const zf = this.flagWord("res").eqz().extU().shl(6);
    const pf = this.parity().extU().shl(2);
    const sf = this.sign().extU().shl(7);
    const of = this.overflow().extU().shl(11);
    return f.let(cf.or(af).or(zf).or(pf).or(sf).or(of));
  }

  /** Sets the six arithmetic flags from an RFLAGS value. */
  setArithmeticFlags(rflags: I64): void {
    const { f } = this;
    const v = f.let(rflags);
    const bit = (flag: number) => v.shrU(Math.log2(flag)).and(1);
    const zf = f.let(bit(Flag.zf).wrap());
    const sf = f.let(bit(Flag.sf));
    const pf = f.let(bit(Flag.pf));
    // With ZF clear: a number of the right sign whose low byte is 3 (even parity) or 1 (odd).
    const nonzero = sf.shl(63).or(pf.shl(1)).or(1);
    const res = f.let(f.select(zf, i64(0), nonzero));
    const cf = f.let(bit(Flag.cf));
    // With ZF set the result is 0: SF = 0 and PF = 1, so the inverting bits make up the difference.
    const invert = f.select(zf, pf.xor(1).shl(1).or(sf.shl(2)).wrap(), i32(0));
    const carries = bit(Flag.of).xor(cf).shl(63).or(v.and(0x10));
    this.setFlagWords(res, carries, cf.wrap().or(invert));
  }

  /** RFLAGS as PUSHF shows them. */
  rflags(): I64 {
    const system = this.f.load<"i32">("i32.load", this.vb, State.flagsSystem).extU();
    return this.f.let(this.arithmeticFlags().or(system).or(2));
  }

  /** A value that is 1 if DF is set. */
  directionFlag(): I32 {
    return this.f.let(this.state32(State.flagsSystem).shrU(10).and(1));
  }

  const64(lo: number, hi: number): I64 {
    return i64Halves(lo, hi);
  }
  zero<T extends "i32" | "i64">(type: T): Val<T> {
    return constant(type, 0);
  }
}
