import { type Fn, type I32, type I64, i32, i64, i64Halves } from "@xenoserver/wasm";
import { Flag } from "./flags.ts";
import type { FlagRecipe } from "./instruction.ts";
import { carriesOfStep } from "./lazy-kinds.ts";

/** Arithmetic flags: from what they follow, and what is asked of them. */
export abstract class FlagOps {
  readonly f: Fn;
  /** Address of the vcpu's area. */
  readonly vb: I32;

  constructor(f: Fn, vb: I32) {
    this.f = f;
    this.vb = vb;
  }

  // What an implementation provides

  abstract setFlags(recipe: FlagRecipe): void;
  /** False where nobody sees the flags that the instruction sets: what they follow from need not be computed. */
  get wantsFlags(): boolean {
    return true;
  }
  /** The flag words of state/layout.ts. */
  abstract flagWord(which: "res" | "carries"): I64;
  abstract flagCf(): I32;
  abstract setFlagWords(res: I64, carries: I64, cf: I32): void;

  // What follows

  /** Turns a recipe into the three flag words. */
  flagWords(recipe: FlagRecipe): { res: I64; carries: I64; cf: I32 } {
    const { f } = this;
    switch (recipe.kind) {
      case "add":
        return { res: recipe.res, carries: recipe.a.xor(recipe.b).xor(recipe.res), cf: recipe.res.ltU(recipe.a) };
      case "sub": {
        const res = recipe.res();
        return { res, carries: recipe.a.xor(recipe.b).xor(res), cf: recipe.a.ltU(recipe.b) };
      }
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
        const cf = f.let(this.flagCf().and(1));
        return { res: recipe.res, carries: carriesOfStep(recipe.kind, recipe.a, recipe.res, cf.extU()), cf };
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
    const carries = this.flagWord("carries").and(i64Halves(-1, 0x7fffffff)).or(of.xor(cf).shl(63));
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
}
