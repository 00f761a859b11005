import { type I32, i32, i64 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { DOUBLE, Fpx, SINGLE } from "../float/number.ts";
import { raiseFlags } from "../float/round.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import type { Ops } from "../ops.ts";
import { setOrder } from "../sse/compare.ts";
import { noteDenormals, readNumber } from "./arith.ts";
import { beginX87 } from "./control.ts";
import {
  CONDITIONS,
  clearFlags,
  dropFlags,
  type Extended,
  exponentOf,
  isDenormal80,
  isEmpty,
  isNan80,
  isSignaling80,
  isSpecial,
  isUnsupported,
  keepC1,
  popRegister,
  readRegister,
  STACK_FAULT,
  Status,
  setFlags,
  unpack80,
} from "./stack.ts";

/** Comparisons of x87 numbers, into the condition codes or into the flags; FXAM. */

const UNORDERED = 3;

// (1 if quiet NaN are invalid, first, second) → 0 greater, 1 less, 2 equal, 3 unordered
defineHelper("x87Order", ["i32", "i32", "i64", "i32", "i64"], "i32", (h) => {
  const { f } = h;
  const a = { se: h.param<"i32">(1), sig: h.param<"i64">(2) };
  const b = { se: h.param<"i32">(3), sig: h.param<"i64">(4) };
  f.if(isSpecial(f, a).or(isSpecial(f, b)), () => {
    dropFlags(h, Fpx.de);
    const unsupported = isUnsupported(f, a).or(isUnsupported(f, b));
    const signaling = isSignaling80(f, a).or(isSignaling80(f, b));
    raiseFlags(h, unsupported.or(signaling).or(h.param<"i32">(0)));
    f.return(i32(UNORDERED));
  });
  noteDenormals(h, a, b);
  const [x, y] = [unpack80(f, a), unpack80(f, b)];
  f.if(x.sig.or(y.sig).eqz(), () => f.return(i32(2)));
  // A zero has no exponent to speak of: it lies below everything.
  const exp = (n: typeof x) => f.let(f.select(n.sig.eqz(), i32(-0x10000), n.exp));
  const [ex, ey] = [exp(x), exp(y)];
  const sx = f.let(f.select(x.sig.eqz(), y.sign, x.sign));
  const sy = f.let(f.select(y.sig.eqz(), x.sign, y.sign));
  f.if(sx.ne(sy), () => f.return(sx));
  const smaller = f.let(ex.ltS(ey).or(ex.eq(ey).and(x.sig.ltU(y.sig))));
  const same = ex.eq(ey).and(x.sig.eq(y.sig));
  f.return(f.select(same, i32(2), smaller.xor(sx)));
});

/** Enters an order into the condition codes. */
function setConditions(h: HelperBody, order: I32): void {
  const { f } = h;
  const unordered = f.let(order.eq(UNORDERED));
  const c0 = order.and(1).shl(8);
  const c3 = order.shrU(1).shl(14);
  const status = h.load32(State.fpuStatus).and(~CONDITIONS);
  h.store32(State.fpuStatus, status.or(c0).or(c3).or(unordered.shl(10)));
}
/** Compares ST(0) with a number; a stack fault makes it unordered. `settled` is 1 if registers may be popped. */
function compare(
  h: HelperBody,
  signaling: I32,
  empty: I32,
  other: () => Extended,
  before: () => void = () => {},
): { order: I32; settled: I32 } {
  const { f } = h;
  const order = f.var("i32", i32(UNORDERED));
  f.if(
    empty,
    () => setFlags(h, STACK_FAULT),
    () => {
      const a = readRegister(h, 0);
      const b = other();
      order.set(h.call("x87Order", signaling, a.se, a.sig, b.se, b.sig));
    },
  );
  before();
  return { order: order.get(), settled: h.call<"i32">("x87Settle") };
}
function popMany(h: HelperBody, pops: I32): void {
  const { f } = h;
  f.if(pops, () => popRegister(h));
  f.if(pops.eq(2), () => popRegister(h));
}

// (1 if quiet NaN are invalid, register, pops)
defineHelper("x87Compare", ["i32", "i32", "i32"], undefined, (h) => {
  const [signaling, other, pops] = [0, 1, 2].map((n) => h.param<"i32">(n));
  clearFlags(h);
  const { order, settled } = compare(h, signaling, isEmpty(h, 0).or(isEmpty(h, other)), () => readRegister(h, other));
  setConditions(h, order);
  h.f.if(settled, () => popMany(h, pops));
});
// (1 if quiet NaN are invalid, pops, sign and exponent, significand)
defineHelper("x87CompareValue", ["i32", "i32", "i32", "i64"], undefined, (h) => {
  const { order, settled } = compare(h, h.param(0), isEmpty(h, 0), () => ({ se: h.param(2), sig: h.param(3) }));
  setConditions(h, order);
  h.f.if(settled, () => popMany(h, h.param(1)));
});
// (1 if quiet NaN are invalid, register, 1 to pop) → order
defineHelper("x87CompareFlags", ["i32", "i32", "i32"], "i32", (h) => {
  const { f } = h;
  const [signaling, other, pops] = [0, 1, 2].map((n) => h.param<"i32">(n));
  clearFlags(h);
  const empty = isEmpty(h, 0).or(isEmpty(h, other));
  const { order, settled } = compare(
    h,
    signaling,
    empty,
    () => readRegister(h, other),
    () => keepC1(h),
  );
  f.if(settled, () => popMany(h, pops));
  f.return(order);
});

for (const [digit, name] of [
  [2, "COM"],
  [3, "COMP"],
] as const) {
  const pops = digit - 2;
  for (const [opcode, operand, float] of [
    ["d8", "Md", SINGLE],
    ["dc", "Mq", DOUBLE],
    ["da", "Md", undefined],
    ["de", "Mw", undefined],
  ] as const) {
    define(`F${float ? "" : "I"}${name} m`, `${opcode} /${digit} ${operand}`, (o, i) => {
      beginX87(o, i);
      const b = readNumber(o, i.operands[0], float);
      o.callVoid("x87CompareValue", i32(1), i32(pops), b.se, b.sig);
    });
  }
}
const registers = (name: string, encodings: string[], signaling: number, pops: number): void =>
  define(name, encodings, (o, i) => {
    beginX87(o, i);
    const other = i.operands.length ? i.imm() : i32(1);
    o.callVoid("x87Compare", i32(signaling), other, i32(pops));
  });
registers("FCOM STi", ["d8 /2 STi", "dc /2 STi"], 1, 0);
registers("FCOMP STi", ["d8 /3 STi", "dc /3 STi", "de /2 STi"], 1, 1);
registers("FCOMPP", ["de /3.1"], 1, 2);
registers("FUCOM STi", ["dd /4 STi"], 0, 0);
registers("FUCOMP STi", ["dd /5 STi"], 0, 1);
registers("FUCOMPP", ["da /5.1"], 0, 2);
define("FTST", "d9 /4.4", (o, i) => {
  beginX87(o, i);
  o.setState32(State.fpFlags, i32(0));
  o.callVoid("x87CompareValue", i32(1), i32(0), i32(0), i64(0));
});

const toFlags = (name: string, encoding: string, signaling: number, pops: number): void =>
  define(name, encoding, (o: Ops, i) => {
    beginX87(o, i);
    const order = o.call<"i32">("x87CompareFlags", i32(signaling), i.imm(), i32(pops));
    setOrder(o, order);
  });
toFlags("FCOMI STi", "db /6 STi", 1, 0);
toFlags("FCOMIP STi", "df /6 STi", 1, 1);
toFlags("FUCOMI STi", "db /5 STi", 0, 0);
toFlags("FUCOMIP STi", "df /5 STi", 0, 1);

// FXAM: C3 C2 C0 tell the class, C1 the sign, of an empty register too
defineHelper("x87Examine", [], undefined, (h) => {
  const { f } = h;
  const x = readRegister(h, 0);
  const [c0, c2, c3] = [i32(Status.c0), i32(Status.c2), i32(Status.c3)];
  const finite = f.select(x.sig.eqz(), c3, f.select(isDenormal80(f, x), c2.or(c3), c2));
  const large = f.select(isNan80(f, x), c0, f.select(exponentOf(x).eq(0x7fff), c0.or(c2), finite));
  const supported = f.select(isUnsupported(f, x), i32(0), large);
  const kind = f.let(f.select(isEmpty(h, 0), c0.or(c3), supported));
  const sign = x.se.shrU(15).shl(9);
  h.store32(State.fpuStatus, h.load32(State.fpuStatus).and(~CONDITIONS).or(kind).or(sign));
});
define("FXAM", "d9 /4.5", (o, i) => {
  beginX87(o, i);
  o.callVoid("x87Examine");
});
