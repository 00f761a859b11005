import { type I32, type I64, i32, i64, i64Halves, type V128, v128 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { define } from "../define.ts";
import { asBits, asFloat, DOUBLE, type Format, Rounding, SINGLE } from "../float/number.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { enterMmx, high, low, needMmx, source128, vector } from "./access.ts";
import { needSse } from "./control.ts";
import { BY_CONTROL } from "./convert-lanes.ts";
import { isInside, isOrdered, plainControl } from "./fast.ts";
import { leaveIfTrapped } from "./float.ts";

/** Conversions between floats of two sizes and integers. */

/** Runs lane helpers; leaves if one of them met an exception that is not masked. */
export function lanes<T>(o: Ops, compute: () => T): T {
  o.setState32(State.fpFlags, i32(0));
  const results = compute();
  o.callVoid("sseFinish");
  leaveIfTrapped(o);
  return results;
}
/** 32-bit element `k` of a vector. */
const word = (o: Ops, v: V128, k: number): I64 => o.f.let(o.f.lane<"i32">("i32x4.extract_lane", k, v).extU());
const pack = (low32: I64, high32: I64): I64 => low32.and(i64Halves(-1, 0)).or(high32.shl(32));

// Scalars

const SCALARS = [
  { prefix: "f3", fmt: SINGLE, size: "d", letter: "S" },
  { prefix: "f2", fmt: DOUBLE, size: "q", letter: "D" },
] as const;

/**
 * A float as an integer of `bits` bits. The host's conversion saturates, so its extremes are left to the helper; an inexact one
 * is right if nobody needs to hear of it.
 */
function toInteger(o: Ops, fmt: Format, truncate: boolean, bits: number, value: I64): I64 {
  const { f } = o;
  const float = asFloat(f, value, fmt);
  const x = f.let(fmt === DOUBLE ? float : f.op<"f64">("f64.promote_f32", float));
  const whole = truncate ? x : f.let(f.op<"f64">("f64.nearest", x));
  const r = f.var("i64", f.op<"i64">("i64.trunc_sat_f64_s", whole));
  const fits = bits === 32 ? r.get().eq(r.get().signExtend(32)) : r.get().add(i64Halves(1, -0x80000000)).gtU(1);
  const exact = f.op<"i32">("f64.eq", f.op("f64.convert_i64_s", r.get()), x);
  const allowed = exact.or(plainControl(o).and(f.op("f64.eq", x, x)));
  f.if(fits.and(allowed).eqz(), () => {
    const mode = truncate ? Rounding.zero : BY_CONTROL;
    r.set(lanes(o, () => o.call<"i64">(`sseToInteger${fmt.bits}`, i32(mode), i32(bits), value)));
  });
  return r.get();
}
function fromInteger(o: Ops, fmt: Format, width: number, value: I64): I64 {
  const { f } = o;
  if (width === 4 && fmt === DOUBLE) return asBits(f, f.op("f64.convert_i32_s", value.wrap()), fmt);
  const r = f.var("i64", asBits(f, f.op(`f${fmt.bits}.convert_i64_s`, value), fmt));
  // Integers of no more bits than the significand are exact.
  const bound = 2 ** (fmt.fraction + 1);
  const exact = value.add(bound).leU(i64(2 * bound));
  f.if(exact.or(plainControl(o)).eqz(), () => r.set(lanes(o, () => o.call<"i64">(`sseFromInteger${fmt.bits}`, value))));
  return r.get();
}
for (const { prefix, fmt, size, letter } of SCALARS) {
  define(`CVTTS${letter}2SI`, `${prefix} 0f 2c Gy,W${size}`, (o, i) => {
    needSse(o);
    const [dst, src] = i.operands;
    dst.write(toInteger(o, fmt, true, dst.width * 8, src.read()));
  });
  define(`CVTS${letter}2SI`, `${prefix} 0f 2d Gy,W${size}`, (o, i) => {
    needSse(o);
    const [dst, src] = i.operands;
    dst.write(toInteger(o, fmt, false, dst.width * 8, src.read()));
  });
  define(`CVTSI2S${letter}`, `${prefix} 0f 2a V${size},Ey`, (o, i) => {
    needSse(o);
    const [dst, src] = i.operands;
    dst.write(fromInteger(o, fmt, src.width, src.readS()));
  });
}

function widen(o: Ops, value: I64): I64 {
  const { f } = o;
  const r = f.var("i64", asBits(f, f.op("f64.promote_f32", asFloat(f, value, SINGLE)), DOUBLE));
  f.if(isOrdered(o, value, SINGLE).eqz(), () => r.set(lanes(o, () => o.call<"i64">("sseWiden", value))));
  return r.get();
}
function narrow(o: Ops, value: I64): I64 {
  const { f } = o;
  const r = f.var("i64", asBits(f, f.op("f32.demote_f64", asFloat(f, value, DOUBLE)), SINGLE));
  const good = isInside(r.get(), SINGLE).and(plainControl(o)).or(value.shl(1).eqz());
  f.if(good.eqz(), () => r.set(lanes(o, () => o.call<"i64">("sseNarrow", value))));
  return r.get();
}
define("CVTSS2SD", "f3 0f 5a Vq,Wd", (o, i) => {
  needSse(o);
  i.operands[0].write(widen(o, i.operands[1].read()));
});
define("CVTSD2SS", "f2 0f 5a Vd,Wq", (o, i) => {
  needSse(o);
  i.operands[0].write(narrow(o, i.operands[1].read()));
});

// Vectors, lane by lane

const each = (o: Ops, helper: string, values: readonly I64[], ...before: I32[]): I64[] =>
  values.map((value) => o.call<"i64">(helper, ...before, value));

define("CVTPS2PD", "np 0f 5a Vx,Wq", (o, i) => {
  needSse(o);
  const { f } = o;
  const source = i.operands[1].read();
  const parts = [f.let(source.and(i64Halves(-1, 0))), f.let(source.shrU(32))];
  const r = f.var("v128");
  f.if(
    isOrdered(o, parts[0], SINGLE).and(isOrdered(o, parts[1], SINGLE)),
    () => r.set(f.op("f64x2.promote_low_f32x4", vector(o, source))),
    () => {
      const [a, b] = lanes(o, () => each(o, "sseWiden", parts));
      r.set(vector(o, a, b));
    },
  );
  i.operands[0].writeV(r.get());
});
define("CVTPD2PS", "66 0f 5a Vx,Wx", (o, i) => {
  needSse(o);
  const { f } = o;
  const v = source128(o, i, i.operands[1]);
  const r = f.var("v128", f.op<"v128">("f32x4.demote_f64x2_zero", v));
  const good = isInside(word(o, r.get(), 0), SINGLE).and(isInside(word(o, r.get(), 1), SINGLE));
  f.if(good.and(plainControl(o)).eqz(), () => {
    const [a, b] = lanes(o, () => each(o, "sseNarrow", [low(o, v), high(o, v)]));
    r.set(vector(o, pack(a, b)));
  });
  i.operands[0].writeV(r.get());
});

const fourWords = (o: Ops, v: V128): I64[] => [0, 1, 2, 3].map((k) => word(o, v, k));
const fromFour = (o: Ops, r: readonly I64[]): V128 => vector(o, pack(r[0], r[1]), pack(r[2], r[3]));
const splat32 = (value: number): V128 => v128(new Uint8Array(new Int32Array(4).fill(value).buffer));

define("CVTDQ2PS", "np 0f 5b Vx,Wx", (o, i) => {
  needSse(o);
  const { f } = o;
  const v = source128(o, i, i.operands[1]);
  const r = f.var("v128", f.op<"v128">("f32x4.convert_i32x4_s", v));
  f.if(plainControl(o).eqz(), () =>
    r.set(
      fromFour(
        o,
        lanes(o, () =>
          each(
            o,
            "sseFromInteger32",
            fourWords(o, v).map((x) => x.signExtend(32)),
          ),
        ),
      ),
    ),
  );
  i.operands[0].writeV(r.get());
});
define("CVTDQ2PD", "f3 0f e6 Vx,Wq", (o, i) => {
  needSse(o);
  i.operands[0].writeV(o.f.op("f64x2.convert_low_i32x4_s", vector(o, i.operands[1].read())));
});

/** No lane of saturated integers is an extreme value, which stands for what did not fit. */
function noneExtreme(o: Ops, v: V128): I32 {
  const { f } = o;
  const extreme = f.op<"v128">(
    "v128.or",
    f.op("i32x4.eq", v, splat32(0x7fffffff)),
    f.op("i32x4.eq", v, splat32(-0x80000000)),
  );
  return f.op<"i32">("v128.any_true", extreme).eqz();
}
function packedToIntegers(prefix: string, truncate: boolean): void {
  const mode = truncate ? Rounding.zero : BY_CONTROL;
  const t = truncate ? "T" : "";
  define(`CVT${t}PS2DQ`, `${prefix} 0f 5b Vx,Wx`, (o, i) => {
    needSse(o);
    const { f } = o;
    const v = source128(o, i, i.operands[1]);
    const whole = truncate ? v : f.op<"v128">("f32x4.nearest", v);
    const r = f.var("v128", f.op<"v128">("i32x4.trunc_sat_f32x4_s", whole));
    const numbers = f.op<"i32">("i32x4.all_true", f.op("f32x4.eq", v, v));
    f.if(plainControl(o).and(numbers).and(noneExtreme(o, r.get())).eqz(), () =>
      r.set(
        fromFour(
          o,
          lanes(o, () => each(o, "sseToInteger32", fourWords(o, v), i32(mode), i32(32))),
        ),
      ),
    );
    i.operands[0].writeV(r.get());
  });
}
packedToIntegers("66", false);
packedToIntegers("f3", true);
for (const [name, prefix, mode] of [
  ["CVTPD2DQ", "f2", BY_CONTROL],
  ["CVTTPD2DQ", "66", Rounding.zero],
] as const) {
  define(name, `${prefix} 0f e6 Vx,Wx`, (o, i) => {
    needSse(o);
    const { f } = o;
    const v = source128(o, i, i.operands[1]);
    const whole = mode === BY_CONTROL ? f.op<"v128">("f64x2.nearest", v) : v;
    const r = f.var("v128", f.op<"v128">("i32x4.trunc_sat_f64x2_s_zero", whole));
    const numbers = f.op<"i32">("i64x2.all_true", f.op("f64x2.eq", v, v));
    f.if(plainControl(o).and(numbers).and(noneExtreme(o, r.get())).eqz(), () => {
      const [a, b] = lanes(o, () => each(o, "sseToInteger64", [low(o, v), high(o, v)], i32(mode), i32(32)));
      r.set(vector(o, pack(a, b)));
    });
    i.operands[0].writeV(r.get());
  });
}

// MMX registers on one side

define("CVTPI2PS", "np 0f 2a Vq,Qq", (o, i) => {
  needSse(o);
  if (i.operands[1].kind === "mmx") needMmx(o);
  const source = i.operands[1].read();
  const parts = [o.f.let(source.signExtend(32)), o.f.let(source.shrS(32))];
  if (i.operands[1].kind === "mmx") enterMmx(o);
  const [a, b] = lanes(o, () => each(o, "sseFromInteger32", parts));
  i.operands[0].write(pack(a, b));
});
define("CVTPI2PD", "66 0f 2a Vx,Qq", (o, i) => {
  needSse(o);
  if (i.operands[1].kind === "mmx") needMmx(o);
  const source = i.operands[1].read();
  if (i.operands[1].kind === "mmx") enterMmx(o);
  i.operands[0].writeV(o.f.op("f64x2.convert_low_i32x4_s", vector(o, source)));
});
function toMmx(name: string, opcode: string, mode: number): void {
  define(`${name.replace("*", "PS")}`, `np 0f ${opcode} Pq,Wq`, (o, i) => {
    needSse(o);
    needMmx(o);
    const source = i.operands[1].read();
    const parts = [o.f.let(source.and(i64Halves(-1, 0))), o.f.let(source.shrU(32))];
    intoMmx(o, i, each.bind(undefined, o, "sseToInteger32", parts, i32(mode), i32(32)));
  });
  define(`${name.replace("*", "PD")}`, `66 0f ${opcode} Pq,Wx`, (o, i) => {
    needSse(o);
    needMmx(o);
    const v = source128(o, i, i.operands[1]);
    const parts = [low(o, v), high(o, v)];
    intoMmx(o, i, each.bind(undefined, o, "sseToInteger64", parts, i32(mode), i32(32)));
  });
}
function intoMmx(o: Ops, i: Instruction, convert: () => I64[]): void {
  // The registers change their use even if the conversion traps.
  enterMmx(o);
  const [a, b] = lanes(o, convert);
  i.operands[0].write(pack(a, b));
}
toMmx("CVTT*2PI", "2c", Rounding.zero);
toMmx("CVT*2PI", "2d", BY_CONTROL);
