import { type I32, type I64, i32, i64, i64Halves } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { DOUBLE, Fpx, QUIET_NAN, Rounding, SINGLE } from "../float/number.ts";
import { raiseFlags, roundingMode } from "../float/round.ts";
import { defineHelper } from "../helpers.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { finish, readNumber, unlessEmpty } from "./arith.ts";
import { beginX87 } from "./control.ts";
import {
  clearFlags,
  type Extended,
  isEmpty,
  isSignaling80,
  isSpecial,
  isUnsupported,
  keepC1,
  NAN_EXP,
  popRegister,
  quieted80,
  readRegister,
  STACK_FAULT,
  setFlags,
  unpack80,
  writeRegister,
} from "./stack.ts";

/** Loads, stores and exchanges of x87 registers. */

// Loads

const clear = (o: Ops): void => o.setState32(State.fpFlags, i32(0));

for (const [fmt, opcode, operand] of [
  [SINGLE, "d9", "Md"],
  [DOUBLE, "dd", "Mq"],
] as const) {
  define("FLD m", `${opcode} /0 ${operand}`, (o, i) => {
    beginX87(o, i);
    const x = readNumber(o, i.operands[0], fmt);
    o.callVoid("x87LoadFloat", x.se, x.sig);
  });
}
// (sign and exponent, significand): pushes a number that was a shorter float; signaling NaN are invalid
defineHelper("x87LoadFloat", ["i32", "i64"], undefined, (h) => {
  const x = { se: h.param<"i32">(0), sig: h.param<"i64">(1) };
  const signaling = isSignaling80(h.f, x);
  raiseFlags(h, signaling);
  h.callVoid("x87Push", x.se, h.f.select(signaling, x.sig.or(QUIET_NAN), x.sig));
});
for (const [encoding, name] of [
  ["df /0 Mw", "FILD m16"],
  ["db /0 Md", "FILD m32"],
  ["df /5 Mq", "FILD m64"],
] as const) {
  define(name, encoding, (o, i) => {
    beginX87(o, i);
    const x = readNumber(o, i.operands[0], undefined);
    o.callVoid("x87Push", x.se, x.sig);
  });
}
define("FLD m80", "db /5 Mt", (o, i) => {
  beginX87(o, i);
  const { f } = o;
  const host = o.hostRead(i.address(), 10);
  const sig = f.let(f.load<"i64">("i64.load", host));
  const se = f.let(f.load<"i32">("i32.load16_u", host, 8));
  clear(o);
  o.callVoid("x87Push", se, sig);
});
defineHelper("x87LoadRegister", ["i32"], undefined, (h) => {
  clearFlags(h);
  const x = unlessEmpty(h, isEmpty(h, h.param<"i32">(0)), () => readRegister(h, h.param<"i32">(0)));
  h.callVoid("x87Push", x.se, x.sig);
});
define("FLD STi", "d9 /0 STi", (o, i) => {
  beginX87(o, i);
  o.callVoid("x87LoadRegister", i.imm());
});

/** Constants: the significand cut to 64 bits, and whether the rest is more than half a unit. */
const CONSTANTS: readonly [name: string, rm: number, exp: number, sig: bigint, above: boolean][] = [
  ["FLD1", 0, 0x3fff, 0x8000000000000000n, false],
  ["FLDL2T", 1, 0x4000, 0xd49a784bcd1b8afen, false],
  ["FLDL2E", 2, 0x3fff, 0xb8aa3b295c17f0bbn, true],
  ["FLDPI", 3, 0x4000, 0xc90fdaa22168c234n, true],
  ["FLDLG2", 4, 0x3ffd, 0x9a209a84fbcff798n, true],
  ["FLDLN2", 5, 0x3ffe, 0xb17217f7d1cf79abn, true],
  ["FLDZ", 6, 0, 0n, false],
];
for (const [name, rm, exp, sig, above] of CONSTANTS) {
  define(name, `d9 /5.${rm}`, (o, i) => {
    beginX87(o, i);
    clear(o);
    const { f } = o;
    const mode = f.let(o.state32(State.fpuControl).shrU(10).and(3));
    const exact = sig === 0n || rm === 0;
    const up = exact ? i32(0) : above ? mode.eqz().or(mode.eq(Rounding.up)) : mode.eq(Rounding.up);
    const low = i64Halves(Number(BigInt.asIntN(32, sig)), Number(BigInt.asIntN(32, sig >> 32n)));
    o.callVoid("x87Push", i32(exp), exact ? low : low.add(up.extU()));
  });
}

// Stores: the value is computed, then memory is written (and may fault), then the registers change

/** What unmasked exceptions keep a store from happening. */
const PREVENTING_STORE = Fpx.ie | Fpx.oe | Fpx.ue;
const mayStore = (o: Ops): I32 =>
  o.state32(State.fpFlags).and(o.state32(State.fpuControl).xor(-1)).and(PREVENTING_STORE).eqz();
// (1 to pop): enters the exceptions of a store
defineHelper("x87EndStore", ["i32"], undefined, (h) => {
  const { f } = h;
  const flags = f.var("i32", h.load32(State.fpFlags));
  const enabled = h.load32(State.fpuControl).xor(-1);
  const prevented = f.let(flags.get().and(enabled).and(PREVENTING_STORE));
  f.if(prevented, () => flags.set(flags.get().and(PREVENTING_STORE | Fpx.sf)));
  h.callVoid("x87Enter", flags.get());
  f.if(prevented.eqz().and(h.param(0)), () => popRegister(h));
});
function store(o: Ops, i: Instruction, pop: boolean, compute: () => I64): void {
  beginX87(o, i);
  const value = compute();
  const { width } = i.operands[0];
  // The place must be writable even if nothing is written.
  o.checkOperandWrite();
  o.update(i.address(), width, (host) => o.f.if(mayStore(o), () => o.storeHost(host, width, value)));
  o.callVoid("x87EndStore", i32(pop ? 1 : 0));
}

for (const fmt of [SINGLE, DOUBLE]) {
  // () → bits of ST(0) in a shorter format
  defineHelper(`x87Narrow${fmt.bits}`, [], "i64", (h) => {
    const { f } = h;
    clearFlags(h);
    const pack = (x: Extended) =>
      x.sig
        .shl(1)
        .shrU(64 - fmt.fraction)
        .or(i64((1 << (fmt.bits - fmt.fraction - 1)) - 1).shl(fmt.fraction))
        .or(
          x.se
            .shrU(15)
            .extU()
            .shl(fmt.bits - 1),
        );
    const nan = { se: i32(NAN_EXP), sig: QUIET_NAN };
    f.if(isEmpty(h, 0), () => {
      setFlags(h, STACK_FAULT);
      f.return(pack(nan));
    });
    const x = readRegister(h, 0);
    f.if(isSpecial(f, x), () => {
      f.if(isUnsupported(f, x), () => {
        setFlags(h, Fpx.ie);
        f.return(pack(nan));
      });
      raiseFlags(h, isSignaling80(f, x));
      f.return(pack(quieted80(x)));
    });
    const parts = unpack80(f, x);
    const control = h.call<"i32">("x87Control");
    f.return(h.call<"i64">(`fpRound${fmt.bits}`, control, parts.sign, parts.exp, parts.sig, i64(0)));
  });
}
for (const [fmt, opcode, operand] of [
  [SINGLE, "d9", "Md"],
  [DOUBLE, "dd", "Mq"],
] as const) {
  for (const [name, digit] of [
    ["FST m", 2],
    ["FSTP m", 3],
  ] as const) {
    define(name, `${opcode} /${digit} ${operand}`, (o, i) =>
      store(o, i, digit === 3, () => o.call<"i64">(`x87Narrow${fmt.bits}`)),
    );
  }
}

// (rounding 0–3, or 4 for that of the control word; bits) → ST(0) as an integer
defineHelper("x87ToInteger", ["i32", "i32"], "i64", (h) => {
  const { f } = h;
  clearFlags(h);
  const indefinite = f.let(i64(-1).shl(h.param<"i32">(1).sub(1).extU()));
  f.if(isEmpty(h, 0), () => {
    setFlags(h, STACK_FAULT);
    f.return(indefinite);
  });
  const x = readRegister(h, 0);
  f.if(isSpecial(f, x), () => {
    setFlags(h, Fpx.ie);
    f.return(indefinite);
  });
  const asked = h.param<"i32">(0);
  const mode = f.let(f.select(asked.eq(4), roundingMode(f, h.call("x87Control")), asked));
  const parts = unpack80(f, x);
  f.return(h.call<"i64">("fpToInteger", mode, h.param(1), parts.sign, parts.exp, parts.sig));
});
const INTEGER_STORES: readonly [name: string, encoding: string][] = [
  ["FISTTP m16", "df /1 Mw"],
  ["FISTTP m32", "db /1 Md"],
  ["FISTTP m64", "dd /1 Mq"],
  ["FIST m16", "df /2 Mw"],
  ["FIST m32", "db /2 Md"],
  ["FISTP m16", "df /3 Mw"],
  ["FISTP m32", "db /3 Md"],
  ["FISTP m64", "df /7 Mq"],
];
for (const [name, encoding] of INTEGER_STORES) {
  const mode = name.startsWith("FISTT") ? Rounding.zero : 4;
  define(name, encoding, (o, i) =>
    store(o, i, !name.startsWith("FIST m"), () =>
      o.call<"i64">("x87ToInteger", i32(mode), i32(i.operands[0].width * 8)),
    ),
  );
}

/** Writes ten bytes unless an exception prevents it, and pops. */
export function storeTen(o: Ops, i: Instruction, sig: I64): void {
  const { f } = o;
  o.checkOperandWrite();
  o.update(i.address(), 10, (host) =>
    f.if(mayStore(o), () => {
      f.store("i64.store", host, sig);
      f.store("i32.store16", host, o.state32(State.fpSignExp), 8);
    }),
  );
  o.callVoid("x87EndStore", i32(1));
}
// () → the significand of ST(0), its sign and exponent in the state; or the default NaN
defineHelper("x87Store80", [], "i64", (h) => {
  clearFlags(h);
  const x = unlessEmpty(h, isEmpty(h, 0), () => readRegister(h, 0));
  h.store32(State.fpSignExp, x.se);
  h.f.return(x.sig);
});
define("FSTP m80", "db /7 Mt", (o, i) => {
  beginX87(o, i);
  storeTen(o, i, o.call<"i64">("x87Store80"));
});
// (destination, 1 to pop)
defineHelper("x87StoreRegister", ["i32", "i32"], undefined, (h) => {
  clearFlags(h);
  const x = unlessEmpty(h, isEmpty(h, 0), () => readRegister(h, 0));
  finish(h, h.param<"i32">(0), x, h.param(1));
});
define("FST STi", "dd /2 STi", (o, i) => {
  beginX87(o, i);
  o.callVoid("x87StoreRegister", i.imm(), i32(0));
});
define("FSTP STi", ["dd /3 STi", "df /2 STi", "df /3 STi"], (o, i) => {
  beginX87(o, i);
  o.callVoid("x87StoreRegister", i.imm(), i32(1));
});

// An old alias of FSTP that pops an empty register without a stack fault
defineHelper("x87MoveAndPop", ["i32"], undefined, (h) => {
  const { f } = h;
  const i = h.param<"i32">(0);
  clearFlags(h);
  h.callVoid("x87Enter", i32(0));
  f.if(isEmpty(h, 0).eqz(), () => writeRegister(h, i, readRegister(h, 0)));
  popRegister(h);
});
define("FSTPNCE STi", "d9 /3 STi", (o, i) => {
  beginX87(o, i);
  o.callVoid("x87MoveAndPop", i.imm());
});

// Exchanges and conditional moves

defineHelper("x87Exchange", ["i32"], undefined, (h) => {
  const { f } = h;
  const i = h.param<"i32">(0);
  clearFlags(h);
  const orNan = (n: I32 | number): Extended => unlessEmpty(h, isEmpty(h, n), () => readRegister(h, n));
  const [a, b] = [orNan(0), orNan(i)];
  f.if(h.call<"i32">("x87Settle"), () => {
    writeRegister(h, 0, b);
    writeRegister(h, i, a);
  });
});
define("FXCH", ["d9 /1 STi", "dd /1 STi", "df /1 STi"], (o, i) => {
  beginX87(o, i);
  o.callVoid("x87Exchange", i.imm());
});

// (condition, source)
defineHelper("x87ConditionalMove", ["i32", "i32"], undefined, (h) => {
  const { f } = h;
  const source = h.param<"i32">(1);
  clearFlags(h);
  const empty = f.let(isEmpty(h, 0).or(isEmpty(h, source)));
  const x = unlessEmpty(h, empty, () => readRegister(h, source));
  keepC1(h);
  f.if(h.call<"i32">("x87Settle").and(h.param<"i32">(0).or(empty)), () => writeRegister(h, 0, x));
});
for (const [name, opcode, digit, condition] of [
  ["FCMOVB", "da", 0, 2],
  ["FCMOVE", "da", 1, 4],
  ["FCMOVBE", "da", 2, 6],
  ["FCMOVU", "da", 3, 10],
  ["FCMOVNB", "db", 0, 3],
  ["FCMOVNE", "db", 1, 5],
  ["FCMOVNBE", "db", 2, 7],
  ["FCMOVNU", "db", 3, 11],
] as const) {
  define(name, `${opcode} /${digit} STi`, (o, i) => {
    beginX87(o, i);
    o.callVoid("x87ConditionalMove", o.condition(condition), i.imm());
  });
}
