import { type Fn, type I32, type I64, i32, i64, i64Halves, type Val, type Var } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import {
  asBits,
  asFloat,
  Control,
  compareFloats,
  DOUBLE,
  type Format,
  FPX_ALL,
  FPX_BEFORE,
  Fpx,
  landmarks,
  magnitude,
  SINGLE,
  signOf,
  type Unpacked,
  unpack,
} from "../float/number.ts";
import { raiseFlags } from "../float/round.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import { isBounded, isInside, notDenormal } from "./fast.ts";

/**
 * SSE arithmetic in full: NaN, denormals, rounding, exceptions. Handlers call these helpers when an operation is not one that
 * the host's own arithmetic is known to do alike.
 */

/** Operations on lanes; a comparison is `compare` plus the predicate of CMPccPS. */
export const LaneOp = { add: 0, sub: 1, mul: 2, div: 3, sqrt: 4, min: 5, max: 6, addSub: 7, compare: 8 } as const;

const PREDICATE_MASK = 7;
/** Sets of predicates, one bit each: those true of unordered numbers, and those to which a quiet NaN is invalid. */
const TRUE_IF_UNORDERED = 0b01111000;
const SIGNALING = 0b01100110;

const quietBit = (fmt: Format): I64 => (fmt.bits === 64 ? i64Halves(0, 0x00080000) : i64(0x00400000));
const signBit = (fmt: Format): I64 => (fmt.bits === 64 ? i64Halves(0, -0x80000000) : i64Halves(-0x80000000, 0));
const allOnes = (fmt: Format): I64 => (fmt.bits === 64 ? i64(-1) : i64Halves(-1, 0));
const inSet = (set: number, predicate: I32): I32 => i32(set).shrU(predicate).and(1);

export const isNan = (bits: I64, fmt: Format): I32 => magnitude(bits, fmt).gtU(landmarks(fmt).infinity);
export const isSignaling = (f: Fn, bits: I64, fmt: Format): I32 =>
  f.let(isNan(bits, fmt).and(bits.and(quietBit(fmt)).eqz()));
export const quieted = (bits: I64, fmt: Format): I64 => bits.or(quietBit(fmt));

/**
 * A denormal counts as zero under DAZ and is an exception otherwise.
 * @param exception DE, or 0 where an exception of higher priority comes first
 */
export function takeDenormals(
  h: HelperBody,
  control: I32,
  fmt: Format,
  operands: readonly Var<"i64">[],
  exception: I32 = i32(Fpx.de),
): void {
  const { f } = h;
  const { minNormal } = landmarks(fmt);
  for (const operand of operands) {
    const mag = f.let(magnitude(operand.get(), fmt));
    f.if(mag.ne(0).and(mag.ltU(minNormal)), () =>
      f.if(
        control.and(Control.daz),
        () => operand.set(operand.get().and(signBit(fmt))),
        () => raiseFlags(h, exception),
      ),
    );
  }
}

/** Either operand is NaN: returns. */
function takeNan(h: HelperBody, op: I32, fmt: Format, a: I64, b: I64): void {
  const { f } = h;
  const signaling = f.let(isSignaling(f, a, fmt).or(isSignaling(f, b, fmt)));
  f.if(op.geU(LaneOp.compare), () => {
    const predicate = f.let(op.and(PREDICATE_MASK));
    raiseFlags(h, signaling.or(inSet(SIGNALING, predicate)));
    f.return(i64(0).sub(inSet(TRUE_IF_UNORDERED, predicate).extU()).and(allOnes(fmt)));
  });
  f.if(op.eq(LaneOp.min).or(op.eq(LaneOp.max)), () => {
    raiseFlags(h, Fpx.ie);
    const denormal = magnitude(b, fmt).ltU(landmarks(fmt).minNormal);
    f.if(denormal.and(h.load32(State.mxcsr).and(Control.daz).ne(0)), () => f.return(b.and(signBit(fmt))));
    f.return(b);
  });
  raiseFlags(h, signaling);
  f.return(quieted(f.select(isNan(a, fmt), a, b), fmt));
}

/** Comparisons, MIN and MAX of numbers: returns. */
function compareLanes(h: HelperBody, op: I32, fmt: Format, a: I64, b: I64): void {
  const { f } = h;
  const compare = (name: string) => compareFloats(f, name, a, b, fmt);
  f.if(op.eq(LaneOp.min), () => f.return(f.select(compare("lt"), a, b)));
  f.if(op.eq(LaneOp.max), () => f.return(f.select(compare("gt"), a, b)));
  // 0 EQ, 1 LT, 2 LE, 3 UNORD, then their complements.
  const kind = f.let(op.and(3));
  const holds = f.select(
    kind.eqz(),
    compare("eq"),
    f.select(kind.eq(1), compare("lt"), f.select(kind.eq(2), compare("le"), i32(0))),
  );
  f.return(
    i64(0)
      .sub(holds.xor(op.shrU(2).and(1)).extU())
      .and(allOnes(fmt)),
  );
}

function defineLane(fmt: Format): void {
  defineHelper(`sseLane${fmt.bits}`, ["i32", "i64", "i64"], "i64", (h) => {
    const { f } = h;
    const op = h.param<"i32">(0);
    const b = f.var("i64", h.param<"i64">(2));
    const a = f.var("i64", f.select(op.eq(LaneOp.sqrt), b.get(), h.param<"i64">(1)));
    f.if(isNan(a.get(), fmt).or(isNan(b.get(), fmt)), () => takeNan(h, op, fmt, a.get(), b.get()));
    const control = h.load32(State.mxcsr);
    f.if(op.eq(LaneOp.sqrt), () => a.set(i64(0)));
    // Division by zero and roots of negative numbers go before denormal operands.
    const byZero = op.eq(LaneOp.div).and(magnitude(b.get(), fmt).eqz());
    const negativeRoot = op.eq(LaneOp.sqrt).and(signOf(b.get(), fmt));
    const exception = f.let(f.select(byZero.or(negativeRoot), i32(0), i32(Fpx.de)));
    takeDenormals(h, control, fmt, [a, b], exception);
    f.if(op.gtU(LaneOp.sqrt), () => compareLanes(h, op, fmt, a.get(), b.get()));
    f.if(op.eq(LaneOp.sub), () => b.set(b.get().xor(signBit(fmt))));
    const x = unpack(f, a.get(), fmt);
    const y = unpack(f, b.get(), fmt);
    const sig = f.var("i64");
    const compute = (helper: string) => () => sig.set(h.call(helper, control, ...partsOf(x), ...partsOf(y)));
    f.if(op.eq(LaneOp.mul), compute("fpMultiply"), () =>
      f.if(op.leU(LaneOp.sub), compute("fpAdd"), () => f.if(op.eq(LaneOp.div), compute("fpDivide"), compute("fpSqrt"))),
    );
    f.return(roundParts(h, fmt, control, sig.get()));
  });
}
const partsOf = (x: Unpacked) => [x.sign, x.exp, x.sig];

/** Rounds what an operation of the core left. */
export function roundParts(h: HelperBody, fmt: Format, control: I32, sig: I64): I64 {
  return h.call(
    `fpRound${fmt.bits}`,
    control,
    h.load32(State.fpSign),
    h.load32(State.fpExp),
    sig,
    h.load64(State.fpRest),
  );
}

/** Enters the exceptions met into MXCSR and tells by `State.fpTrap` whether one of them is to be raised. */
defineHelper("sseFinish", [], undefined, (h) => {
  const { f } = h;
  const control = f.let(h.load32(State.mxcsr));
  const flags = f.var("i32", h.load32(State.fpFlags).and(FPX_ALL));
  const enabled = f.let(control.shrU(Control.maskShift).xor(FPX_ALL).and(FPX_ALL));
  // Nothing is computed if an operand's exception is raised.
  f.if(flags.get().and(enabled).and(FPX_BEFORE), () => flags.set(flags.get().and(FPX_BEFORE)));
  h.store32(State.mxcsr, control.or(flags.get()));
  const trap = f.let(flags.get().and(enabled));
  h.store32(State.fpTrap, trap);
  f.if(trap, () => {
    const reported = h.load32(State.cr4).and(CR4_OSXMMEXCPT);
    h.store32(State.faultVector, f.select(reported, i32(19), i32(6)));
    h.store32(State.faultErrorCode, i32(0));
  });
});
const CR4_OSXMMEXCPT = 0x400;

/**
 * Returns products of zero, and sums, differences and products that are exact and neither denormal nor rounded up from there:
 * whatever MXCSR says, they raise nothing. Programs that count in floats never set PE, so that handlers do not take them for plain.
 */
function returnExact(h: HelperBody, fmt: Format, op: I32, a: I64, b: I64): void {
  const { f } = h;
  const float = (name: string, x: Val, y: Val) => f.let(f.op(`f${fmt.bits}.${name}`, x, y));
  const returnIf = (condition: I32, bits: I64) =>
    f.if(condition, () => {
      h.store32(State.fpTrap, i32(0));
      f.return(bits);
    });
  f.if(op.leU(LaneOp.mul).and(notDenormal(a, fmt)).and(notDenormal(b, fmt)), () => {
    const x = f.let(asFloat(f, a, fmt));
    f.if(op.eq(LaneOp.mul), () => {
      const product = float("mul", x, asFloat(f, b, fmt));
      const bits = asBits(f, product, fmt);
      const zero = magnitude(a, fmt).eqz().or(magnitude(b, fmt).eqz());
      returnIf(zero.and(isBounded(bits, fmt)), bits);
      returnIf(isExactProduct(f, fmt, a, b).and(isInside(bits, fmt)), bits);
    });
    f.if(op.ne(LaneOp.mul), () => {
      const sign = f.select(op.eq(LaneOp.sub), signBit(fmt), i64(0));
      const y = f.let(asFloat(f, b.xor(sign), fmt));
      const sum = float("add", x, y);
      // What the sum lacks of its terms, by Knuth's two-sum.
      const share = float("sub", sum, x);
      const lack = f.op(`f${fmt.bits}.add`, float("sub", x, float("sub", sum, share)), float("sub", y, share));
      const bits = asBits(f, lack, fmt);
      const total = asBits(f, sum, fmt);
      returnIf(magnitude(bits, fmt).eqz().and(isInside(total, fmt)), total);
    });
  });
}
/** The significands have together no more bits than one of them holds. */
function isExactProduct(f: Fn, fmt: Format, a: I64, b: I64): I32 {
  const implied = fmt.bits === 64 ? i64Halves(0, 1 << 20) : i64(1 << 23);
  const zeros = (x: I64) => x.or(implied).ctz();
  return f.let(zeros(a).add(zeros(b)).gtU(fmt.fraction));
}

function defineScalar(fmt: Format): void {
  defineHelper(`sseScalar${fmt.bits}`, ["i32", "i64", "i64"], "i64", (h) => {
    returnExact(h, fmt, h.param(0), h.param(1), h.param(2));
    h.store32(State.fpFlags, i32(0));
    const r = h.call<"i64">(`sseLane${fmt.bits}`, h.param(0), h.param(1), h.param(2));
    h.callVoid("sseFinish");
    h.f.return(r);
  });
}

/** All lanes of two vectors, in place of the first of two vectors in the state. */
function definePacked(fmt: Format): void {
  const bytes = fmt.bits / 8;
  const [load, store] = bytes === 8 ? ["i64.load", "i64.store"] : ["i64.load32_u", "i64.store32"];
  defineHelper(`ssePacked${fmt.bits}`, ["i32", "v128", "v128"], "v128", (h) => {
    const { f, vb } = h;
    const op = h.param<"i32">(0);
    h.store32(State.fpFlags, i32(0));
    f.store("v128.store", vb, h.param<"v128">(1), State.fpLanes);
    f.store("v128.store", vb, h.param<"v128">(2), State.fpLanes + 16);
    const at = f.var("i32", vb);
    const lane = f.var("i32", i32(0));
    f.loop((again) => {
      const a = f.load<"i64">(load, at.get(), State.fpLanes);
      const b = f.load<"i64">(load, at.get(), State.fpLanes + 16);
      // ADDSUB subtracts in even lanes.
      const own = f.let(f.select(op.eq(LaneOp.addSub), lane.get().and(1).xor(1), op));
      f.store(store, at.get(), h.call(`sseLane${fmt.bits}`, own, a, b), State.fpLanes);
      at.set(at.get().add(bytes));
      lane.set(lane.get().add(1));
      f.brIf(again, lane.get().ltU(16 / bytes));
    });
    h.callVoid("sseFinish");
    f.return(f.load<"v128">("v128.load", vb, State.fpLanes));
  });
}
for (const fmt of [SINGLE, DOUBLE]) {
  defineLane(fmt);
  defineScalar(fmt);
  definePacked(fmt);
}
