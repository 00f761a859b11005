import { type Fn, type I32, type I64, i32, i64, type Label, type Var } from "@xenoserver/wasm";
import type { Decoded } from "../decode/decoded.ts";
import { INTERRUPTS_OPENED } from "../interp/record.ts";
import { type FlagRecipe, type Helpers, type Instruction, Ops } from "../semantics/ops.ts";
import { Slot, State } from "../state/layout.ts";
import { JitInstruction } from "./bindings.ts";

/** What the flag variables mean; see `JitOps`. `dynamic`: the kind is in a variable too. */
type FlagKind = "dynamic" | "words" | "logic" | "add" | "sub";
const KIND_CODE = { words: 0, logic: 0, add: 1, sub: 2 } as const;

/** Instructions that set flags on some paths and keep them on others: shifts by a count, repeated comparisons. */
const MAY_KEEP_FLAGS = /^(SHL|SHR|SAR|ROL|ROR|RCL|RCR|SHLD|SHRD|CMPS|SCAS|CMPS wide|SCAS wide)$/;

/** Where control goes when it leaves the straight line; made by the translator. */
export interface Exits {
  /** Leaves the region with the fault in the state; the current instruction is to be repeated. */
  readonly fault: Label;
  /** Leaves the region for the address in `target`. */
  readonly leave: Label;
  readonly target: Var<"i64">;
  /** Offset of the current instruction, for `fault`. */
  readonly faultOffset: Var<"i32">;
  /** Emits a jump to the current block's target, under a condition if one is given. */
  branch(condition: I32 | undefined): void;
}

/**
 * `Ops` of a translated region: general registers are locals, and flags are three of them.
 *
 * `fr` always holds the result. After an addition or subtraction `fa` and `fb` hold its operands; otherwise they hold the carries
 * and the CF word. Which it is is known while translating a block; at a block's end it is put into `fk`, so that values are only
 * combined into flag words where control leaves the region or an instruction asks.
 */
export class JitOps extends Ops {
  readonly written = new Set<number>();
  readonly used = new Set<number>();
  private readonly gprs: Var<"i64">[];
  private readonly fr: Var<"i64">;
  private readonly fa: Var<"i64">;
  private readonly fb: Var<"i64">;
  private readonly fk: Var<"i32">;
  private readonly pageVa: Var<"i64">;
  private readonly tlb: Var<"i32">;
  readonly count: Var<"i32">;
  private kind: FlagKind = "dynamic";
  private readonly exits: Exits;
  /** Of the instruction being translated. */
  private offset = 0;
  private nextOffset = 0;
  private nesting = 0;

  constructor(f: Fn, helpers: Helpers, exits: Exits) {
    super(f, f.param(0), helpers);
    this.exits = exits;
    this.gprs = Array.from({ length: 16 }, () => f.var("i64"));
    [this.fr, this.fa, this.fb] = [f.var("i64"), f.var("i64"), f.var("i64")];
    this.fk = f.var("i32");
    this.pageVa = f.var("i64");
    this.tlb = f.var("i32");
    this.count = f.var("i32");
  }

  // Entry and exit of the region

  loadState(): void {
    const { f, vb } = this;
    for (const reg of new Set([...this.used, ...this.written])) this.gprs[reg].set(f.load("i64.load", vb, reg * 8));
    this.fr.set(f.load("i64.load", vb, State.flagRes));
    this.fa.set(f.load("i64.load", vb, State.flagCarries));
    this.fb.set(f.load<"i32">("i32.load", vb, State.flagCf).extU());
    this.fk.set(i32(0));
    this.pageVa.set(f.load("i64.load", vb, Slot.pageVa));
    this.tlb.set(f.load("i32.load", vb, State.tlb));
    this.count.set(f.load("i32.load", vb, State.jitInstructions));
  }
  storeState(): void {
    const { f, vb } = this;
    this.kind = "dynamic";
    for (const reg of this.written) f.store("i64.store", vb, this.gprs[reg].get(), reg * 8);
    f.store("i64.store", vb, this.fr.get(), State.flagRes);
    f.store("i64.store", vb, this.carries(), State.flagCarries);
    f.store("i32.store", vb, this.carryWord(), State.flagCf);
    f.store("i32.store", vb, this.count.get(), State.jitInstructions);
  }
  /** Linear address of an offset in the region's page. */
  addressOf(offset: number): I64 {
    return this.pageVa.get().add(offset);
  }

  // Blocks and instructions

  beginBlock(instructionCount: number): void {
    this.kind = "dynamic";
    this.count.set(this.count.get().add(instructionCount));
  }
  /** Makes the flags' kind known to whatever block comes next. */
  endBlock(): void {
    this.putKind();
    this.kind = "dynamic";
  }
  begin(d: Decoded, offset: number): Instruction {
    // What sets flags only sometimes needs them in the form in which their kind is not known.
    if (MAY_KEEP_FLAGS.test(d.def.name)) this.endBlock();
    this.nesting = this.f.nesting;
    this.offset = offset;
    this.nextOffset = offset + d.lengthBytes;
    return new JitInstruction(this, d, this.nextOffset);
  }
  leaveTo(linear: I64): void {
    this.exits.target.set(linear);
    this.f.br(this.exits.leave);
  }

  // Registers

  /** A value that later changes of the variable do not reach. */
  private copy(variable: Var<"i64">): I64 {
    const copy = this.f.var("i64");
    copy.set(variable.get());
    return copy.get();
  }
  override getGpr(reg: number): I64 {
    this.used.add(reg);
    return this.copy(this.gprs[reg]);
  }
  override setGpr(reg: number, value: I64): void {
    this.written.add(reg);
    this.gprs[reg].set(value);
  }
  /** The register itself, for an expression that is emitted before anything is written. */
  peekGpr(reg: number): I64 {
    this.used.add(reg);
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

  // Flags

  override setFlags(recipe: FlagRecipe): void {
    if (recipe.kind === "add" || recipe.kind === "sub") {
      this.fa.set(recipe.a);
      this.fb.set(recipe.b);
      this.fr.set(recipe.res);
      this.setKind(recipe.kind);
    } else if (recipe.kind === "logic") {
      this.fr.set(recipe.res);
      this.fa.set(i64(0));
      this.fb.set(i64(0));
      this.setKind("logic");
    } else {
      const words = this.flagWords(recipe);
      this.setFlagWords(words.res, words.carries, words.cf);
    }
  }
  override setFlagWords(res: I64, carries: I64, cf: I32): void {
    const { f } = this;
    const [r, c, carry] = [f.let(res), f.let(carries), f.let(cf.extU())];
    this.fr.set(r);
    this.fa.set(c);
    this.fb.set(carry);
    this.setKind("words");
  }
  private setKind(kind: "words" | "logic" | "add" | "sub"): void {
    const conditional = this.f.nesting > this.nesting;
    if (conditional && this.kind !== "dynamic") throw new Error("flags are set on one path only; see MAY_KEEP_FLAGS");
    this.kind = kind;
    if (conditional) this.endBlock();
  }
  override flagWord(which: "res" | "carries"): I64 {
    return which === "res" ? this.copy(this.fr) : this.f.let(this.carries());
  }
  private carries(): I64 {
    const { fa, fb, fr, fk } = this;
    const mixed = () => fa.get().xor(fb.get()).xor(fr.get());
    if (this.kind === "words") return this.copy(fa);
    if (this.kind === "logic") return i64(0);
    if (this.kind === "dynamic") return this.f.select(fk.get().eqz(), fa.get(), mixed());
    return mixed();
  }
  override flagCf(): I32 {
    return this.f.let(this.carryWord());
  }
  private carryWord(): I32 {
    const { f, fa, fb, fr, fk } = this;
    const added = () => fr.get().ltU(fa.get());
    const subtracted = () => fa.get().ltU(fb.get());
    switch (this.kind) {
      case "words":
        return fb.get().wrap();
      case "logic":
        return i32(0);
      case "add":
        return added();
      case "sub":
        return subtracted();
      default:
        return f.select(fk.get().eqz(), fb.get().wrap(), f.select(fk.get().eq(1), added(), subtracted()));
    }
  }
  override condition(cc: number): I32 {
    const direct = this.directCondition(cc >> 1);
    if (!direct) return super.condition(cc);
    return cc & 1 ? direct.eqz() : direct;
  }
  /** Comparisons that need no flag words; undefined if the general way must be taken. */
  private directCondition(pair: number): I32 | undefined {
    const { fa, fb, fr, kind } = this;
    if (pair === 2) return kind === "sub" ? fa.get().eq(fb.get()) : fr.get().eqz();
    if (kind === "sub") {
      if (pair === 1) return fa.get().ltU(fb.get());
      if (pair === 3) return fa.get().leU(fb.get());
      if (pair === 4) return fr.get().ltS(0);
      if (pair === 6) return fa.get().ltS(fb.get());
      if (pair === 7) return fa.get().leS(fb.get());
    } else if (kind === "logic") {
      if (pair === 3) return fr.get().eqz();
      if (pair === 4 || pair === 6) return fr.get().ltS(0);
      if (pair === 7) return fr.get().leS(0);
    } else if (kind === "add") {
      if (pair === 1) return fr.get().ltU(fa.get());
      if (pair === 4) return fr.get().ltS(0);
    }
    return undefined;
  }

  // Control

  /** For a path that leaves here: the flags' kind goes along, but what follows still knows it. */
  private putKind(): void {
    if (this.kind !== "dynamic") this.fk.set(i32(KIND_CODE[this.kind]));
  }
  override leaveFaulted(): void {
    this.putKind();
    this.exits.faultOffset.set(i32(this.offset));
    this.f.br(this.exits.fault);
  }
  override ownIp(): I64 {
    return this.f.let(this.addressOf(this.offset));
  }
  override nextIp(): I64 {
    return this.f.let(this.addressOf(this.nextOffset));
  }
  override jumpTo(ip: I64): void {
    this.exits.target.set(ip);
    this.putKind();
    this.f.br(this.exits.leave);
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
    this.exits.target.set(this.addressOf(this.offset));
    this.putKind();
    this.f.br(this.exits.leave);
  }
  override shouldPause(): I32 {
    return this.f.load<"i32">("i32.load", this.vb, State.instructionLimit).leU(INTERRUPTS_OPENED);
  }
  /** The interpreter knows how to leave to the host program: it is given this instruction. */
  override leaveToHost(): void {
    super.setState32(State.interpretOnce, i32(1));
    this.leaveFaulted();
  }
}
