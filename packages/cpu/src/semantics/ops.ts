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
import { FlagOps } from "./flag-ops.ts";
import { bitsOf, type Instruction, type Operand } from "./instruction.ts";
import type { Unit } from "./units.ts";

/** Functions of the engine that generated code calls. */
export interface Helpers {
  /** (vb): puts the time-stamp counter into `State.result`. */
  readonly readTime: Callee;
  /** Finds a helper that a semantics file defined, see helpers.ts. */
  readonly named: (name: string) => Callee;
}

export const PAGE_MASK = i64(-4096);

/** Emits the use of what lies at a host address plus an offset. */
export type UseHost = (host: Address, offset: number) => void;

/**
 * What instruction semantics are written against. The interpreter's handlers and the translator's regions are two
 * implementations of the abstract part: where registers and flags live, and how control leaves.
 */
export abstract class Ops extends FlagOps {
  readonly helpers: Helpers;

  constructor(f: Fn, vb: I32, helpers: Helpers) {
    super(f, vb);
    this.helpers = helpers;
  }

  // What an implementation provides

  abstract getGpr(reg: number): I64;
  abstract setGpr(reg: number, value: I64): void;
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

  /** Raises #UD or #NM where an operating system switched a unit off. */
  needUnit({ isUnknown, isOff }: Unit): void {
    if (isUnknown) this.f.if(isUnknown(this), () => this.raise(6));
    this.f.if(isOff(this), () => this.raise(7));
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
  protected abstract findReadable(va: I64, size: number, use: UseHost): void;
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
    this.findReadable(va, size, (found, offset) => host.set(found.add(offset)));
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
    this.findReadable(va, width, (host, offset) => value.set(this.f.load<T>(load, host, offset)));
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
  storeHost(host: Address, width: number, value: I64, offset = 0): void {
    this.f.store(width === 8 ? "i64.store" : `i64.store${width * 8}`, host, value, offset);
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

  // Flags beyond the arithmetic ones

  /** RFLAGS as PUSHF shows them. */
  rflags(): I64 {
    const system = this.f.load<"i32">("i32.load", this.vb, State.flagsSystem).extU();
    return this.f.let(this.arithmeticFlags().or(system).or(2));
  }

  /** A value that is 1 if DF is set. */
  directionFlag(): I32 {
    return this.f.let(this.state32(State.flagsSystem).shrU(10).and(1));
  }

  // Constants

  const64(lo: number, hi: number): I64 {
    return i64Halves(lo, hi);
  }
  zero<T extends "i32" | "i64">(type: T): Val<T> {
    return constant(type, 0);
  }
}
