import type { I32, I64 } from "@xenoserver/wasm";
import { i32, i64, i64Halves } from "@xenoserver/wasm";
import { State } from "../state/layout.ts";
import { defineHelper } from "./helpers.ts";

/** What flags that have not been made yet follow from, as a number: an operation, and the width of its values above that. */
export const LazyOp = { words: 0, inc: 1, dec: 2, add: 4, sub: 5, memory: 6, logic: 7 } as const;
const OP_MASK = 7;
/** Set where `b` does not have CF. */
export const LAZY_CF = 4;
const WIDTH_SHIFT = 3;
export const lazyCode = (op: keyof typeof LazyOp, bits: 8 | 16 | 32 | 64): number =>
  op === "words" || op === "memory" ? LazyOp[op] : LazyOp[op] | (Math.log2(bits / 8) << WIDTH_SHIFT);

/**
 * The carries of an increment or decrement by its result and the value before, sign-extended locals, and CF, which it keeps: bit 63 must be OF xor CF.
 */
export function carriesOfStep(kind: "inc" | "dec", before: I64, res: I64, cf: I64): I64 {
  const auxiliary = before.xor(res).xor(1).and(0x10);
  const signs = kind === "inc" ? res.and(before.not()) : before.and(res.not());
  return signs.and(i64Halves(0, -0x80000000)).xor(cf.shl(63)).or(auxiliary);
}
/** The value before an increment or decrement; not extended. */
export const beforeStep = (kind: "inc" | "dec", res: I64): I64 => (kind === "inc" ? res.sub(1) : res.add(1));

/**
 * (code, result, a, b): makes the flag words of whatever they follow from and stores them into the state. The result of a subtraction is not looked
 * at; of increments and decrements, `b` is CF; as words, `a` has the carries and `b` the CF word; `memory` is done already.
 */
export const STORE_FLAGS = "storeFlags";
defineHelper(STORE_FLAGS, ["i32", "i64", "i64", "i64"], undefined, (h) => {
  const { f } = h;
  const op = f.let(h.param<"i32">(0).and(OP_MASK));
  const [result, a, b] = [1, 2, 3].map((n) => h.param<"i64">(n));
  const store = (res: I64, carries: I64, cf: I32): void => {
    h.store64(State.flagRes, res);
    h.store64(State.flagCarries, carries);
    h.store32(State.flagCf, cf);
    f.return();
  };
  f.if(op.eq(LazyOp.memory), () => f.return());
  f.if(op.eq(LazyOp.words), () => store(result, a, b.wrap()));
  const unused = f.let(i64(64).sub(i64(8).shl(h.param<"i32">(0).shrU(WIDTH_SHIFT).extU())));
  const extended = (v: I64): I64 => f.let(v.shl(unused).shrS(unused));
  f.if(op.eq(LazyOp.logic), () => store(extended(result), i64(0), i32(0)));
  for (const kind of ["inc", "dec"] as const)
    f.if(op.eq(LazyOp[kind]), () => {
      const res = extended(result);
      store(res, carriesOfStep(kind, extended(beforeStep(kind, result)), res, b), b.wrap());
    });
  const [x, y] = [extended(a), extended(b)];
  f.if(op.eq(LazyOp.sub), () => {
    const difference = extended(a.sub(b));
    store(difference, x.xor(y).xor(difference), x.ltU(y));
  });
  const sum = extended(result);
  store(sum, x.xor(y).xor(sum), sum.ltU(x));
});
