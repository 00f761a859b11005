/** Values with a history of breaking emulators: integers, floats of all widths, and whole x87/SSE states. */
import { defaultFx } from "./case.ts";
import type { Prng } from "./prng.ts";

const ones = (bits: number): bigint => (1n << BigInt(bits)) - 1n;
const CORNERS: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  ones(64),
  ones(64) - 1n,
  ...[4, 7, 8, 15, 16, 31, 32, 63].flatMap((b) => [
    ones(b),
    1n << BigInt(b),
    ones(64) ^ ones(b),
    (1n << BigInt(b)) + 1n,
  ]),
  0x5555_5555_5555_5555n,
  0xaaaa_aaaa_aaaa_aaaan,
  0x0123_4567_89ab_cdefn,
  0x8080_8080_8080_8080n,
  0x7fff_ffff_0000_0000n,
];

/** A 64-bit register value: a corner of some width, a power of two, a small or a uniform number. */
export function interesting64(r: Prng): bigint {
  switch (r.below(8)) {
    case 0:
    case 1:
    case 2:
      return r.pick(CORNERS);
    case 3:
      return 1n << BigInt(r.below(64));
    case 4:
      return BigInt.asUintN(64, BigInt(r.below(64) - 32));
    case 5:
      return (r.pick(CORNERS) & 0xffff_ffffn) | (BigInt(r.u32()) << 32n);
    default:
      return r.u64();
  }
}

/** An immediate of `bytes` bytes as its little-endian bytes. */
export function immediateBytes(r: Prng, bytes: number): number[] {
  const value = interesting64(r);
  return Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

const F32 = [
  0, 0x80000000, 0x3f800000, 0xbf800000, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0xff7fffff,
  0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7fc12345, 0x7f800001, 0xffbfffff, 0x3f000000, 0x4b000000,
  0x4b7fffff, 0x4effffff, 0x4f000000, 0xcf000000, 0x5f000000, 0xdf000000, 0x3fc00000, 0x40200000, 0x34000000,
  0x3effffff, 0x41200000,
];
const F64: readonly bigint[] = [
  0n,
  1n << 63n,
  0x3ff0n << 48n,
  0xbff0n << 48n,
  1n,
  (1n << 63n) + 1n,
  ones(52),
  1n << 52n,
  0x7fef_ffff_ffff_ffffn,
  0xffef_ffff_ffff_ffffn,
  0x7ff0n << 48n,
  0xfff0n << 48n,
  0x7ff8n << 48n,
  0xfff8n << 48n,
  0x7ff8_0000_1234_5678n,
  0x7ff0_0000_0000_0001n,
  0xfff7_ffff_ffff_ffffn,
  0x3fe0n << 48n,
  0x4330n << 48n,
  0x41df_ffff_ffc0_0000n,
  0x41e0n << 48n,
  0xc1e0n << 48n,
  0x43e0n << 48n,
  0xc3e0n << 48n,
  0x3ff8n << 48n,
  0x4004n << 48n,
  0x3cb0n << 48n,
  0x3690n << 48n,
  0x36a0_0000_0000_0001n,
  0x47efffffe0000000n,
  0x47efffffffffffffn,
  0x3810n << 48n,
  0x380fffffffffffffn,
];
/** Sign and exponent, significand. */
const F80: readonly (readonly [number, bigint])[] = [
  [0, 0n],
  [0x8000, 0n],
  [0x3fff, 1n << 63n],
  [0xbfff, 1n << 63n],
  [0, 1n],
  [0x8000, 1n],
  [0, ones(63)],
  [0, 1n << 63n],
  [1, 1n << 63n],
  [0x7ffe, ones(64)],
  [0xfffe, ones(64)],
  [0x7fff, 1n << 63n],
  [0xffff, 1n << 63n],
  [0x7fff, 3n << 62n],
  [0xffff, 3n << 62n],
  [0x7fff, (3n << 62n) | 0x1234n],
  [0x7fff, (1n << 63n) | 1n],
  [0x7fff, 0n],
  [0x7fff, 1n],
  [0x3fff, 1n],
  [0x4000, ones(62)],
  [0x3ffe, 1n << 63n],
  [0x403e, 1n << 63n],
  [0xc03e, 1n << 63n],
  [0x403d, ones(64)],
  [0x4000, 0xc000n << 48n],
  [0x4000, 0xa000n << 48n],
  [0x3f80, 1n << 63n],
  [0x3c00, (1n << 63n) | (1n << 10n)],
  [0x407e, ones(64)],
  [0x43fe, ones(64)],
  [0x3fc0, (1n << 63n) | 1n],
  [0x4034, 0xabcd_ef01_2345_6789n],
  [0x403a, 0x8ac7_2304_89e7_ffffn],
];

export function float32(r: Prng): number {
  if (r.chance(60)) return r.pick(F32);
  if (r.chance(50)) return ((r.u32() & 0x807fffff) | ((127 + r.between(-24, 24)) << 23)) >>> 0;
  return r.u32();
}
export function float64(r: Prng): bigint {
  if (r.chance(60)) return r.pick(F64);
  if (r.chance(50)) return (r.u64() & ~(0x7ffn << 52n)) | (BigInt(1023 + r.between(-60, 60)) << 52n);
  return r.u64();
}
/** Ten bytes. */
export function float80(r: Prng): Uint8Array {
  const out = new Uint8Array(10);
  const view = new DataView(out.buffer);
  let [exponent, significand] = r.pick(F80);
  if (r.chance(40)) {
    exponent = (r.below(2) << 15) | (0x3fff + r.between(-70, 70));
    significand = r.u64() | (1n << 63n);
  } else if (r.chance(10)) [exponent, significand] = [r.below(0x10000), r.u64()];
  view.setBigUint64(0, significand, true);
  view.setUint16(8, exponent, true);
  return out;
}
/** Ten bytes of packed decimal, mostly valid. */
export function packedDecimal(r: Prng): Uint8Array {
  const out = Uint8Array.from({ length: 10 }, () => (r.below(10) << 4) | r.below(10));
  out[9] = r.pick([0, 0x80, 0x7f, 0xff]);
  if (r.chance(10)) out[r.below(10)] = r.below(256);
  return out;
}

/** Sixteen bytes for an XMM register or SSE memory operand. */
export function vector128(r: Prng): Uint8Array {
  const out = new Uint8Array(16);
  const view = new DataView(out.buffer);
  const form = r.below(5);
  for (let i = 0; i < 4; i++) {
    if (form === 0) view.setUint32(4 * i, float32(r), true);
    else if (form === 1 && i < 2) view.setBigUint64(8 * i, float64(r), true);
    else if (form === 2 && i < 2) view.setBigUint64(8 * i, interesting64(r), true);
    else if (form === 3) view.setUint32(4 * i, r.u32(), true);
    else if (form === 4)
      for (let k = 0; k < 4; k++) out[4 * i + k] = r.chance(25) ? 0 : r.pick([1, 0x7f, 0x80, 0xff, 0x61 + r.below(6)]);
  }
  return out;
}

/** An MXCSR that FXRSTOR takes: mostly all exceptions masked. */
export function mxcsr(r: Prng): number {
  let value = 0x1f80;
  if (r.chance(35)) value |= r.below(4) << 13;
  if (r.chance(8)) value |= 0x8000;
  if (r.chance(8)) value |= 0x40;
  if (r.chance(5)) value &= ~(1 << r.between(7, 12));
  if (r.chance(10)) value |= r.below(64);
  return value;
}

/** An x87 control word: mostly all exceptions masked, precision and rounding varied. */
export function controlWord(r: Prng): number {
  let value = 0x037f;
  if (r.chance(30)) value = (value & ~0xc00) | (r.below(4) << 10);
  if (r.chance(25)) value = (value & ~0x300) | (r.pick([0, 2, 3]) << 8);
  if (r.chance(5)) value &= ~(1 << r.below(6));
  return value;
}

/** A whole FXSAVE image with a consistent x87 status: ES and B are set exactly if an unmasked exception is flagged. */
export function fxState(r: Prng): Uint8Array {
  const fx = defaultFx();
  const view = new DataView(fx.buffer);
  const fcw = controlWord(r);
  let fsw = (r.below(8) << 11) | (r.chance(30) ? r.u32() & 0x4700 : 0);
  if (r.chance(8)) fsw |= r.below(128);
  if (fsw & ~fcw & 0x3f) fsw = r.chance(30) ? fsw | 0x8080 : fsw & ~0x3f;
  view.setUint16(0, fcw, true);
  view.setUint16(2, fsw, true);
  fx[4] = r.pick([0, 0xff, 0xff, r.below(256), r.below(256)]);
  view.setUint32(24, mxcsr(r), true);
  for (let i = 0; i < 8; i++) fx.set(float80(r), 32 + 16 * i);
  for (let i = 0; i < 16; i++) fx.set(vector128(r), 160 + 16 * i);
  return fx;
}
