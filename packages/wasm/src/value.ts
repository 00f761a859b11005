import { operator, type ValType } from "./opcodes.ts";

/** Pseudo-operators of expression nodes; all lie outside WebAssembly's opcode space. */
export const Node = {
  const: -1,
  localGet: -2,
  call: -3,
  select: -4,
  globalGet: -5,
  callIndirect: -6,
  atomicFence: -7,
  /** A local's low bits, sign-extended wherever it is used. */
  extended: -8,
} as const;

/** The low `bits` bits of a leaf, sign-extended; its bits from the 32nd on are 0, those between may be anything. */
export interface Extension {
  readonly from: Val<"i64">;
  readonly bits: 8 | 16 | 32;
}

/** A binary operator's right side: a value of the same type, or a number that becomes a constant of it. */
export type Arg<T extends ValType> = Val<T> | number;

/** Operators by type and name; asked for with every node, so that no text is put together for it. */
const operators: Readonly<Record<ValType, Map<string, readonly [number, ValType]>>> = {
  i32: new Map(),
  i64: new Map(),
  f32: new Map(),
  f64: new Map(),
  v128: new Map(),
};
function op(type: ValType, name: string): readonly [number, ValType] {
  const found = operators[type].get(name);
  if (found) return found;
  const made = operator(`${type}.${name}`);
  operators[type].set(name, made);
  return made;
}

/**
 * An expression that has not been emitted yet: a tree of operators over constants and locals.
 *
 * A tree with an operator in it may be emitted once; `Fn.let` puts it into a local whose value may be used any number of
 * times. Emitting a tree twice is a mistake of the caller and throws, since it would compute (or load) twice.
 */
export class Val<T extends ValType = ValType> {
  readonly type: T;
  readonly code: number;
  readonly a: Val | undefined;
  readonly b: Val | undefined;
  readonly c: Val | undefined;
  /** Constant's low half, local's index, memarg offset, lane, or width of what is extended. */
  readonly i0: number;
  /** Constant's high half, or memarg alignment exponent. */
  readonly i1: number;
  /** Immediate bytes of v128.const and i8x16.shuffle, or the arguments of a call. */
  readonly extra: Uint8Array | readonly Val[] | undefined;
  emitted = false;
  /** Of `Node.extended`: what is extended. */
  readonly extended: Extension | undefined;

  constructor(type: T, code: number, a?: Val, b?: Val, c?: Val, i0 = 0, i1 = 0, extra?: Uint8Array | readonly Val[]) {
    this.type = type;
    this.code = code;
    this.a = a;
    this.b = b;
    this.c = c;
    this.i0 = i0;
    this.i1 = i1;
    this.extra = extra;
    this.extended = code === Node.extended ? { from: a as Val<"i64">, bits: i0 as Extension["bits"] } : undefined;
  }

  get isConst(): boolean {
    return this.code === Node.const;
  }
  /** True if the value may be emitted any number of times. */
  get isLeaf(): boolean {
    return this.code === Node.const || this.code === Node.localGet || this.code === Node.extended;
  }
  /** True for a constant equal to the small integer `n`. */
  isInt(n: number): boolean {
    return this.code === Node.const && this.i0 === (n | 0) && (this.type === "i32" || this.i1 === (n < 0 ? -1 : 0));
  }

  private arg(value: Arg<T>): Val<T> {
    if (typeof value !== "number") return value;
    return constant(this.type, value);
  }
  private bin(name: string, other: Arg<T>): Val<T> {
    return new Val(this.type, op(this.type, name)[0], this, this.arg(other));
  }
  private cmp(name: string, other: Arg<T>): Val<"i32"> {
    return new Val("i32", op(this.type, name)[0], this, this.arg(other));
  }

  add(other: Arg<T>): Val<T> {
    const b = this.arg(other);
    if (b.isInt(0)) return this;
    if (this.isInt(0)) return b;
    if (this.isConst && b.isConst && this.type === "i32") return constant(this.type, (this.i0 + b.i0) | 0);
    return this.bin("add", b);
  }
  sub(other: Arg<T>): Val<T> {
    const b = this.arg(other);
    return b.isInt(0) ? this : this.bin("sub", b);
  }
  mul(other: Arg<T>): Val<T> {
    return this.bin("mul", other);
  }
  divU(other: Arg<T>): Val<T> {
    return this.bin("div_u", other);
  }
  divS(other: Arg<T>): Val<T> {
    return this.bin("div_s", other);
  }
  remU(other: Arg<T>): Val<T> {
    return this.bin("rem_u", other);
  }
  remS(other: Arg<T>): Val<T> {
    return this.bin("rem_s", other);
  }
  and(other: Arg<T>): Val<T> {
    const b = this.arg(other);
    if (b.isInt(-1)) return this;
    if (this.isConst && b.isConst) return pair(this.type, this.i0 & b.i0, this.i1 & b.i1);
    return this.bin("and", b);
  }
  or(other: Arg<T>): Val<T> {
    const b = this.arg(other);
    if (b.isInt(0)) return this;
    if (this.isInt(0)) return b;
    return this.bin("or", b);
  }
  xor(other: Arg<T>): Val<T> {
    const b = this.arg(other);
    return b.isInt(0) ? this : this.bin("xor", b);
  }
  /** Bitwise complement. */
  not(): Val<T> {
    return this.bin("xor", -1);
  }
  shl(other: Arg<T>): Val<T> {
    const b = this.arg(other);
    return b.isInt(0) ? this : this.bin("shl", b);
  }
  shrU(other: Arg<T>): Val<T> {
    const b = this.arg(other);
    return b.isInt(0) ? this : this.bin("shr_u", b);
  }
  shrS(other: Arg<T>): Val<T> {
    const b = this.arg(other);
    return b.isInt(0) ? this : this.bin("shr_s", b);
  }
  rotl(other: Arg<T>): Val<T> {
    return this.bin("rotl", other);
  }
  rotr(other: Arg<T>): Val<T> {
    return this.bin("rotr", other);
  }
  eq(other: Arg<T>): Val<"i32"> {
    return this.cmp("eq", other);
  }
  ne(other: Arg<T>): Val<"i32"> {
    return this.cmp("ne", other);
  }
  ltU(other: Arg<T>): Val<"i32"> {
    return this.cmp("lt_u", other);
  }
  ltS(other: Arg<T>): Val<"i32"> {
    return this.cmp("lt_s", other);
  }
  leU(other: Arg<T>): Val<"i32"> {
    return this.cmp("le_u", other);
  }
  leS(other: Arg<T>): Val<"i32"> {
    return this.cmp("le_s", other);
  }
  gtU(other: Arg<T>): Val<"i32"> {
    return this.cmp("gt_u", other);
  }
  gtS(other: Arg<T>): Val<"i32"> {
    return this.cmp("gt_s", other);
  }
  geU(other: Arg<T>): Val<"i32"> {
    return this.cmp("ge_u", other);
  }
  geS(other: Arg<T>): Val<"i32"> {
    return this.cmp("ge_s", other);
  }
  eqz(): Val<"i32"> {
    if (this.isConst) return constant("i32", this.i0 === 0 && (this.type === "i32" || this.i1 === 0) ? 1 : 0);
    return new Val("i32", op(this.type, "eqz")[0], this);
  }
  clz(): Val<T> {
    return new Val(this.type, op(this.type, "clz")[0], this);
  }
  ctz(): Val<T> {
    return new Val(this.type, op(this.type, "ctz")[0], this);
  }
  popcnt(): Val<T> {
    return new Val(this.type, op(this.type, "popcnt")[0], this);
  }

  /** The low 32 bits of an i64; an i32 is returned as it is. */
  wrap(): Val<"i32"> {
    return this.low(32);
  }
  /**
   * An i32 whose low `bits` bits are this value's, the others anything: arithmetic that they do not depend on is left out, and
   * the rest is done in 32 bits. Takes the place of this value, if that is not a leaf.
   */
  low(bits: 8 | 16 | 32): Val<"i32"> {
    if (this.type === "i32") return this as unknown as Val<"i32">;
    if (this.isConst) return pair("i32", this.i0, 0);
    if (this.extended && bits <= this.extended.bits) return this.extended.from.low(bits);
    return lowOfNode(this as unknown as Val<"i64">, bits) ?? new Val("i32", Opcode.wrap, this);
  }
  /** An i32 zero-extended to i64; an i64 is returned as it is. */
  extU(): Val<"i64"> {
    if (this.type === "i64") return this as unknown as Val<"i64">;
    if (this.isConst) return pair("i64", this.i0, 0);
    return new Val("i64", 0xad, this);
  }
  /** An i32 sign-extended to i64; an i64 is returned as it is. */
  extS(): Val<"i64"> {
    if (this.type === "i64") return this as unknown as Val<"i64">;
    if (this.isConst) return pair("i64", this.i0, this.i0 >> 31);
    return new Val("i64", 0xac, this);
  }
  /** Sign-extends the low 8, 16 or 32 bits over the whole of the value; 64 changes nothing. */
  signExtend(bits: 8 | 16 | 32 | 64): Val<T> {
    if (bits === 64 || (bits === 32 && this.type === "i32")) return this;
    if (this.extended && this.extended.bits <= bits) return this;
    const name = bits === 8 ? "extend8_s" : bits === 16 ? "extend16_s" : "extend32_s";
    return new Val(this.type, op(this.type, name)[0], this);
  }
  /** Zeroes all but the low 8, 16 or 32 bits; 64 changes nothing. */
  zeroExtend(bits: 8 | 16 | 32 | 64): Val<T> {
    if (bits === 64 || (bits === 32 && this.type === "i32")) return this;
    if (this.type === "i64") {
      if (bits === 32 && this.extended?.bits === 32) return this.extended.from as Val as Val<T>;
      const low = this.low(bits);
      return (bits === 32 ? low : low.and(bits === 8 ? 0xff : 0xffff)).extU() as Val<T>;
    }
    return this.and(bits === 8 ? 0xff : 0xffff);
  }
}

const Opcode = {
  wrap: 0xa7,
  extendS: 0xac,
  extendU: 0xad,
  extend8: 0xc2,
  extend16: 0xc3,
  extend32: 0xc4,
} as const;
/** i64 operators whose low bits follow from their operands' low bits, and what they are called for i32. */
const LOW_BITS = new Map(["add", "sub", "mul", "and", "or", "xor"].map((name) => [operator(`i64.${name}`)[0], name]));
const SHL = operator("i64.shl")[0];

function lowOfNode(v: Val<"i64">, bits: 8 | 16 | 32): Val<"i32"> | undefined {
  if (v.emitted) return undefined;
  switch (v.code) {
    case Opcode.extendU:
    case Opcode.extendS:
      return v.a as Val<"i32">;
    case Opcode.extend8:
      return bits <= 8 ? (v.a as Val<"i64">).low(bits) : undefined;
    case Opcode.extend16:
      return bits <= 16 ? (v.a as Val<"i64">).low(bits) : undefined;
    case Opcode.extend32:
      return (v.a as Val<"i64">).low(bits);
    case SHL:
      if (!v.b!.isConst || v.b!.i0 < 0 || v.b!.i0 >= 32) return undefined;
      return (v.a as Val<"i64">).low(32).shl(v.b!.i0);
  }
  const name = LOW_BITS.get(v.code);
  if (name === undefined) return undefined;
  const [a, b] = [(v.a as Val<"i64">).low(bits), (v.b as Val<"i64">).low(bits)];
  return name === "and" ? a.and(b) : new Val("i32", op("i32", name)[0], a, b);
}

/** Of the i64 operator that sign-extends so many low bits. */
export const extensionOpcode = (bits: Extension["bits"]): number =>
  bits === 8 ? Opcode.extend8 : bits === 16 ? Opcode.extend16 : Opcode.extend32;

/** A leaf that is the sign extension of another. */
export const extendedLeaf = (from: Val<"i64">, bits: Extension["bits"]): Val<"i64"> =>
  new Val("i64", Node.extended, from, undefined, undefined, bits);

/** What an expression is the sign extension of: `from` is an expression that takes its place. */
export function extensionOf(v: Val): { readonly from: Val<"i64">; readonly bits: 8 | 16 | 32 } | undefined {
  if (v.type !== "i64" || v.emitted) return undefined;
  const bits = v.code === Opcode.extend8 ? 8 : v.code === Opcode.extend16 ? 16 : v.code === Opcode.extend32 ? 32 : 0;
  if (bits !== 0) return { from: (v.a as Val<"i64">).low(bits).extU(), bits };
  const name = LOW_BITS.get(v.code);
  if (name !== "and" && name !== "or" && name !== "xor") return undefined;
  // Bitwise operations of sign extensions are sign extensions.
  const [a, b] = [v.a as Val<"i64">, v.b as Val<"i64">];
  const known = a.extended?.bits ?? b.extended?.bits;
  if (known === undefined || !isExtension(a, known) || !isExtension(b, known)) return undefined;
  return { from: v.low(known).extU(), bits: known };
}
function isExtension(v: Val<"i64">, bits: 8 | 16 | 32): boolean {
  if (v.isConst) return v.i1 === v.i0 >> 31 && (v.i0 << (32 - bits)) >> (32 - bits) === v.i0;
  return v.extended?.bits === bits;
}

/** An integer constant from a JavaScript number; for i64 the number is taken as a signed 53-bit integer. */
export function constant<T extends ValType>(type: T, value: number): Val<T> {
  return new Val(
    type,
    Node.const,
    undefined,
    undefined,
    undefined,
    value | 0,
    type === "i32" ? 0 : Math.floor(value / 2 ** 32) | 0,
  );
}

/** A constant from two 32-bit halves. */
export function pair<T extends ValType>(type: T, lo: number, hi: number): Val<T> {
  return new Val(type, Node.const, undefined, undefined, undefined, lo | 0, hi | 0);
}

export const i32 = (value: number): Val<"i32"> => constant("i32", value);
export const i64 = (value: number): Val<"i64"> => constant("i64", value);
/** An i64 constant from two halves. */
export const i64Halves = (lo: number, hi: number): Val<"i64"> => pair("i64", lo, hi);
/** An i64 constant from a BigInt; for code that runs when a module is built, not while a guest runs. */
export const i64Big = (value: bigint): Val<"i64"> =>
  pair("i64", Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
/** A v128 constant from its 16 bytes. */
export function v128(bytes: Uint8Array): Val<"v128"> {
  if (bytes.length !== 16) throw new Error(`v128 constant of ${bytes.length} bytes, expected 16`);
  return new Val("v128", Node.const, undefined, undefined, undefined, 0, 0, bytes);
}

/** Of an address in a memory: 32 bits wide, or 64 where the memory may be larger than 4 GiB. */
export type AddressType = "i32" | "i64";
export type Address = Val<AddressType>;
export type I32 = Val<"i32">;
export type I64 = Val<"i64">;
export type F32 = Val<"f32">;
export type F64 = Val<"f64">;
export type V128 = Val<"v128">;
