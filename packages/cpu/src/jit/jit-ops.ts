import { type Address, type Fn, type I32, type I64, i32, type V128, type Var } from "@xenoserver/wasm";
import type { Decoded } from "../decode/decoded.ts";
import { INTERRUPTS_OPENED, RegionStatus } from "../interp/record.ts";
import { emitTlbLookup } from "../mmu/tlb.ts";
import { bitsOf, type FlagRecipe, type Instruction } from "../semantics/instruction.ts";
import { type Helpers, Ops, type UseHost } from "../semantics/ops.ts";
import type { Unit } from "../semantics/units.ts";
import { State, Tlb } from "../state/layout.ts";
import type { GroupedAccess } from "./access-groups.ts";
import { JitInstruction } from "./bindings.ts";
import type { Exits } from "./exits.ts";
import { GroupHosts } from "./group-hosts.ts";
import { type FlagKind, LazyFlags } from "./lazy-flags.ts";
import { isRepeated, likelyWritten, type Place, type PlacedInstruction } from "./region.ts";
import { VectorRegisters } from "./vector-registers.ts";

const SHIFT = /^(SHL|SHR|SAR|ROL|ROR|RCL|RCR|SHLD|SHRD)$/;
const COMPARE = /^(CMPS|SCAS)( wide)?$/;
/** Instructions that set flags on some paths and keep them on others: shifts by a register, repeated comparisons. */
const mayKeepFlags = (d: Decoded): boolean =>
  (SHIFT.test(d.def.name) && d.operands.at(-1)?.kind !== "imm") || (d.rep !== 0 && COMPARE.test(d.def.name));

/** Registers that loops of a region use, and those of them that they write. */
export interface LoopRegisters {
  readonly used: ReadonlySet<number>;
  readonly written: ReadonlySet<number>;
}

/**
 * `Ops` of a translated region: general registers are locals.
 *
 * **Registers.** Those that loops of the region write (`deferred`) are stored where control leaves it. All others are stored in front of the next
 * access or at the end of the block that wrote them, so that leaving costs nothing for them: what was written since is `pending`. Those that loops use (`kept`) are loaded at the entry; of the rest each block loads what it needs when it
 * needs it, for most visits to a region run through few of its blocks.
 *
 * **Flags** are kept as what they follow from, see `LazyFlags`.
 */
export class JitOps extends Ops {
  private readonly deferred: ReadonlySet<number>;
  private readonly kept: ReadonlySet<number>;
  /** Of those that are not kept, which the current block has in their locals, whatever path led there. */
  private readonly loaded = new Set<number>();
  private readonly pending = new Set<number>();
  private readonly gprs: Var<"i64">[];
  private readonly flags: LazyFlags;
  private readonly vectors: VectorRegisters;
  private readonly pageVa: Var<"i64">;
  private readonly tlb: Var<"i32">;
  readonly count: Var<"i32">;
  private readonly exits: Exits;
  /** Of the instruction being translated. */
  private place: Place = 0;
  private nextPlace: Place = 0;
  private flagsAreDead = false;
  private nesting = 0;
  /** Of the instruction being translated, if its access shares a look into the TLB with others. */
  private access: GroupedAccess | undefined;
  private readonly groups: GroupHosts;
  /** Known to be on where the block has come to. */
  private readonly units = new Set<Unit>();

  constructor(f: Fn, helpers: Helpers, exits: Exits, loops: LoopRegisters) {
    super(f, f.param(0), helpers);
    this.exits = exits;
    this.deferred = loops.written;
    this.kept = loops.used;
    this.gprs = Array.from({ length: 16 }, () => f.var("i64"));
    this.flags = new LazyFlags(f, this.vb, (name, ...args) => this.callVoid(name, ...args));
    this.vectors = new VectorRegisters(f, this.vb);
    this.groups = new GroupHosts(this);
    this.pageVa = f.var("i64");
    this.tlb = f.var("i32");
    this.count = f.var("i32");
  }

  // Entry and exit of the region

  /** @param page  address of the page that places count from */
  loadState(page: I64): void {
    const { f, vb } = this;
    for (const reg of this.kept) this.gprs[reg].set(f.load("i64.load", vb, reg * 8));
    this.flags.begin();
    this.pageVa.set(page);
    this.tlb.set(f.load("i32.load", vb, State.tlb));
    this.count.set(f.load("i32.load", vb, State.jitInstructions));
  }
  /** What every way out has in common. */
  storeState(): void {
    const { f, vb } = this;
    for (const reg of this.deferred) f.store("i64.store", vb, this.gprs[reg].get(), reg * 8);
    f.store("i32.store", vb, this.count.get(), State.jitInstructions);
  }
  /** Stores the flags, whatever they follow from. */
  storeAnyFlags(): void {
    this.flags.storeAny();
  }
  /**
   * In front of a way out that is rarely taken: what would be stored there is stored now, once for all ways out that follow. So they are short, and
   * values need not be kept for them.
   */
  private settle(): void {
    if (this.isConditional) return;
    this.storePending();
    this.pending.clear();
  }
  private storePending(): void {
    for (const reg of this.pending) this.f.store("i64.store", this.vb, this.gprs[reg].get(), reg * 8);
  }
  /** Linear address of a place. */
  addressOf(place: Place): I64 {
    return this.pageVa.get().add(place);
  }

  // Blocks and instructions

  /**
   * @param kind      what the flags are when control arrives, from wherever it comes
   * @param accesses  of its instructions
   */
  beginBlock(
    instructions: readonly PlacedInstruction[],
    kind: FlagKind,
    accesses: readonly (GroupedAccess | undefined)[],
  ): void {
    this.flags.kind = kind;
    this.loaded.clear();
    this.groups.beginBlock(accesses);
    this.units.clear();
    this.vectors.beginBlock(instructions);
    this.count.set(this.count.get().add(instructions.length));
  }
  /** Makes registers and the flags' kind known to whatever block comes next. */
  endBlock(): void {
    this.storePending();
    this.pending.clear();
    this.flags.putKind();
  }
  get kind(): FlagKind {
    return this.flags.kind;
  }
  /** @param flagsAreDead  the flags that it sets need not be made: see `deadFlags` */
  begin({ d, place }: PlacedInstruction, flagsAreDead: boolean, access: GroupedAccess | undefined): Instruction {
    this.flagsAreDead = flagsAreDead;
    this.access = access;
    this.nesting = this.f.nesting;
    // What sets flags only sometimes needs them in the form in which their kind is not known.
    if (mayKeepFlags(d) && !flagsAreDead) this.flags.forgetKind();
    if (isRepeated(d)) for (const reg of likelyWritten(d)) this.touch(reg);
    this.place = place;
    this.nextPlace = place + d.lengthBytes;
    return new JitInstruction(this, d, this.nextPlace);
  }
  /** Leaves for an address; what the block wrote is stored already or is stored here. */
  leaveTo(linear: I64): void {
    this.storePending();
    this.exits.target.set(linear);
    if (this.flags.kind === "dynamic") return this.leaveAny(RegionStatus.redirect);
    this.flags.store();
    this.f.br(this.exits.leave);
  }
  private leaveAny(status: number): void {
    this.exits.status.set(i32(status));
    this.f.br(this.exits.leaveAny);
  }

  // Registers

  /** A value that later changes of the variable do not reach. */
  private copy(variable: Var<"i64">): I64 {
    const copy = this.f.var("i64");
    copy.set(variable.get());
    return copy.get();
  }
  /** Whether the register's local has its value, whatever path led here. */
  private isThere(reg: number): boolean {
    return this.kept.has(reg) || this.loaded.has(reg);
  }
  /** Has its value in a register's local. */
  private need(reg: number): void {
    if (this.isThere(reg)) return;
    this.gprs[reg].set(this.f.load("i64.load", this.vb, reg * 8));
    // On another path it was not.
    if (!this.isConditional) this.loaded.add(reg);
  }
  /** A register that may be written, now or later, before control can leave. */
  private touch(reg: number): void {
    this.need(reg);
    if (!this.deferred.has(reg)) this.pending.add(reg);
  }
  override getGpr(reg: number): I64 {
    this.need(reg);
    return this.copy(this.gprs[reg]);
  }
  override setGpr(reg: number, value: I64): void {
    if (this.isConditional && !this.isThere(reg)) {
      // What other paths have of it is in the state, and so is this.
      this.f.store("i64.store", this.vb, value, reg * 8);
      return;
    }
    if (!this.isConditional) this.loaded.add(reg);
    if (!this.deferred.has(reg)) this.pending.add(reg);
    this.gprs[reg].set(value);
  }
  // What is narrower is a value of its own.
  override readGpr(reg: number, width: number): I64 {
    return width === 8 ? this.getGpr(reg) : this.f.let(this.peekGpr(reg).zeroExtend(bitsOf(width)));
  }
  override readGprS(reg: number, width: number): I64 {
    return width === 8 ? this.getGpr(reg) : this.f.let(this.peekGpr(reg).signExtend(bitsOf(width)));
  }
  /** The register itself, for an expression that is emitted before anything is written. */
  peekGpr(reg: number): I64 {
    this.need(reg);
    return this.gprs[reg].get();
  }
  override tlbBase(): I32 {
    return this.tlb.get();
  }
  override setState32(offset: number, value: I32): void {
    const known = this.f.let(value);
    super.setState32(offset, known);
    if (offset === State.tlb) this.tlb.set(known);
  }

  /** Looked at once in a block, as regions leave for system instructions; the interpreter raises what is to be raised. */
  override needUnit(unit: Unit): void {
    if (this.units.has(unit)) return;
    this.f.if(unit.isUnusable(this), () => this.leaveToInterpreter(), undefined, false);
    if (!this.isConditional) this.units.add(unit);
  }

  // Vector registers

  override readXmm(reg: number): V128 {
    return this.vectors.read(reg, this.isConditional);
  }
  override writeXmm(reg: number, value: V128): void {
    this.vectors.write(reg, value, this.isConditional);
  }
  override xmmChanged(): void {
    this.vectors.forget();
  }
  /** The low bytes of a register, at most 8. */
  readXmmLow(reg: number, width: number): I64 {
    return this.vectors.readLow(reg, width, this.isConditional);
  }
  writeXmmLow(reg: number, width: number, value: I64): void {
    this.vectors.writeLow(reg, width, value);
  }

  // Memory

  protected override findReadable(va: I64, size: number, use: UseHost): void {
    this.findDirect(va, size, Tlb.read, use);
  }
  override store(va: I64, width: number, value: I64): void {
    const data = this.f.let(value);
    this.findDirect(va, width, Tlb.write, (host, offset) => this.storeHost(host, width, data, offset));
  }
  override update(va: I64, size: number, body: (host: Address) => void): void {
    const host = this.f.var(this.f.addressType);
    this.findDirect(va, size, Tlb.write, (found, offset) => host.set(found.add(offset)));
    body(host.get());
  }

  /** What is not aligned is for the interpreter. */
  override lockedChange(va: I64, width: number, change: (old: I64) => I64): void {
    const { f } = this;
    const at = f.let(va);
    if (width > 1) f.if(at.wrap().and(width - 1), () => this.leaveToInterpreter(), undefined, false);
    this.update(at, width, (host) =>
      f.loop((again) => {
        const old = this.loadHost(host, width);
        this.exchange(again, host, width, old, f.let(change(old)));
      }),
    );
  }

  /**
   * Lets `use` have the host address of what the TLB says can be used directly; leaves the instruction to the interpreter if it does not. Whatever may
   * take longer is a way out, not a call: no value needs to be saved over one, and a way out is a quarter as long.
   */
  private findDirect(va: I64, size: number, tag: number, use: UseHost): void {
    const { f, groups } = this;
    const access = this.sharedBy(size, tag);
    if (!access) {
      this.settle();
      const hit = emitTlbLookup(this, f.let(va), size, tag);
      f.if(hit.misses(), () => this.leaveToInterpreter(), undefined, false);
      return use(hit.host, 0);
    }
    if (!groups.isOpen(access)) this.settle();
    if (!groups.isOpen(access)) groups.look(f.let(va), access, () => this.leaveToInterpreter());
    const { base, offset } = groups.hostOf(access);
    use(base, offset);
  }
  /** Whether the current instruction's access is one that was looked up. */
  get knowsPlace(): boolean {
    return this.access !== undefined && this.groups.isOpen(this.access);
  }
  /** The current instruction's access, if it shares a look into the TLB that is of use for so many bytes. */
  private sharedBy(size: number, tag: number): GroupedAccess | undefined {
    const { access } = this;
    if (!access || size > access.sizeBytes || (tag === Tlb.write && !access.group.isWrite)) return undefined;
    return this.isConditional && !this.groups.isOpen(access) ? undefined : access;
  }
  private leaveToInterpreter(): void {
    this.prepareToRepeat();
    this.f.br(this.exits.interpret);
  }

  // Flags

  override get wantsFlags(): boolean {
    return !this.flagsAreDead;
  }
  override setFlags(recipe: FlagRecipe): void {
    if (this.flagsAreDead) return;
    this.checkConditional();
    if (!this.flags.setRecipe(recipe)) {
      const words = this.flagWords(recipe);
      this.flags.setWords(words.res, words.carries, words.cf);
    }
    if (this.isConditional) this.flags.forgetKind();
  }
  override setCarryAndOverflow(cf: I64, of: I64): void {
    if (!this.flagsAreDead) super.setCarryAndOverflow(cf, of);
  }
  override setFlagWords(res: I64, carries: I64, cf: I32): void {
    if (this.flagsAreDead) return;
    this.checkConditional();
    this.flags.setWords(res, carries, cf);
    if (this.isConditional) this.flags.forgetKind();
  }
  private get isConditional(): boolean {
    return this.f.nesting > this.nesting;
  }
  private checkConditional(): void {
    if (this.isConditional && this.flags.kind !== "dynamic")
      throw new Error("flags are set on one path only; see mayKeepFlags");
  }
  override flagWord(which: "res" | "carries"): I64 {
    return which === "res" ? this.flags.resultWord : this.flags.carriesWord;
  }
  override flagCf(): I32 {
    return this.flags.cfWord;
  }
  override condition(cc: number): I32 {
    const direct = this.flags.condition(cc >> 1);
    if (!direct) return super.condition(cc);
    return cc & 1 ? direct.eqz() : direct;
  }

  // Control

  override leaveFaulted(): void {
    this.prepareToRepeat();
    this.leaveAny(RegionStatus.fault);
  }
  /** To leave in front of the current instruction. */
  private prepareToRepeat(): void {
    this.storePending();
    this.flags.putKind();
    this.exits.place.set(i32(this.place));
  }
  override ownIp(): I64 {
    return this.f.let(this.addressOf(this.place));
  }
  override nextIp(): I64 {
    return this.f.let(this.addressOf(this.nextPlace));
  }
  override jumpTo(ip: I64): void {
    const known = this.f.let(ip);
    this.endBlock();
    this.exits.indirect(known);
  }
  override jumpRelative(condition?: I32): void {
    const known = condition && this.f.let(condition);
    this.endBlock();
    this.exits.branch(known);
  }
  override requestCheck(): void {
    super.setState32(State.instructionLimit, i32(INTERRUPTS_OPENED));
  }
  override restart(): void {
    this.leaveTo(this.addressOf(this.place));
  }
  override shouldPause(): I32 {
    return this.f.load<"i32">("i32.load", this.vb, State.instructionLimit).leU(INTERRUPTS_OPENED);
  }
  /** The interpreter knows how to leave to the host program: it is given this instruction. */
  override leaveToHost(): void {
    this.leaveToInterpreter();
  }
}
