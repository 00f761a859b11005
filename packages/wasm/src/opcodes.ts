/**
 * Operators by their name in WebAssembly's text format: [opcode, result type].
 * Opcodes above 255 carry their prefix byte in bits 16 and up (0xfc, 0xfd, 0xfe) and the sub-opcode below.
 * Source: WebAssembly core specification, index of instructions; threads proposal for 0xfe.
 */
export type ValType = "i32" | "i64" | "f32" | "f64" | "v128";

export const TYPE_CODE: Readonly<Record<ValType, number>> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

const table = new Map<string, readonly [number, ValType]>();

function row(first: number, result: ValType, names: string): void {
  names.split(" ").forEach((name, index) => {
    if (name !== "-") table.set(name, [first + index, result]);
  });
}
const prefixed = (type: string, names: string) =>
  names
    .split(" ")
    .map((n) => (n === "-" ? n : `${type}.${n}`))
    .join(" ");

const INT_COMPARE = "eqz eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u";
const FLOAT_COMPARE = "eq ne lt gt le ge";
const INT_ARITH = "clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr";
const FLOAT_ARITH = "abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign";
row(0x45, "i32", prefixed("i32", INT_COMPARE));
row(0x50, "i32", prefixed("i64", INT_COMPARE));
row(0x5b, "i32", prefixed("f32", FLOAT_COMPARE));
row(0x61, "i32", prefixed("f64", FLOAT_COMPARE));
row(0x67, "i32", prefixed("i32", INT_ARITH));
row(0x79, "i64", prefixed("i64", INT_ARITH));
row(0x8b, "f32", prefixed("f32", FLOAT_ARITH));
row(0x99, "f64", prefixed("f64", FLOAT_ARITH));
row(0xa7, "i32", "i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u");
row(0xac, "i64", "i64.extend_i32_s i64.extend_i32_u i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u");
row(0xb2, "f32", "f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u f32.demote_f64");
row(0xb7, "f64", "f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u f64.promote_f32");
row(0xbc, "i32", "i32.reinterpret_f32");
row(0xbd, "i64", "i64.reinterpret_f64");
row(0xbe, "f32", "f32.reinterpret_i32");
row(0xbf, "f64", "f64.reinterpret_i64");
row(0xc0, "i32", "i32.extend8_s i32.extend16_s");
row(0xc2, "i64", "i64.extend8_s i64.extend16_s i64.extend32_s");

const FC = 0xfc0000;
row(FC, "i32", "i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u");
row(FC + 4, "i64", "i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u");

const FD = 0xfd0000;
row(FD + 14, "v128", "i8x16.swizzle i8x16.splat i16x8.splat i32x4.splat i64x2.splat f32x4.splat f64x2.splat");
row(FD + 21, "i32", "i8x16.extract_lane_s i8x16.extract_lane_u");
row(FD + 23, "v128", "i8x16.replace_lane");
row(FD + 24, "i32", "i16x8.extract_lane_s i16x8.extract_lane_u");
row(FD + 26, "v128", "i16x8.replace_lane");
row(FD + 27, "i32", "i32x4.extract_lane");
row(FD + 28, "v128", "i32x4.replace_lane");
row(FD + 29, "i64", "i64x2.extract_lane");
row(FD + 30, "v128", "i64x2.replace_lane");
row(FD + 31, "f32", "f32x4.extract_lane");
row(FD + 32, "v128", "f32x4.replace_lane");
row(FD + 33, "f64", "f64x2.extract_lane");
row(FD + 34, "v128", "f64x2.replace_lane");
const LANE_COMPARE = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u";
row(FD + 35, "v128", prefixed("i8x16", LANE_COMPARE));
row(FD + 45, "v128", prefixed("i16x8", LANE_COMPARE));
row(FD + 55, "v128", prefixed("i32x4", LANE_COMPARE));
row(FD + 65, "v128", prefixed("f32x4", FLOAT_COMPARE));
row(FD + 71, "v128", prefixed("f64x2", FLOAT_COMPARE));
row(FD + 77, "v128", prefixed("v128", "not and andnot or xor bitselect"));
row(FD + 83, "i32", "v128.any_true");
row(FD + 94, "v128", "f32x4.demote_f64x2_zero f64x2.promote_low_f32x4 i8x16.abs i8x16.neg i8x16.popcnt");
row(FD + 99, "i32", "i8x16.all_true i8x16.bitmask");
row(
  FD + 101,
  "v128",
  "i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest i8x16.shl i8x16.shr_s i8x16.shr_u " +
    "i8x16.add i8x16.add_sat_s i8x16.add_sat_u i8x16.sub i8x16.sub_sat_s i8x16.sub_sat_u f64x2.ceil f64x2.floor " +
    "i8x16.min_s i8x16.min_u i8x16.max_s i8x16.max_u f64x2.trunc i8x16.avgr_u " +
    "i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u " +
    "i16x8.abs i16x8.neg i16x8.q15mulr_sat_s",
);
row(FD + 131, "i32", "i16x8.all_true i16x8.bitmask");
row(
  FD + 133,
  "v128",
  "i16x8.narrow_i32x4_s i16x8.narrow_i32x4_u i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u " +
    "i16x8.extend_high_i8x16_u i16x8.shl i16x8.shr_s i16x8.shr_u i16x8.add i16x8.add_sat_s i16x8.add_sat_u i16x8.sub " +
    "i16x8.sub_sat_s i16x8.sub_sat_u f64x2.nearest i16x8.mul i16x8.min_s i16x8.min_u i16x8.max_s i16x8.max_u - i16x8.avgr_u " +
    "i16x8.extmul_low_i8x16_s i16x8.extmul_high_i8x16_s i16x8.extmul_low_i8x16_u i16x8.extmul_high_i8x16_u " +
    "i32x4.abs i32x4.neg",
);
row(FD + 163, "i32", "i32x4.all_true i32x4.bitmask");
row(
  FD + 167,
  "v128",
  "i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u i32x4.shl i32x4.shr_s " +
    "i32x4.shr_u i32x4.add - - i32x4.sub - - - i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s - " +
    "i32x4.extmul_low_i16x8_s i32x4.extmul_high_i16x8_s i32x4.extmul_low_i16x8_u i32x4.extmul_high_i16x8_u i64x2.abs i64x2.neg",
);
row(FD + 195, "i32", "i64x2.all_true i64x2.bitmask");
row(
  FD + 199,
  "v128",
  "i64x2.extend_low_i32x4_s i64x2.extend_high_i32x4_s i64x2.extend_low_i32x4_u i64x2.extend_high_i32x4_u i64x2.shl i64x2.shr_s " +
    "i64x2.shr_u i64x2.add - - i64x2.sub - - - i64x2.mul i64x2.eq i64x2.ne i64x2.lt_s i64x2.gt_s i64x2.le_s i64x2.ge_s " +
    "i64x2.extmul_low_i32x4_s i64x2.extmul_high_i32x4_s i64x2.extmul_low_i32x4_u i64x2.extmul_high_i32x4_u",
);
row(
  FD + 224,
  "v128",
  "f32x4.abs f32x4.neg - f32x4.sqrt f32x4.add f32x4.sub f32x4.mul f32x4.div f32x4.min f32x4.max f32x4.pmin f32x4.pmax",
);
row(
  FD + 236,
  "v128",
  "f64x2.abs f64x2.neg - f64x2.sqrt f64x2.add f64x2.sub f64x2.mul f64x2.div f64x2.min f64x2.max f64x2.pmin f64x2.pmax",
);
row(
  FD + 248,
  "v128",
  "i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u i32x4.trunc_sat_f64x2_s_zero " +
    "i32x4.trunc_sat_f64x2_u_zero f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u",
);

// Memory operators carry a memarg.
row(0x28, "i32", "i32.load");
row(0x29, "i64", "i64.load");
row(0x2a, "f32", "f32.load");
row(0x2b, "f64", "f64.load");
row(0x2c, "i32", prefixed("i32", "load8_s load8_u load16_s load16_u"));
row(0x30, "i64", prefixed("i64", "load8_s load8_u load16_s load16_u load32_s load32_u"));
row(0x36, "i32", "i32.store i64.store f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32");
row(
  FD,
  "v128",
  "v128.load v128.load8x8_s v128.load8x8_u v128.load16x4_s v128.load16x4_u v128.load32x2_s v128.load32x2_u",
);
row(FD + 7, "v128", "v128.load8_splat v128.load16_splat v128.load32_splat v128.load64_splat v128.store");
row(FD + 92, "v128", "v128.load32_zero v128.load64_zero");

const FE = 0xfe0000;
row(FE, "i32", "memory.atomic.notify memory.atomic.wait32 memory.atomic.wait64 atomic.fence");
const ATOMIC_WIDTHS = ["i32", "i64", "i32-8", "i32-16", "i64-8", "i64-16", "i64-32"] as const;
["load", "store", "add", "sub", "and", "or", "xor", "xchg", "cmpxchg"].forEach((operation, group) => {
  ATOMIC_WIDTHS.forEach((width, column) => {
    const [type, bits] = width.split("-") as [ValType, string | undefined];
    const memory = group < 2 ? operation : group === 0 ? operation : `rmw${bits ?? ""}.${operation}`;
    const name = group < 2 ? `${type}.atomic.${memory}${bits ?? ""}` : `${type}.atomic.${memory}`;
    const suffix = bits && group !== 1 ? "_u" : "";
    table.set(name + suffix, [FE + 0x10 + group * 7 + column, type]);
  });
});

/** @throws Error for a name that is no operator. */
export function operator(name: string): readonly [number, ValType] {
  const found = table.get(name);
  if (!found) throw new Error(`wasm operator "${name}" is not known`);
  return found;
}

/** Every operator with its result type; the result of a store is of no account. */
export const OPERATORS: readonly (readonly [name: string, result: ValType])[] = [...table].map(([name, [, type]]) => [
  name,
  type,
]);
