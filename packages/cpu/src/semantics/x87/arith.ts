import { type I32, type I64, i32 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { DOUBLE, type Format, Fpx, SINGLE, SPECIAL, type Unpacked, unpack } from "../float/number.ts";
import { raiseFlags } from "../float/round.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import type { Operand } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { beginX87 } from "./control.ts";
import {
  clearFlags,
  DEFAULT_NAN,
  dropFlags,
  type Extended,
  isDenormal80,
  isEmpty,
  isSpecial,
  popRegister,
  readRegister,
  returnExtended,
  returned,
  STACK_FAULT,
  setFlags,
  unpack80,
  writeRegister,
} from "./stack.ts";

/** x87 arithmetic: FADD, FMUL, FSUB(R), FDIV(R) and FSQRT in all their forms. */

/** Operations by the digit of their encodings. The reversed ones are odd. */
const Digit = { mul: 1, sub: 4, div: 6 } as const;

const partsOf = (x: Unpacked) => [x.sign, x.exp, x.sig];
export function noteDenormals(h: HelperBody, ...numbers: readonly Extended[]): void {
  for (const x of numbers) raiseFlags(h, isDenormal80(h.f, x).shl(1));
}
/** Rounds what an operation of the core left to the 80-bit format. */
export function round80(h: HelperBody, control: I32, sig: I64): Extended {
  const parts = [h.load32(State.fpSign), h.load32(State.fpExp), sig, h.load64(State.fpRest)];
  return returned(h, h.call("fpRound80", control, ...parts));
}

// (digit, first, second) → result, with its exceptions
defineHelper("x87Compute", ["i32", "i32", "i64", "i32", "i64"], "i64", (h) => {
  const { f } = h;
  const op = h.param<"i32">(0);
  const [seA, seB] = [h.param<"i32">(1), h.param<"i32">(3)];
  const [sigA, sigB] = [h.param<"i64">(2), h.param<"i64">(4)];
  const reversed = f.let(op.and(1).and(op.gtU(Digit.mul)));
  const a = { se: f.let(f.select(reversed, seB, seA)), sig: f.let(f.select(reversed, sigB, sigA)) };
  const b = { se: f.let(f.select(reversed, seA, seB)), sig: f.let(f.select(reversed, sigA, sigB)) };
  f.if(isSpecial(f, a).or(isSpecial(f, b)), () => {
    const sig = h.call<"i64">("x87Nan", a.se, a.sig, b.se, b.sig);
    f.return(sig);
  });
  noteDenormals(h, a, b);
  const control = h.call<"i32">("x87Control");
  const x = unpack80(f, a);
  const y = unpack80(f, b);
  const sig = f.var("i64");
  f.if(
    op.geU(Digit.div),
    () => sig.set(h.call("fpDivide", control, ...partsOf(x), ...partsOf(y))),
    () =>
      f.if(
        op.eq(Digit.mul),
        () => sig.set(h.call("fpMultiply", control, ...partsOf(x), ...partsOf(y))),
        () => {
          const sign = y.sign.xor(op.geU(Digit.sub));
          sig.set(h.call("fpAdd", control, ...partsOf(x), sign, y.exp, y.sig));
        },
      ),
  );
  // Division by zero and invalid operations go before denormal operands.
  f.if(h.load32(State.fpFlags).and(Fpx.ie | Fpx.ze), () => dropFlags(h, Fpx.de));
  returnExtended(h, round80(h, control, sig.get()));
});

/** Writes a result to ST(i) and pops, if the exceptions allow it. */
export function finish(h: HelperBody, i: I32 | number, result: Extended, pop?: I32): void {
  const { f } = h;
  f.if(h.call<"i32">("x87Settle"), () => {
    writeRegister(h, i, result);
    if (pop) f.if(pop, () => popRegister(h));
  });
}
/** The result of `compute`, or the default NaN with a stack fault if a register is empty. */
export function unlessEmpty(h: HelperBody, empty: I32, compute: () => Extended): Extended {
  const { f } = h;
  const se = f.var("i32", DEFAULT_NAN.se);
  const sig = f.var("i64", DEFAULT_NAN.sig);
  f.if(
    empty,
    () => setFlags(h, STACK_FAULT),
    () => {
      const result = compute();
      se.set(result.se);
      sig.set(result.sig);
    },
  );
  return { se: se.get(), sig: sig.get() };
}

// (digit, destination, source, 1 to pop): ST(d) = ST(d) op ST(s)
defineHelper("x87Arith", ["i32", "i32", "i32", "i32"], undefined, (h) => {
  const [op, d, s, pop] = [0, 1, 2, 3].map((n) => h.param<"i32">(n));
  clearFlags(h);
  const result = unlessEmpty(h, isEmpty(h, d).or(isEmpty(h, s)), () => {
    const a = readRegister(h, d);
    const b = readRegister(h, s);
    return returned(h, h.call("x87Compute", op, a.se, a.sig, b.se, b.sig));
  });
  finish(h, d, result, pop);
});
// (digit, sign and exponent, significand): ST(0) = ST(0) op number; DE of its loading may be in the state
defineHelper("x87ArithValue", ["i32", "i32", "i64"], undefined, (h) => {
  const result = unlessEmpty(h, isEmpty(h, 0), () => {
    const a = readRegister(h, 0);
    return returned(h, h.call("x87Compute", h.param(0), a.se, a.sig, h.param(1), h.param(2)));
  });
  finish(h, 0, result);
});

// Numbers from memory, as 80-bit ones

for (const fmt of [SINGLE, DOUBLE]) {
  // (bits) → number; DE if it is denormal. A signaling NaN stays one.
  defineHelper(`x87Widen${fmt.bits}`, ["i64"], "i64", (h) => {
    const { f } = h;
    const x = unpack(f, h.param(0), fmt);
    const zero = f.let(x.sig.eqz());
    raiseFlags(h, x.exp.ltS(fmt.min).and(zero.eqz()).shl(1));
    const exp = f.select(zero, i32(0), f.select(x.exp.eq(SPECIAL), i32(0x7fff), x.exp));
    returnExtended(h, { se: exp.or(x.sign.shl(15)), sig: x.sig });
  });
}
// (integer) → number
defineHelper("x87FromInteger", ["i64"], "i64", (h) => {
  const { f } = h;
  const sig = h.call<"i64">("fpFromInteger", h.param(0));
  const exp = f.select(sig.eqz(), i32(0), h.load32(State.fpExp));
  returnExtended(h, { se: exp.or(h.load32(State.fpSign).shl(15)), sig });
});
/** Reads a number from memory; the x87 state is left alone but for DE, which is in `State.fpFlags`. */
export function readNumber(o: Ops, operand: Operand, float: Format | undefined): Extended {
  const bits = float ? operand.read() : operand.readS();
  o.setState32(State.fpFlags, i32(0));
  const sig = o.call<"i64">(float ? `x87Widen${float.bits}` : "x87FromInteger", bits);
  return { se: o.state32(State.fpSignExp), sig };
}

const OPERATIONS: readonly [digit: number, name: string][] = [
  [0, "ADD"],
  [1, "MUL"],
  [4, "SUB"],
  [5, "SUBR"],
  [6, "DIV"],
  [7, "DIVR"],
];
for (const [digit, name] of OPERATIONS) {
  for (const [opcode, operand, float] of [
    ["d8", "Md", SINGLE],
    ["dc", "Mq", DOUBLE],
    ["da", "Md", undefined],
    ["de", "Mw", undefined],
  ] as const) {
    define(`F${float ? "" : "I"}${name} m`, `${opcode} /${digit} ${operand}`, (o, i) => {
      beginX87(o, i);
      const b = readNumber(o, i.operands[0], float);
      o.callVoid("x87ArithValue", i32(digit), b.se, b.sig);
    });
  }
  define(`F${name} ST0,STi`, `d8 /${digit} STi`, (o, i) => {
    beginX87(o, i);
    o.callVoid("x87Arith", i32(digit), i32(0), i.imm(), i32(0));
  });
  // With ST(i) as the destination the encodings of the reversed operations are the other ones.
  const other = digit < 4 ? digit : digit ^ 1;
  for (const [opcode, pop] of [
    ["dc", 0],
    ["de", 1],
  ] as const) {
    define(`F${name}${pop ? "P" : ""} STi,ST0`, `${opcode} /${other} STi`, (o, i) => {
      beginX87(o, i);
      o.callVoid("x87Arith", i32(digit), i.imm(), i32(0), i32(pop));
    });
  }
}

defineHelper("x87Sqrt", [], undefined, (h) => {
  const { f } = h;
  clearFlags(h);
  const result = unlessEmpty(h, isEmpty(h, 0), () => {
    const a = readRegister(h, 0);
    const special = isSpecial(f, a);
    const sig = f.var("i64");
    f.if(
      special,
      () => sig.set(h.call("x87Nan", a.se, a.sig, a.se, a.sig)),
      () => {
        noteDenormals(h, a);
        const x = partsOf(unpack80(f, a));
        const control = h.call<"i32">("x87Control");
        sig.set(h.call("fpSqrt", control, ...x, ...x));
        f.if(h.load32(State.fpFlags).and(Fpx.ie), () => dropFlags(h, Fpx.de));
        sig.set(round80(h, control, sig.get()).sig);
      },
    );
    return returned(h, sig.get());
  });
  finish(h, 0, result);
});
define("FSQRT", "d9 /7.2", (o, i) => {
  beginX87(o, i);
  o.callVoid("x87Sqrt");
});
