import { type I32, i32, type V128, v128 } from "@xenoserver/wasm";
import { define } from "../define.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { binary64, binary128, enterMmx, low, needMmx, source128, vector } from "./access.ts";
import { needSse } from "./control.ts";

/** Packed integer arithmetic: MMX, SSE2, SSSE3, SSE4.1 and SSE4.2. */

type Compute = (o: Ops, a: V128, b: V128, i: Instruction) => V128;

/** An operation that treats lanes alike, for both register files. */
function packed(name: string, opcode: string, compute: Compute): void {
  define(name, `np 0f ${opcode} Pq,Qq`, binary64(compute));
  define(name, `66 0f ${opcode} Vx,Wx`, binary128(compute));
}
const simd =
  (name: string): Compute =>
  (o, a, b) =>
    o.f.op(name, a, b);
const swapped =
  (name: string): Compute =>
  (o, a, b) =>
    o.f.op(name, b, a);

const LANEWISE: readonly [name: string, opcode: string, operator: string][] = [
  ["PCMPGTB", "64", "i8x16.gt_s"],
  ["PCMPGTW", "65", "i16x8.gt_s"],
  ["PCMPGTD", "66", "i32x4.gt_s"],
  ["PCMPEQB", "74", "i8x16.eq"],
  ["PCMPEQW", "75", "i16x8.eq"],
  ["PCMPEQD", "76", "i32x4.eq"],
  ["PADDQ", "d4", "i64x2.add"],
  ["PMULLW", "d5", "i16x8.mul"],
  ["PSUBUSB", "d8", "i8x16.sub_sat_u"],
  ["PSUBUSW", "d9", "i16x8.sub_sat_u"],
  ["PMINUB", "da", "i8x16.min_u"],
  ["PAND", "db", "v128.and"],
  ["PADDUSB", "dc", "i8x16.add_sat_u"],
  ["PADDUSW", "dd", "i16x8.add_sat_u"],
  ["PMAXUB", "de", "i8x16.max_u"],
  ["PAVGB", "e0", "i8x16.avgr_u"],
  ["PAVGW", "e3", "i16x8.avgr_u"],
  ["PSUBSB", "e8", "i8x16.sub_sat_s"],
  ["PSUBSW", "e9", "i16x8.sub_sat_s"],
  ["PMINSW", "ea", "i16x8.min_s"],
  ["POR", "eb", "v128.or"],
  ["PADDSB", "ec", "i8x16.add_sat_s"],
  ["PADDSW", "ed", "i16x8.add_sat_s"],
  ["PMAXSW", "ee", "i16x8.max_s"],
  ["PXOR", "ef", "v128.xor"],
  ["PMADDWD", "f5", "i32x4.dot_i16x8_s"],
  ["PSUBB", "f8", "i8x16.sub"],
  ["PSUBW", "f9", "i16x8.sub"],
  ["PSUBD", "fa", "i32x4.sub"],
  ["PSUBQ", "fb", "i64x2.sub"],
  ["PADDB", "fc", "i8x16.add"],
  ["PADDW", "fd", "i16x8.add"],
  ["PADDD", "fe", "i32x4.add"],
];
for (const [name, opcode, operator] of LANEWISE) packed(name, opcode, simd(operator));
packed("PANDN", "df", swapped("v128.andnot"));

const SSE4_LANEWISE: readonly [name: string, opcode: string, operator: string][] = [
  ["PCMPEQQ", "29", "i64x2.eq"],
  ["PCMPGTQ", "37", "i64x2.gt_s"],
  ["PMINSB", "38", "i8x16.min_s"],
  ["PMINSD", "39", "i32x4.min_s"],
  ["PMINUW", "3a", "i16x8.min_u"],
  ["PMINUD", "3b", "i32x4.min_u"],
  ["PMAXSB", "3c", "i8x16.max_s"],
  ["PMAXSD", "3d", "i32x4.max_s"],
  ["PMAXUW", "3e", "i16x8.max_u"],
  ["PMAXUD", "3f", "i32x4.max_u"],
  ["PMULLD", "40", "i32x4.mul"],
  ["PACKUSDW", "2b", "i16x8.narrow_i32x4_u"],
];
for (const [name, opcode, operator] of SSE4_LANEWISE)
  define(name, `66 0f38 ${opcode} Vx,Wx`, binary128(simd(operator)));

// Products

/** High halves of 16 × 16 bit products. */
function mulHigh(sign: "s" | "u", round: boolean): Compute {
  return (o, a, b) => {
    const { f } = o;
    const half = (which: "low" | "high") => {
      const product = f.op<"v128">(`i32x4.extmul_${which}_i16x8_${sign}`, a, b);
      if (!round) return f.op<"v128">("i32x4.shr_u", product, i32(16));
      const scaled = f.op<"v128">("i32x4.shr_s", product, i32(14));
      return f.op<"v128">("i32x4.shr_u", f.op("i32x4.add", scaled, f.op("i32x4.splat", i32(1))), i32(1));
    };
    // Low 16 bits of each 32-bit lane, taken from both vectors.
    return f.shuffle(
      [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29],
      f.let(half("low")),
      f.let(half("high")),
    );
  };
}
packed("PMULHUW", "e4", mulHigh("u", false));
packed("PMULHW", "e5", mulHigh("s", false));

/** Products of the even 32-bit lanes. */
const mulEven =
  (sign: "s" | "u"): Compute =>
  (o, a, b) => {
    const { f } = o;
    const even = (v: V128) => f.shuffle([0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11], v, v);
    return f.op(`i64x2.extmul_low_i32x4_${sign}`, even(a), even(b));
  };
packed("PMULUDQ", "f4", mulEven("u"));
define("PMULDQ", "66 0f38 28 Vx,Wx", binary128(mulEven("s")));

/** Sums of absolute byte differences, one for each 64-bit half. */
packed("PSADBW", "f6", (o, a, b) => {
  const { f } = o;
  const over = f.op<"v128">("i8x16.sub_sat_u", a, b);
  const difference = f.op<"v128">("v128.or", over, f.op("i8x16.sub_sat_u", b, a));
  const sums16 = f.op<"v128">("i16x8.extadd_pairwise_i8x16_u", difference);
  const sums32 = f.let(f.op<"v128">("i32x4.extadd_pairwise_i16x8_u", sums16));
  const odd = f.op<"v128">("i64x2.shr_u", sums32, i32(32));
  return f.op(
    "v128.and",
    f.op("i32x4.add", sums32, odd),
    v128(Uint8Array.of(255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0)),
  );
});

// Packing and interleaving differ between the two sizes of registers

function packing(name: string, opcode: string, operator: string): void {
  define(name, `66 0f ${opcode} Vx,Wx`, binary128(simd(operator)));
  // Eight bytes: both sources in one vector, narrowed once.
  define(
    name,
    `np 0f ${opcode} Pq,Qq`,
    binary64((o, a, b) => {
      const both = o.f.let(o.f.shuffle([0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23], a, b));
      return o.f.op(operator, both, both);
    }),
  );
}
packing("PACKSSWB", "63", "i8x16.narrow_i16x8_s");
packing("PACKUSWB", "67", "i8x16.narrow_i16x8_u");
packing("PACKSSDW", "6b", "i16x8.narrow_i32x4_s");

/** Interleaves elements of `size` bytes from a half of each source. */
function interleave(size: number, fromHigh: boolean, registerBytes: 8 | 16): Compute {
  const lanes: number[] = [];
  const start = fromHigh ? registerBytes / 2 : 0;
  for (let at = 0; at < registerBytes / 2; at += size) {
    for (const side of [0, 16]) for (let k = 0; k < size; k++) lanes.push(side + start + at + k);
  }
  while (lanes.length < 16) lanes.push(0);
  return (o, a, b) => o.f.shuffle(lanes, a, b);
}
const INTERLEAVES: readonly [name: string, opcode: string, size: number, fromHigh: boolean][] = [
  ["PUNPCKLBW", "60", 1, false],
  ["PUNPCKLWD", "61", 2, false],
  ["PUNPCKLDQ", "62", 4, false],
  ["PUNPCKHBW", "68", 1, true],
  ["PUNPCKHWD", "69", 2, true],
  ["PUNPCKHDQ", "6a", 4, true],
];
for (const [name, opcode, size, fromHigh] of INTERLEAVES) {
  // The low forms read only half of an MMX source.
  define(name, `np 0f ${opcode} Pq,${fromHigh ? "Qq" : "Qd"}`, binary64(interleave(size, fromHigh, 8)));
  define(name, `66 0f ${opcode} Vx,Wx`, binary128(interleave(size, fromHigh, 16)));
}
define("PUNPCKLQDQ", "66 0f 6c Vx,Wx", binary128(interleave(8, false, 16)));
define("PUNPCKHQDQ", "66 0f 6d Vx,Wx", binary128(interleave(8, true, 16)));
define("UNPCKLPS", "np 0f 14 Vx,Wx", binary128(interleave(4, false, 16)));
define("UNPCKLPD", "66 0f 14 Vx,Wx", binary128(interleave(8, false, 16)));
define("UNPCKHPS", "np 0f 15 Vx,Wx", binary128(interleave(4, true, 16)));
define("UNPCKHPD", "66 0f 15 Vx,Wx", binary128(interleave(8, true, 16)));

// Shifts: a count beyond the lane gives zeros, or copies of the sign

type ShiftKind = "shl" | "shr_u" | "shr_s";
function shifted(o: Ops, a: V128, count: I32, lane: string, kind: ShiftKind): V128 {
  const { f } = o;
  const bits = lane === "i16x8" ? 16 : lane === "i32x4" ? 32 : 64;
  const n = f.let(count);
  if (kind === "shr_s") return f.op(`${lane}.shr_s`, a, f.select(n.gtU(bits - 1), i32(bits - 1), n));
  return f.select(n.gtU(bits - 1), v128(new Uint8Array(16)), f.op<"v128">(`${lane}.${kind}`, a, n));
}
/** A 64-bit count, cut to what an i32 can hold without becoming small. */
function countOf(o: Ops, v: V128): I32 {
  const n = low(o, v);
  return o.f.let(o.f.select(n.gtU(255), i32(255), n.wrap()));
}
function shift(name: string, opcode: string, group: string, digit: number, lane: string, kind: ShiftKind): void {
  packed(name, opcode, (o, a, b) => shifted(o, a, countOf(o, b), lane, kind));
  define(name, `66 0f ${group} /${digit} Ux,Ib`, (o, i) => {
    needSse(o);
    i.operands[0].writeV(shifted(o, i.operands[0].readV(), i.imm().and(0xff), lane, kind));
  });
  define(name, `np 0f ${group} /${digit} Nq,Ib`, (o, i) => {
    needMmx(o);
    enterMmx(o);
    const a = vector(o, i.operands[0].read());
    i.operands[0].write(low(o, o.f.let(shifted(o, a, i.imm().and(0xff), lane, kind))));
  });
}
shift("PSRLW", "d1", "71", 2, "i16x8", "shr_u");
shift("PSRLD", "d2", "72", 2, "i32x4", "shr_u");
shift("PSRLQ", "d3", "73", 2, "i64x2", "shr_u");
shift("PSRAW", "e1", "71", 4, "i16x8", "shr_s");
shift("PSRAD", "e2", "72", 4, "i32x4", "shr_s");
shift("PSLLW", "f1", "71", 6, "i16x8", "shl");
shift("PSLLD", "f2", "72", 6, "i32x4", "shl");
shift("PSLLQ", "f3", "73", 6, "i64x2", "shl");

/** Bytes 0–15 of `v` moved by a count known at run time; out-of-range indices select zero. */
function byteShift(name: string, digit: number, left: boolean): void {
  define(name, `66 0f 73 /${digit} Ux,Ib`, (o, i) => {
    needSse(o);
    const { f } = o;
    const count = f.let(i.imm().and(0xff));
    const n = f.op<"v128">("i8x16.splat", f.select(count.gtU(16), i32(16), count));
    const identity = v128(Uint8Array.from({ length: 16 }, (_, k) => k));
    // Left: k − n is above 15 as an unsigned byte where nothing moves in. Right: k + n likewise.
    const index = left ? f.op<"v128">("i8x16.sub", identity, n) : f.op<"v128">("i8x16.add", identity, n);
    i.operands[0].writeV(f.op("i8x16.swizzle", i.operands[0].readV(), index));
  });
}
byteShift("PSRLDQ", 3, false);
byteShift("PSLLDQ", 7, true);

// SSSE3

function ssse3(name: string, opcode: string, wide: Compute, narrow: Compute = wide): void {
  define(name, `np 0f38 ${opcode} Pq,Qq`, binary64(narrow));
  define(name, `66 0f38 ${opcode} Vx,Wx`, binary128(wide));
}
/** Bit 7 of an index selects zero; otherwise its low bits count. */
const byteShuffle =
  (mask: number): Compute =>
  (o, a, b) =>
    o.f.op("i8x16.swizzle", a, o.f.op("v128.and", b, v128(new Uint8Array(16).fill(0x80 | mask))));
ssse3("PSHUFB", "00", byteShuffle(15), byteShuffle(7));

/** Adds or subtracts neighbours: even elements of both sources against odd ones. */
function horizontal(operator: string, size: 2 | 4, registerBytes: 8 | 16): Compute {
  const pick = (odd: number): number[] => {
    const lanes: number[] = [];
    for (const side of [0, 16]) {
      for (let at = odd * size; at < registerBytes; at += 2 * size)
        for (let k = 0; k < size; k++) lanes.push(side + at + k);
    }
    while (lanes.length < 16) lanes.push(0);
    return lanes;
  };
  return (o, a, b) => o.f.op(operator, o.f.shuffle(pick(0), a, b), o.f.shuffle(pick(1), a, b));
}
const HORIZONTAL: readonly [name: string, opcode: string, operator: string, size: 2 | 4][] = [
  ["PHADDW", "01", "i16x8.add", 2],
  ["PHADDD", "02", "i32x4.add", 4],
  ["PHADDSW", "03", "i16x8.add_sat_s", 2],
  ["PHSUBW", "05", "i16x8.sub", 2],
  ["PHSUBD", "06", "i32x4.sub", 4],
  ["PHSUBSW", "07", "i16x8.sub_sat_s", 2],
];
for (const [name, opcode, operator, size] of HORIZONTAL) {
  ssse3(name, opcode, horizontal(operator, size, 16), horizontal(operator, size, 8));
}
ssse3("PMADDUBSW", "04", (o, a, b) => {
  const { f } = o;
  // Unsigned bytes of the first, signed bytes of the second; the sum saturates.
  const product = (even: boolean) => {
    const unsigned = even
      ? f.op<"v128">("v128.and", a, f.op("i16x8.splat", i32(0xff)))
      : f.op<"v128">("i16x8.shr_u", a, i32(8));
    const signed = even
      ? f.op<"v128">("i16x8.shr_s", f.op("i16x8.shl", b, i32(8)), i32(8))
      : f.op<"v128">("i16x8.shr_s", b, i32(8));
    return f.op<"v128">("i16x8.mul", unsigned, signed);
  };
  return f.op("i16x8.add_sat_s", product(true), product(false));
});
for (const [name, opcode, lane] of [
  ["PSIGNB", "08", "i8x16"],
  ["PSIGNW", "09", "i16x8"],
  ["PSIGND", "0a", "i32x4"],
] as const) {
  ssse3(name, opcode, (o, a, b) => {
    const { f } = o;
    const zeros = v128(new Uint8Array(16));
    const negative = f.let(f.op<"v128">(`${lane}.lt_s`, b, zeros));
    const turned = f.op<"v128">(`${lane}.sub`, f.op("v128.xor", a, negative), negative);
    return f.op("v128.andnot", turned, f.op(`${lane}.eq`, b, zeros));
  });
}
ssse3("PMULHRSW", "0b", mulHigh("s", true));
for (const [name, opcode, lane] of [
  ["PABSB", "1c", "i8x16"],
  ["PABSW", "1d", "i16x8"],
  ["PABSD", "1e", "i32x4"],
] as const) {
  ssse3(name, opcode, (o, _a, b) => o.f.op(`${lane}.abs`, b));
}

/** The two sources as one number, shifted right by bytes. */
define("PALIGNR", "66 0f3a 0f Vx,Wx,Ib", (o, i) => {
  needSse(o);
  const { f } = o;
  const b = source128(o, i, i.operands[1]);
  const a = i.operands[0].readV();
  const count = f.let(i.imm().and(0xff));
  const identity = v128(Uint8Array.from({ length: 16 }, (_, k) => k));
  const limited = f.let(f.select(count.gtU(32), i32(32), count));
  const index = f.let(f.op<"v128">("i8x16.add", identity, f.op("i8x16.splat", limited)));
  const upper = f.op<"v128">("i8x16.sub", index, f.op("i8x16.splat", i32(16)));
  i.operands[0].writeV(f.op("v128.or", f.op("i8x16.swizzle", b, index), f.op("i8x16.swizzle", a, upper)));
});
define("PALIGNR", "np 0f3a 0f Pq,Qq,Ib", (o, i) => {
  needMmx(o);
  const { f } = o;
  const b = i.operands[1].read();
  enterMmx(o);
  const a = i.operands[0].read();
  const count = f.let(i.imm().and(0xff));
  const both = vector(o, b, a);
  const identity = v128(Uint8Array.from({ length: 16 }, (_, k) => k));
  const index = f.op<"v128">("i8x16.add", identity, f.op("i8x16.splat", f.select(count.gtU(16), i32(16), count)));
  i.operands[0].write(low(o, f.let(f.op<"v128">("i8x16.swizzle", both, index))));
});

// SSE4.1

const WIDENINGS: readonly [opcode: number, name: string, from: string, steps: readonly string[], width: string][] = [
  [0, "BW", "Wq", ["i16x8.extend_low_i8x16"], "8"],
  [1, "BD", "Wd", ["i16x8.extend_low_i8x16", "i32x4.extend_low_i16x8"], "4"],
  [2, "BQ", "Ww", ["i16x8.extend_low_i8x16", "i32x4.extend_low_i16x8", "i64x2.extend_low_i32x4"], "2"],
  [3, "WD", "Wq", ["i32x4.extend_low_i16x8"], "8"],
  [4, "WQ", "Wd", ["i32x4.extend_low_i16x8", "i64x2.extend_low_i32x4"], "4"],
  [5, "DQ", "Wq", ["i64x2.extend_low_i32x4"], "8"],
];
for (const [n, name, from, steps] of WIDENINGS) {
  for (const [base, sign] of [
    [0x20, "s"],
    [0x30, "u"],
  ] as const) {
    define(`PMOV${sign === "s" ? "SX" : "ZX"}${name}`, `66 0f38 ${(base + n).toString(16)} Vx,${from}`, (o, i) => {
      needSse(o);
      let value = vector(o, i.operands[1].read());
      for (const step of steps) value = o.f.let(o.f.op<"v128">(`${step}_${sign}`, value));
      i.operands[0].writeV(value);
    });
  }
}

/** Blends by the top bit of each element of XMM0. */
function blendByMask(name: string, opcode: string, lane: string, bits: number): void {
  define(name, `66 0f38 ${opcode} Vx,Wx`, (o, i) => {
    needSse(o);
    const { f } = o;
    const b = source128(o, i, i.operands[1]);
    const mask = f.op<"v128">(`${lane}.shr_s`, o.readXmm(0), i32(bits - 1));
    i.operands[0].writeV(f.op("v128.bitselect", b, i.operands[0].readV(), mask));
  });
}
blendByMask("PBLENDVB", "10", "i8x16", 8);
blendByMask("BLENDVPS", "14", "i32x4", 32);
blendByMask("BLENDVPD", "15", "i64x2", 64);

/** Blends by an immediate: bit k chooses element k of the source. */
function blendByImmediate(name: string, opcode: string, size: number): void {
  define(name, `66 0f3a ${opcode} Vx,Wx,Ib`, (o, i) => {
    needSse(o);
    const { f } = o;
    const b = source128(o, i, i.operands[1]);
    const count = 16 / size;
    // Each lane tests its own bit of the immediate.
    const bits = new Uint8Array(16);
    for (let k = 0; k < count; k++) bits.fill(0, k * size, k * size + size).fill(1 << k, k * size, k * size + 1);
    const lane = size === 2 ? "i16x8" : size === 4 ? "i32x4" : "i64x2";
    const immediate =
      size === 8
        ? f.op<"v128">("i64x2.splat", i.imm().and(0xff).extU())
        : f.op<"v128">(`${lane}.splat`, i.imm().and(0xff));
    const mask = f.op<"v128">(`${lane}.ne`, f.op("v128.and", immediate, v128(bits)), v128(new Uint8Array(16)));
    i.operands[0].writeV(f.op("v128.bitselect", b, i.operands[0].readV(), mask));
  });
}
blendByImmediate("BLENDPS", "0c", 4);
blendByImmediate("BLENDPD", "0d", 8);
blendByImmediate("PBLENDW", "0e", 2);

define("PTEST", "66 0f38 17 Vx,Wx", (o, i) => {
  needSse(o);
  const { f } = o;
  const b = source128(o, i, i.operands[1]);
  const a = i.operands[0].readV();
  const zf = f.let(
    f
      .op<"i32">("v128.any_true", f.op("v128.and", b, a))
      .eqz()
      .extU(),
  );
  const cf = f.let(
    f
      .op<"i32">("v128.any_true", f.op("v128.andnot", b, a))
      .eqz()
      .extU(),
  );
  o.setArithmeticFlags(zf.shl(6).or(cf));
});

define("PHMINPOSUW", "66 0f38 41 Vx,Wx", (o, i) => {
  needSse(o);
  const { f } = o;
  const b = source128(o, i, i.operands[1]);
  let best = f.let(f.lane<"i32">("i16x8.extract_lane_u", 0, b).shl(3));
  for (let k = 1; k < 8; k++) {
    const next = f.let(f.lane<"i32">("i16x8.extract_lane_u", k, b).shl(3).or(k));
    best = f.let(f.select(next.ltU(best), next, best));
  }
  i.operands[0].writeV(vector(o, best.shrU(3).or(best.and(7).shl(16)).extU()));
});

/** Eight sums of four absolute differences, of sliding groups against one fixed group. */
define("MPSADBW", "66 0f3a 42 Vx,Wx,Ib", (o, i) => {
  needSse(o);
  const { f } = o;
  const b = source128(o, i, i.operands[1]);
  const a = i.operands[0].readV();
  const imm = i.imm();
  const identity = v128(Uint8Array.from({ length: 16 }, (_, k) => k));
  const start = f.op<"v128">("i8x16.splat", imm.and(4));
  const window = f.let(f.op<"v128">("i8x16.swizzle", a, f.op("i8x16.add", identity, start)));
  const fixed = f.op<"v128">(
    "i8x16.add",
    v128(Uint8Array.from({ length: 16 }, (_, k) => k & 3)),
    f.op("i8x16.splat", imm.and(3).shl(2)),
  );
  const target = f.let(f.op<"v128">("i8x16.swizzle", b, fixed));
  const sums = [0, 2, 4, 6].map((first) => {
    // Two sliding groups side by side, one 64-bit half holding groups `first` and `first + 1`.
    const lanes = [0, 1].flatMap((k) => [0, 1, 2, 3].map((n) => first + k + n));
    const moving = f.let(f.shuffle([...lanes, ...lanes], window, window));
    const over = f.op<"v128">("i8x16.sub_sat_u", moving, target);
    const difference = f.op<"v128">("v128.or", over, f.op("i8x16.sub_sat_u", target, moving));
    return f.let(f.op<"v128">("i32x4.extadd_pairwise_i16x8_u", f.op("i16x8.extadd_pairwise_i8x16_u", difference)));
  });
  const firstHalf = f.let(f.shuffle([0, 1, 4, 5, 16, 17, 20, 21, 0, 0, 0, 0, 0, 0, 0, 0], sums[0], sums[1]));
  const secondHalf = f.let(f.shuffle([0, 1, 4, 5, 16, 17, 20, 21, 0, 0, 0, 0, 0, 0, 0, 0], sums[2], sums[3]));
  i.operands[0].writeV(vector(o, low(o, firstHalf), low(o, secondHalf)));
});
