import { fitsInt } from "./emitter.ts";
import { GeneralOps, isSpecial, wBit } from "./general.ts";
import {
  CONDITIONS,
  type Condition,
  isGpr,
  isMem,
  type Mem,
  type Operand,
  type OperandBits,
  type Register,
  type RegMem,
} from "./operands.ts";

/** Widths of string instructions. */
export type StringBits = 8 | 16 | 32 | 64;
export type Repeat = "rep" | "repe" | "repne";

/** Stack, branches, string instructions and flags. */
export class FlowOps extends GeneralOps {
  push(src: Operand): this {
    if (isSpecial(src))
      return src.num < 4 ? this.db(0x06 | (src.num << 3)) : this.db(0x0f, src.num === 4 ? 0xa0 : 0xa8);
    if (isGpr(src)) return this.plain({ opcode: 0x50, bits: this.#stackBits(src), default64: true }, src);
    if (isMem(src)) return this.modrm({ opcode: 0xff, bits: this.#stackBits(src), default64: true }, 6, src);
    if (fitsInt(src, 8)) return this.plain({ opcode: 0x6a }, undefined, { value: src, bytes: 1 });
    return this.plain({ opcode: 0x68 }, undefined, { value: src, bytes: this.mode === 16 ? 2 : 4 });
  }
  pop(dst: Operand): this {
    if (isSpecial(dst))
      return dst.num < 4 ? this.db(0x07 | (dst.num << 3)) : this.db(0x0f, dst.num === 4 ? 0xa1 : 0xa9);
    if (isGpr(dst)) return this.plain({ opcode: 0x58, bits: this.#stackBits(dst), default64: true }, dst);
    const m = dst as Mem;
    return this.modrm({ opcode: 0x8f, bits: this.#stackBits(m), default64: true }, 0, m);
  }
  pushf(): this {
    return this.db(0x9c);
  }
  popf(): this {
    return this.db(0x9d);
  }
  /** PUSHA/POPA, outside 64-bit mode. */
  pusha(): this {
    return this.db(0x60);
  }
  popa(): this {
    return this.db(0x61);
  }
  enter(frameBytes: number, level = 0): this {
    return this.plain({ opcode: 0xc8 }, undefined, { value: frameBytes, bytes: 2 }).db(level);
  }
  leave(): this {
    return this.db(0xc9);
  }

  setcc(condition: Condition, dst: RegMem): this {
    return this.modrm({ map: "0f", opcode: 0x90 + CONDITIONS[condition] }, 0, dst);
  }
  cmovcc(condition: Condition, dst: Register, src: RegMem): this {
    return this.modrm({ map: "0f", opcode: 0x40 + CONDITIONS[condition], bits: dst.bits }, dst, src);
  }

  /** JMP to a label or address, or through a register or memory. A label already near behind gets the short form. */
  jmp(target: string | number | RegMem): this {
    if (typeof target === "object") return this.#indirect(4, target);
    if (this.#isShort(target)) return this.db(0xeb).relative(target, 1);
    return this.db(0xe9).relative(target, this.mode === 16 ? 2 : 4);
  }
  /** JMP with an 8-bit displacement. */
  jmpShort(target: string | number): this {
    return this.db(0xeb).relative(target, 1);
  }
  jcc(condition: Condition, target: string | number): this {
    if (this.#isShort(target)) return this.jccShort(condition, target);
    return this.db(0x0f, 0x80 + CONDITIONS[condition]).relative(target, this.mode === 16 ? 2 : 4);
  }
  jccShort(condition: Condition, target: string | number): this {
    return this.db(0x70 + CONDITIONS[condition]).relative(target, 1);
  }
  call(target: string | number | RegMem): this {
    if (typeof target === "object") return this.#indirect(2, target);
    return this.db(0xe8).relative(target, this.mode === 16 ? 2 : 4);
  }
  ret(popBytes?: number): this {
    return popBytes === undefined ? this.db(0xc3) : this.db(0xc2).dw(popBytes);
  }
  loop(target: string | number): this {
    return this.db(0xe2).relative(target, 1);
  }
  loope(target: string | number): this {
    return this.db(0xe1).relative(target, 1);
  }
  loopne(target: string | number): this {
    return this.db(0xe0).relative(target, 1);
  }
  /** JCXZ, JECXZ or JRCXZ by the address size of the mode. */
  jcxz(target: string | number): this {
    return this.db(0xe3).relative(target, 1);
  }

  movs(bits: StringBits, rep?: Repeat): this {
    return this.#string(0xa4, bits, rep);
  }
  cmps(bits: StringBits, rep?: Repeat): this {
    return this.#string(0xa6, bits, rep);
  }
  stos(bits: StringBits, rep?: Repeat): this {
    return this.#string(0xaa, bits, rep);
  }
  lods(bits: StringBits, rep?: Repeat): this {
    return this.#string(0xac, bits, rep);
  }
  scas(bits: StringBits, rep?: Repeat): this {
    return this.#string(0xae, bits, rep);
  }
  ins(bits: 8 | 16 | 32, rep?: Repeat): this {
    return this.#string(0x6c, bits, rep);
  }
  outs(bits: 8 | 16 | 32, rep?: Repeat): this {
    return this.#string(0x6e, bits, rep);
  }

  sahf(): this {
    return this.db(0x9e);
  }
  lahf(): this {
    return this.db(0x9f);
  }
  clc(): this {
    return this.db(0xf8);
  }
  stc(): this {
    return this.db(0xf9);
  }
  cmc(): this {
    return this.db(0xf5);
  }
  cld(): this {
    return this.db(0xfc);
  }
  std(): this {
    return this.db(0xfd);
  }
  nop(): this {
    return this.db(0x90);
  }
  pause(): this {
    return this.db(0xf3, 0x90);
  }

  #string(opcode: number, bits: StringBits, rep: Repeat | undefined): this {
    if (rep) this.db(rep === "repne" ? 0xf2 : 0xf3);
    return this.plain({ opcode: opcode + wBit(bits), bits });
  }
  #indirect(n: number, target: RegMem): this {
    return this.modrm({ opcode: 0xff, bits: this.#stackBits(target), default64: true }, n, target);
  }
  #stackBits(o: RegMem): OperandBits {
    const bits = o.bits ?? this.mode;
    if (this.mode === 64 && bits === 32)
      throw new Error("a 32-bit stack or branch operand cannot be encoded in 64-bit mode");
    return bits;
  }
  #isShort(target: string | number): boolean {
    const address = typeof target === "number" ? target : this.addressIfDefined(target);
    return address !== undefined && fitsInt(address - (this.here + 2), 8);
  }
}
