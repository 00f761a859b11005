import { type I32, type I64, i32, i64Big, type V128, v128 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import type { Format } from "../float/number.ts";
import type { Ops } from "../ops.ts";

/**
 * When the host's arithmetic may stand in for SSE's: nothing about the result may depend on rounding control, and no exception
 * may be left unrecorded.
 */

/** All exceptions masked, rounding to nearest, no FTZ, no DAZ; and PE is set already, so that inexactness is no news. */
export function plainControl(o: Ops): I32 {
  return o.f.load<"i32">("i32.load", o.vb, State.mxcsr).and(0xffe0).eq(0x1fa0);
}
/** Denormal operands are neither zero nor denormal exceptions unless this holds. */
export const noDaz = (o: Ops): I32 => o.f.load<"i32">("i32.load", o.vb, State.mxcsr).and(0x40).eqz();

/** A constant of the format's width. It passes for an i64 so that one text serves both widths. */
const word = (fmt: Format, value: bigint): I64 =>
  (fmt.bits === 64 ? i64Big(value) : i32(Number(BigInt.asIntN(32, value)))) as I64;
/** Twice the magnitude of a scalar. */
const doubled = (bits: I64, fmt: Format): I64 => ((fmt.bits === 64 ? bits : bits.wrap()) as I64).shl(1);
const minNormalOf = (fmt: Format): bigint => 2n << BigInt(fmt.fraction);
const infinityOf = (fmt: Format): bigint => (1n << BigInt(fmt.bits)) - (2n << BigInt(fmt.fraction));

/** Zero, normal, infinite or NaN. */
export function notDenormal(bits: I64, fmt: Format): I32 {
  return doubled(bits, fmt)
    .sub(word(fmt, 1n))
    .geU(word(fmt, minNormalOf(fmt) - 1n));
}
/** Neither infinite nor NaN. */
export function isBounded(bits: I64, fmt: Format): I32 {
  return doubled(bits, fmt).ltU(word(fmt, infinityOf(fmt)));
}
/** Normal, and not the smallest normal number, to which a denormal may have been rounded. */
export function isInside(bits: I64, fmt: Format): I32 {
  const first = minNormalOf(fmt) + 1n;
  return doubled(bits, fmt)
    .sub(word(fmt, first))
    .ltU(word(fmt, infinityOf(fmt) - first));
}
/** Zero, normal or infinite. */
export function isOrdered(o: Ops, bits: I64, fmt: Format): I32 {
  const twice = o.f.let(doubled(bits, fmt));
  const inside = twice.sub(word(fmt, minNormalOf(fmt))).leU(word(fmt, infinityOf(fmt) - minNormalOf(fmt)));
  return inside.or(twice.eqz());
}

// The same for all lanes of a vector

function splat(fmt: Format, value: bigint): V128 {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < 16; at += fmt.bits / 8) {
    if (fmt.bits === 64) view.setBigUint64(at, BigInt.asUintN(64, value), true);
    else view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
  }
  return v128(bytes);
}
const laneOf = (fmt: Format): string => (fmt.bits === 64 ? "i64x2" : "i32x4");
const signOf = (fmt: Format): bigint => 1n << BigInt(fmt.bits - 1);

/** (2·magnitude − offset) as a signed number that orders like the unsigned one. */
function shifted(o: Ops, v: V128, fmt: Format, offset: bigint): V128 {
  const { f } = o;
  const doubled = f.op<"v128">(`${laneOf(fmt)}.shl`, v, i32(1));
  return f.op(`${laneOf(fmt)}.sub`, doubled, splat(fmt, offset + signOf(fmt)));
}
const signed = (fmt: Format, value: bigint): V128 => splat(fmt, value - signOf(fmt));

/** All lanes of all vectors hold zero, normal numbers, infinities or NaN. */
export function noneDenormal(o: Ops, vectors: readonly V128[], fmt: Format): I32 {
  const { f } = o;
  const good = vectors.map((v) =>
    f.op<"v128">(`${laneOf(fmt)}.gt_s`, shifted(o, v, fmt, 1n), signed(fmt, minNormalOf(fmt) - 2n)),
  );
  const all = good.reduce((x, y) => f.op<"v128">("v128.and", x, y));
  return f.op("i8x16.all_true", all);
}
export function allFinite(o: Ops, v: V128, fmt: Format): I32 {
  return o.f.op("i8x16.all_true", o.f.op(`${laneOf(fmt)}.lt_s`, shifted(o, v, fmt, 0n), signed(fmt, infinityOf(fmt))));
}
export function allInside(o: Ops, v: V128, fmt: Format): I32 {
  const first = minNormalOf(fmt) + 1n;
  return o.f.op(
    "i8x16.all_true",
    o.f.op(`${laneOf(fmt)}.lt_s`, shifted(o, v, fmt, first), signed(fmt, infinityOf(fmt) - first)),
  );
}
/** No lane of the result of an ordered comparison is false: none of the vectors has a NaN. */
export function noneNan(o: Ops, a: V128, b: V128, fmt: Format): I32 {
  const { f } = o;
  const float = fmt.bits === 64 ? "f64x2" : "f32x4";
  const ordered = f.op<"v128">("v128.and", f.op(`${float}.eq`, a, a), f.op(`${float}.eq`, b, b));
  return f.op("i8x16.all_true", ordered);
}
