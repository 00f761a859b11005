import { type Fn, type I32, type I64, i32, i64, type Val, type Var } from "@xenoserver/wasm";
import type { FlagRecipe } from "../semantics/instruction.ts";
import { beforeStep, carriesOfStep, LAZY_CF, LazyOp, lazyCode, STORE_FLAGS } from "../semantics/lazy-kinds.ts";
import { State } from "../state/layout.ts";

/** What the flags follow from, and the width of the values in bits; the values' bits above it may be anything. */
interface Known {
  /** `words`: the state's words are in the variables; `memory`: they are where the state has them. */
  readonly op: keyof typeof LazyOp;
  readonly bits: 8 | 16 | 32 | 64;
}
/** `dynamic`: what it is, a variable knows. */
export type FlagKind = Known | "dynamic";

export const MEMORY: FlagKind = { op: "memory", bits: 64 };
const WORDS: FlagKind = { op: "words", bits: 64 };
const codeOf = ({ op, bits }: Known): number => lazyCode(op, bits);
export const sameKind = (a: FlagKind, b: FlagKind): boolean =>
  a === b || (a !== "dynamic" && b !== "dynamic" && codeOf(a) === codeOf(b));

/** What is remembered as it is. */
type KeptRecipe = FlagRecipe & { kind: "add" | "sub" | "logic" | "inc" | "dec" };
const isKept = (recipe: FlagRecipe): recipe is KeptRecipe => /^(add|sub|logic|inc|dec)$/.test(recipe.kind);
/** Width of the values of a recipe: constants are of any. */
const bitsOfRecipe = (recipe: KeptRecipe): Known["bits"] =>
  (recipe.kind === "sub" ? (recipe.a.extended ?? recipe.b.extended) : recipe.res.extended)?.bits ?? 64;

/**
 * The arithmetic flags of a translated region, as what they follow from: `result` of logic, the operands `a` and `b` of subtractions, all three of
 * additions, `result` of increments and decrements with CF in `b`; as words, `a` has the carries and `b` the CF word. Values are combined into flag words only where control leaves
 * the region or an instruction asks for what no comparison can tell.
 */
export class LazyFlags {
  private readonly f: Fn;
  private readonly vb: I32;
  private readonly result: Var<"i64">;
  private readonly a: Var<"i64">;
  private readonly b: Var<"i64">;
  /** Code of the kind, for blocks that are reached with several. */
  private readonly code: Var<"i32">;
  kind: FlagKind = MEMORY;
  private readonly callVoid: (name: string, ...args: Val[]) => void;

  /** @param callVoid  emits the call of a helper */
  constructor(f: Fn, vb: I32, callVoid: (name: string, ...args: Val[]) => void) {
    this.f = f;
    this.vb = vb;
    this.callVoid = callVoid;
    [this.result, this.a, this.b, this.code] = [f.var("i64"), f.var("i64"), f.var("i64"), f.var("i32")];
  }

  /** At the region's entry. */
  begin(): void {
    this.code.set(i32(LazyOp.memory));
  }
  /** Lets the variable know the kind too, for a path that goes on elsewhere. */
  putKind(): void {
    if (this.kind !== "dynamic") this.code.set(i32(codeOf(this.kind)));
  }
  /** From here on the kind is what the variable says. */
  forgetKind(): void {
    this.putKind();
    this.kind = "dynamic";
  }

  setWords(result: I64, carries: I64, cf: I32): void {
    const { f } = this;
    const values = [f.let(result), f.let(carries), f.let(cf.extU())] as const;
    [this.result, this.a, this.b].forEach((variable, k) => variable.set(values[k]!));
    this.kind = WORDS;
  }
  /** Remembers what the flags follow from; false if a recipe must be turned into words. */
  setRecipe(recipe: FlagRecipe): boolean {
    if (!isKept(recipe)) return false;
    const bits = bitsOfRecipe(recipe);
    const base = (v: I64): I64 => (v.extended?.bits === bits ? v.extended.from : v);
    // What it keeps of the flags before is asked of those.
    if (recipe.kind === "inc" || recipe.kind === "dec") this.b.set(this.cfWord.and(1).extU());
    if (recipe.kind !== "sub") this.result.set(base(recipe.res));
    if (recipe.kind === "add" || recipe.kind === "sub") {
      this.a.set(base(recipe.a));
      this.b.set(base(recipe.b));
    }
    this.kind = { op: recipe.kind, bits };
    return true;
  }

  // The words

  /** Makes words of what is no more known than that, in the variables. */
  private makeWords(): void {
    const { f, kind } = this;
    if (kind === "dynamic") f.if(this.code.get(), () => this.makeWordsOfAny(), undefined, false);
    else if (kind.op === "memory") this.fetch();
  }
  private fetch(): void {
    const { f, vb } = this;
    this.result.set(f.load("i64.load", vb, State.flagRes));
    this.a.set(f.load("i64.load", vb, State.flagCarries));
    this.b.set(f.load<"i32">("i32.load", vb, State.flagCf).extU());
  }
  private makeWordsOfAny(): void {
    this.storeAny();
    this.fetch();
    this.code.set(i32(LazyOp.words));
  }
  /** Emits `body` with the words at hand; what the flags follow from stays as it is. */
  private withWords<R>(body: (result: I64, carries: I64, cf: I32) => R): R {
    const { f, kind } = this;
    if (kind === "dynamic" || kind.op === "memory" || kind.op === "words") {
      this.makeWords();
      return body(f.let(this.result.get()), f.let(this.a.get()), f.let(this.b.get().wrap()));
    }
    const extended = (v: Var<"i64">) => f.let(v.get().signExtend(kind.bits));
    const r = kind.op === "sub" ? f.let(this.difference().signExtend(kind.bits)) : extended(this.result);
    if (kind.op === "logic") return body(r, i64(0), i32(0));
    if (kind.op === "inc" || kind.op === "dec") {
      const before = f.let(beforeStep(kind.op, r).signExtend(kind.bits));
      return body(r, f.let(carriesOfStep(kind.op, before, r, this.b.get())), f.let(this.b.get().wrap()));
    }
    const [a, b] = [extended(this.a), extended(this.b)];
    return body(r, f.let(a.xor(b).xor(r)), f.let(kind.op === "add" ? r.ltU(a) : a.ltU(b)));
  }

  get resultWord(): I64 {
    return this.withWords((result) => this.copy(result));
  }
  get carriesWord(): I64 {
    return this.withWords((_result, carries) => this.copy(carries));
  }
  get cfWord(): I32 {
    const { f, kind } = this;
    if (kind === "dynamic") {
      // A loop that counts down makes no words: it has kept CF itself.
      f.if(this.code.get().and(LAZY_CF), () => this.makeWordsOfAny(), undefined, false);
      return f.let(this.b.get().wrap());
    }
    const direct = this.condition(1);
    if (direct) return f.let(direct);
    return this.withWords((_result, _carries, cf) => cf);
  }
  private copy(value: I64): I64 {
    const copy = this.f.var("i64", value);
    return copy.get();
  }

  /** Stores the words into the state, on a way out of the region. */
  store(): void {
    const { f, vb, kind } = this;
    if (kind !== "dynamic" && kind.op === "memory") return;
    this.withWords((result, carries, cf) => {
      f.store("i64.store", vb, result, State.flagRes);
      f.store("i64.store", vb, carries, State.flagCarries);
      f.store("i32.store", vb, cf, State.flagCf);
    });
  }
  /** The same of whatever they follow from. */
  storeAny(): void {
    const { result, a, b } = this;
    this.callVoid(STORE_FLAGS, this.code.get(), result.get(), a.get(), b.get());
  }

  /** Of subtractions: what is not kept. */
  private difference(): I64 {
    return this.a.get().sub(this.b.get());
  }

  // Conditions

  /** A comparison that tells condition codes 2·pair; undefined if the general way must be taken. */
  condition(pair: number): I32 | undefined {
    const { kind } = this;
    if (kind === "dynamic" || kind.op === "words" || kind.op === "memory") return undefined;
    const { op, bits } = kind;
    const value = (v: Var<"i64">): I32 | I64 => (bits === 64 ? v.get() : v.get().wrap().signExtend(bits));
    const [a, b, r] = [() => value(this.a), () => value(this.b), () => value(this.result)];
    const difference = () => (bits === 64 ? this.difference() : this.difference().wrap().signExtend(bits));
    const compare = (name: "eq" | "ltU" | "leU" | "ltS" | "leS", x: I32 | I64, y: I32 | I64 | number): I32 =>
      (x as I64)[name](y as I64);
    if (op === "sub") {
      if (pair === 1) return compare("ltU", a(), b());
      if (pair === 2) return compare("eq", a(), b());
      if (pair === 3) return compare("leU", a(), b());
      if (pair === 4) return compare("ltS", difference(), 0);
      if (pair === 6) return compare("ltS", a(), b());
      if (pair === 7) return compare("leS", a(), b());
      return undefined;
    }
    if (pair === 2) return r().eqz();
    if (pair === 4) return compare("ltS", r(), 0);
    if (op === "add") return pair === 1 ? compare("ltU", r(), a()) : undefined;
    if (op === "inc" || op === "dec") return pair === 1 ? this.b.get().wrap() : undefined;
    if (pair === 1) return i32(0);
    if (pair === 3) return r().eqz();
    if (pair === 6) return compare("ltS", r(), 0);
    return pair === 7 ? compare("leS", r(), 0) : undefined;
  }
}
