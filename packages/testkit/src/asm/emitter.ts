import type { Immediate, LabelRef, Mem, Mode, OperandBits, Register, SpecialRegister } from "./operands.ts";

export type OpcodeMap = "1" | "0f" | "0f38" | "0f3a";

/** The fixed part of an encoding; operands supply ModRM, SIB, displacement and the REX extension bits. */
export interface Encoding {
  readonly map?: OpcodeMap;
  readonly opcode: number;
  /** Mandatory prefix. */
  readonly prefix?: 0x66 | 0xf2 | 0xf3;
  /** Operand size in bits: gives 0x66 and REX.W. Omitted: neither. */
  readonly bits?: OperandBits | undefined;
  /** The operand size is 64 in 64-bit mode without REX.W (PUSH, POP, near branches). */
  readonly default64?: boolean;
}

/** An immediate and its width in bytes. */
export interface SizedImmediate {
  readonly value: Immediate;
  readonly bytes: 1 | 2 | 4 | 8;
}

interface Fixup {
  readonly at: number;
  readonly bytes: 1 | 2 | 4 | 8;
  readonly label: string;
  readonly addend: number;
  /** Relative fixups count from this offset (the end of the instruction). */
  readonly relativeTo: number | undefined;
}

const SEGMENT_PREFIX = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const MAP_BYTES: Record<OpcodeMap, number[]> = { "1": [], "0f": [0x0f], "0f38": [0x0f, 0x38], "0f3a": [0x0f, 0x3a] };
/** r/m of a 16-bit address, keyed by base and index register number: [bx+si] … [bx]. */
const RM16: Record<string, number> = {
  "3+6": 0,
  "3+7": 1,
  "5+6": 2,
  "5+7": 3,
  "6": 4,
  "7": 5,
  "5": 6,
  "3": 7,
};

export const fitsInt = (value: Immediate, bits: number): boolean =>
  typeof value !== "object" && BigInt.asIntN(bits, BigInt(value)) === BigInt(value);

/** Byte buffer with labels and the x86 instruction frame: prefixes, REX, opcode, ModRM, SIB, displacement, immediate. */
export class Emitter {
  readonly mode: Mode;
  /** Address of the first byte, at most 2^53. */
  readonly origin: number;
  #bytes = new Uint8Array(256);
  #length = 0;
  readonly #labels = new Map<string, number>();
  readonly #fixups: Fixup[] = [];

  constructor(options: { mode: Mode; origin?: number }) {
    this.mode = options.mode;
    this.origin = options.origin ?? 0;
  }

  /** Bytes emitted so far. */
  get size(): number {
    return this.#length;
  }
  /** Address of the next byte. */
  get here(): number {
    return this.origin + this.#length;
  }

  /** Defines a label at the next byte. @throws if the name is taken */
  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`label ${name}: defined twice`);
    this.#labels.set(name, this.#length);
    return this;
  }
  /** Defines a label at any address. @throws if the name is taken */
  equate(name: string, address: number): this {
    if (this.#labels.has(name)) throw new Error(`label ${name}: defined twice`);
    this.#labels.set(name, address - this.origin);
    return this;
  }
  /** Address of a label that is already defined, or undefined. */
  addressIfDefined(name: string): number | undefined {
    const offset = this.#labels.get(name);
    return offset === undefined ? undefined : this.origin + offset;
  }
  /** Address of a label. @throws if it is not defined */
  address(name: string): number {
    const at = this.addressIfDefined(name);
    if (at === undefined) throw new Error(`label ${name}: not defined`);
    return at;
  }

  /** Raw bytes, or the ASCII of a string. */
  db(...values: (number | string | Uint8Array)[]): this {
    for (const v of values) {
      if (typeof v === "number") this.#put(v);
      else for (const b of typeof v === "string" ? new TextEncoder().encode(v) : v) this.#put(b);
    }
    return this;
  }
  dw(...values: Immediate[]): this {
    for (const v of values) this.immediate(v, 2);
    return this;
  }
  dd(...values: Immediate[]): this {
    for (const v of values) this.immediate(v, 4);
    return this;
  }
  dq(...values: Immediate[]): this {
    for (const v of values) this.immediate(v, 8);
    return this;
  }
  /** Pads with `fill` to a multiple of `alignment` bytes from the origin. */
  align(alignment: number, fill = 0): this {
    while (this.here % alignment !== 0) this.#put(fill);
    return this;
  }
  /** Emits `count` bytes of `fill`. */
  space(count: number, fill = 0): this {
    for (let i = 0; i < count; i++) this.#put(fill);
    return this;
  }

  /** The assembled bytes with labels resolved. @throws on undefined labels and displacements out of range */
  bytes(): Uint8Array {
    const out = this.#bytes.slice(0, this.#length);
    const view = new DataView(out.buffer);
    for (const f of this.#fixups) {
      const target = this.address(f.label) + f.addend;
      const value = f.relativeTo === undefined ? target : target - (this.origin + f.relativeTo);
      const fits = f.relativeTo === undefined ? value < 2 ** (8 * f.bytes) : fitsInt(value, 8 * f.bytes);
      if (!fits) throw new Error(`label ${f.label}: ${value} does not fit ${f.bytes} bytes`);
      writeInteger(view, f.at, BigInt(value), f.bytes);
    }
    return out;
  }

  /** Emits an instruction without ModRM; `register` is added to the opcode's low three bits. */
  plain(e: Encoding, register?: Register, imm?: SizedImmediate): this {
    const num = register?.num ?? 0;
    this.#sizePrefixes(e);
    if (e.prefix) this.#put(e.prefix);
    this.#rex(this.#wide(e), 0, 0, num >> 3, register !== undefined && needsRex(register), register?.high === true);
    this.db(...MAP_BYTES[e.map ?? "1"], e.opcode + (num & 7));
    if (imm) this.immediate(imm.value, imm.bytes);
    return this;
  }

  /**
   * Emits an instruction with ModRM.
   * @param reg  register in the reg field, or the opcode extension 0–7
   * @param rm   register or memory in r/m
   */
  modrm(
    e: Encoding,
    reg: Register | SpecialRegister | number,
    rm: Register | SpecialRegister | Mem,
    imm?: SizedImmediate,
  ): this {
    const regNum = typeof reg === "number" ? reg : reg.num;
    const force = [reg, rm].some((o) => typeof o === "object" && o.kind === "gpr" && needsRex(o));
    const high = [reg, rm].some((o) => typeof o === "object" && o.kind === "gpr" && o.high);
    if (rm.kind === "mem") {
      if (rm.segment) this.#put(SEGMENT_PREFIX[rm.segment.num]);
      if (this.#addressBits(rm) !== this.mode) this.#put(0x67);
    }
    this.#sizePrefixes(e);
    if (e.prefix) this.#put(e.prefix);
    const x = rm.kind === "mem" ? (rm.index?.num ?? 0) >> 3 : 0;
    const b = rm.kind === "mem" ? (rm.base?.num ?? 0) >> 3 : rm.num >> 3;
    this.#rex(this.#wide(e), regNum >> 3, x, b, force, high);
    this.db(...MAP_BYTES[e.map ?? "1"], e.opcode);
    const regField = (regNum & 7) << 3;
    if (rm.kind !== "mem") this.#put(0xc0 | regField | (rm.num & 7));
    else if (this.#addressBits(rm) === 16) this.#address16(regField, rm);
    else this.#address32(regField, rm, imm?.bytes ?? 0);
    if (imm) this.immediate(imm.value, imm.bytes);
    return this;
  }

  /** Emits an immediate, little-endian; a label reference becomes its absolute address. @throws if a number does not fit */
  immediate(value: Immediate, bytes: 1 | 2 | 4 | 8): this {
    if (typeof value === "object") this.#fixup(value, bytes, undefined);
    else {
      const big = BigInt(value);
      if (BigInt.asIntN(8 * bytes, big) !== big && BigInt.asUintN(8 * bytes, big) !== big) {
        throw new Error(`immediate ${value}: does not fit ${bytes} bytes`);
      }
      for (let i = 0; i < bytes; i++) this.#put(Number((big >> BigInt(8 * i)) & 0xffn));
    }
    return this;
  }

  /** Emits a displacement to a label or an absolute address, counted from the byte after it. */
  relative(target: string | number, bytes: 1 | 2 | 4): this {
    const end = this.#length + bytes;
    if (typeof target === "string") this.#fixup({ kind: "label", name: target, addend: 0 }, bytes, end);
    else this.immediate(target - (this.origin + end), bytes);
    return this;
  }

  #put(value: number): void {
    if (this.#length === this.#bytes.length) {
      const grown = new Uint8Array(this.#bytes.length * 2);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes[this.#length++] = value;
  }

  #fixup(ref: LabelRef, bytes: 1 | 2 | 4 | 8, relativeTo: number | undefined): void {
    this.#fixups.push({ at: this.#length, bytes, label: ref.name, addend: ref.addend, relativeTo });
    this.space(bytes);
  }

  #sizePrefixes(e: Encoding): void {
    if (e.bits === 64 && this.mode !== 64)
      throw new Error(`opcode 0x${e.opcode.toString(16)}: 64-bit operand outside 64-bit mode`);
    if ((e.bits === 16 && this.mode !== 16) || (e.bits === 32 && this.mode === 16)) this.#put(0x66);
  }
  #wide(e: Encoding): number {
    return e.bits === 64 && !e.default64 ? 1 : 0;
  }
  #rex(w: number, r: number, x: number, b: number, force: boolean, high: boolean): void {
    const rex = 0x40 | (w << 3) | (r << 2) | (x << 1) | b;
    if (rex === 0x40 && !force) return;
    if (this.mode !== 64) throw new Error("REX registers need 64-bit mode");
    if (high) throw new Error("AH, CH, DH, BH cannot be used with a REX prefix");
    this.#put(rex);
  }

  #addressBits(m: Mem): Mode {
    const bits = m.base?.bits ?? m.index?.bits ?? this.mode;
    if (bits === 8) throw new Error("an 8-bit register cannot address memory");
    return bits;
  }

  #address16(regField: number, m: Mem): void {
    if (!m.base && !m.index) {
      this.#put(regField | 6);
      this.#displacement(m, 2);
      return;
    }
    const nums = [m.base, m.index].filter((r) => r !== undefined).map((r) => r.num);
    const rm = RM16[nums.sort((a, b) => a - b).join("+")];
    if (rm === undefined) throw new Error("not a 16-bit address form");
    const bytes = displacementBytes(m, rm === 6) === 4 ? 2 : displacementBytes(m, rm === 6);
    this.#put((bytes === 0 ? 0 : bytes === 1 ? 0x40 : 0x80) | regField | rm);
    this.#displacement(m, bytes);
  }

  #address32(regField: number, m: Mem, immediateBytes: number): void {
    if (m.index && (m.index.num === 4 || m.index.bits !== (m.base ?? m.index).bits))
      throw new Error("not an index register");
    if (!m.base) {
      if (!m.index && m.label !== undefined && this.mode === 64) {
        this.#put(regField | 5);
        this.#fixup({ kind: "label", name: m.label, addend: m.disp }, 4, this.#length + 4 + immediateBytes);
        return;
      }
      if (!m.index && this.mode === 32) this.#put(regField | 5);
      else this.db(regField | 4, (Math.log2(m.scale) << 6) | (((m.index?.num ?? 4) & 7) << 3) | 5);
      this.#displacement(m, 4);
      return;
    }
    const bytes = displacementBytes(m, (m.base.num & 7) === 5);
    const mod = bytes === 0 ? 0 : bytes === 1 ? 0x40 : 0x80;
    if (m.index || (m.base.num & 7) === 4) {
      this.db(mod | regField | 4, (Math.log2(m.scale) << 6) | (((m.index?.num ?? 4) & 7) << 3) | (m.base.num & 7));
    } else this.#put(mod | regField | (m.base.num & 7));
    this.#displacement(m, bytes);
  }

  #displacement(m: Mem, bytes: 0 | 1 | 2 | 4): void {
    if (bytes === 0) return;
    if (this.#addressBits(m) === 64 && !fitsInt(m.disp, 32)) {
      throw new Error(`displacement 0x${m.disp.toString(16)}: expected a signed 32-bit number in 64-bit addressing`);
    }
    if (m.label === undefined) this.immediate(m.disp, bytes);
    else this.#fixup({ kind: "label", name: m.label, addend: m.disp }, bytes, undefined);
  }
}

const needsRex = (r: Register): boolean => r.bits === 8 && !r.high && r.num >= 4;

function displacementBytes(m: Mem, needed: boolean): 0 | 1 | 4 {
  if (m.label !== undefined || !fitsInt(m.disp, 8)) return 4;
  return m.disp === 0 && !needed ? 0 : 1;
}

function writeInteger(view: DataView, at: number, value: bigint, bytes: number): void {
  for (let i = 0; i < bytes; i++) view.setUint8(at + i, Number((value >> BigInt(8 * i)) & 0xffn));
}
