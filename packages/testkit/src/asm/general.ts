import { Emitter, type Encoding, fitsInt, type SizedImmediate } from "./emitter.ts";
import {
  type Immediate,
  isGpr,
  isImmediate,
  isMem,
  type Mem,
  type Operand,
  type OperandBits,
  type Register,
  type RegMem,
} from "./operands.ts";

/** Instructions that move and compute. Operands are in Intel's order: destination first. */
export class GeneralOps extends Emitter {
  mov(dst: Operand, src: Operand): this {
    if (isSpecial(dst) || isSpecial(src)) return this.#movSpecial(dst, src);
    if (isImmediate(dst)) throw new Error("mov: the destination is an immediate");
    if (!isImmediate(src)) return this.#regRm(0x88, dst as RegMem, src as RegMem);
    const bits = sizeOf(dst);
    const wide64 = bits === 64 && !fitsInt(src, 32);
    if (isGpr(dst) && (bits < 64 || wide64)) {
      return this.plain({ opcode: bits === 8 ? 0xb0 : 0xb8, bits }, dst, {
        value: src,
        bytes: (bits / 8) as 1 | 2 | 4 | 8,
      });
    }
    return this.modrm({ opcode: bits === 8 ? 0xc6 : 0xc7, bits }, 0, dst as RegMem, sized(src, bits));
  }
  /** MOV between the accumulator and an absolute address (A0–A3). */
  movAbsolute(dst: Register | Immediate, src: Register | Immediate): this {
    const load = isGpr(dst as Operand);
    const [register, address] = (load ? [dst, src] : [src, dst]) as [Register, Immediate];
    if (register.num !== 0) throw new Error("movAbsolute: takes the accumulator only");
    const e = { opcode: (load ? 0xa0 : 0xa2) + wBit(register.bits), bits: register.bits };
    return this.plain(e, undefined, { value: address, bytes: (this.mode / 8) as 2 | 4 | 8 });
  }
  movzx(dst: Register, src: RegMem): this {
    return this.modrm({ map: "0f", opcode: 0xb6 + wBit(sizeOf(src)), bits: dst.bits }, dst, src);
  }
  movsx(dst: Register, src: RegMem): this {
    if (sizeOf(src) === 32) return this.modrm({ opcode: 0x63, bits: dst.bits }, dst, src);
    return this.modrm({ map: "0f", opcode: 0xbe + wBit(sizeOf(src)), bits: dst.bits }, dst, src);
  }
  lea(dst: Register, src: Mem): this {
    return this.modrm({ opcode: 0x8d, bits: dst.bits }, dst, src);
  }
  xchg(a: RegMem, b: RegMem): this {
    const [rm, reg] = isMem(b) ? [b, a as Register] : [a, b as Register];
    return this.modrm({ opcode: 0x86 + wBit(reg.bits), bits: reg.bits }, reg, rm);
  }
  xadd(dst: RegMem, src: Register): this {
    return this.modrm({ map: "0f", opcode: 0xc0 + wBit(src.bits), bits: src.bits }, src, dst);
  }
  cmpxchg(dst: RegMem, src: Register): this {
    return this.modrm({ map: "0f", opcode: 0xb0 + wBit(src.bits), bits: src.bits }, src, dst);
  }
  cmpxchg8b(dst: Mem): this {
    return this.modrm({ map: "0f", opcode: 0xc7 }, 1, dst);
  }
  cmpxchg16b(dst: Mem): this {
    return this.modrm({ map: "0f", opcode: 0xc7, bits: 64 }, 1, dst);
  }
  /** LOCK prefix for the next instruction. */
  lock(): this {
    return this.db(0xf0);
  }

  add(dst: RegMem, src: Operand): this {
    return this.#alu(0, dst, src);
  }
  or(dst: RegMem, src: Operand): this {
    return this.#alu(1, dst, src);
  }
  adc(dst: RegMem, src: Operand): this {
    return this.#alu(2, dst, src);
  }
  sbb(dst: RegMem, src: Operand): this {
    return this.#alu(3, dst, src);
  }
  and(dst: RegMem, src: Operand): this {
    return this.#alu(4, dst, src);
  }
  sub(dst: RegMem, src: Operand): this {
    return this.#alu(5, dst, src);
  }
  xor(dst: RegMem, src: Operand): this {
    return this.#alu(6, dst, src);
  }
  cmp(dst: RegMem, src: Operand): this {
    return this.#alu(7, dst, src);
  }
  test(dst: RegMem, src: Register | Immediate): this {
    const bits = sizeOf(dst);
    if (!isImmediate(src)) return this.modrm({ opcode: 0x84 + wBit(bits), bits }, src, dst);
    if (isAccumulator(dst)) return this.plain({ opcode: 0xa8 + wBit(bits), bits }, undefined, sized(src, bits));
    return this.modrm({ opcode: 0xf6 + wBit(bits), bits }, 0, dst, sized(src, bits));
  }
  not(dst: RegMem): this {
    return this.#group3(2, dst);
  }
  neg(dst: RegMem): this {
    return this.#group3(3, dst);
  }
  mul(src: RegMem): this {
    return this.#group3(4, src);
  }
  /** One, two or three operands, as the manual has them. */
  imul(dst: RegMem, src?: RegMem, imm?: Immediate): this {
    if (src === undefined) return this.#group3(5, dst);
    const reg = dst as Register;
    if (imm === undefined) return this.modrm({ map: "0f", opcode: 0xaf, bits: reg.bits }, reg, src);
    const short = fitsInt(imm, 8);
    return this.modrm(
      { opcode: short ? 0x6b : 0x69, bits: reg.bits },
      reg,
      src,
      short ? { value: imm, bytes: 1 } : sized(imm, reg.bits),
    );
  }
  div(src: RegMem): this {
    return this.#group3(6, src);
  }
  idiv(src: RegMem): this {
    return this.#group3(7, src);
  }
  inc(dst: RegMem): this {
    return this.modrm({ opcode: 0xfe + wBit(sizeOf(dst)), bits: sizeOf(dst) }, 0, dst);
  }
  dec(dst: RegMem): this {
    return this.modrm({ opcode: 0xfe + wBit(sizeOf(dst)), bits: sizeOf(dst) }, 1, dst);
  }

  /** Shifts and rotates: the count is 1, another immediate, or CL. */
  rol(dst: RegMem, count: number | Register): this {
    return this.#shift(0, dst, count);
  }
  ror(dst: RegMem, count: number | Register): this {
    return this.#shift(1, dst, count);
  }
  rcl(dst: RegMem, count: number | Register): this {
    return this.#shift(2, dst, count);
  }
  rcr(dst: RegMem, count: number | Register): this {
    return this.#shift(3, dst, count);
  }
  shl(dst: RegMem, count: number | Register): this {
    return this.#shift(4, dst, count);
  }
  shr(dst: RegMem, count: number | Register): this {
    return this.#shift(5, dst, count);
  }
  sar(dst: RegMem, count: number | Register): this {
    return this.#shift(7, dst, count);
  }
  shld(dst: RegMem, src: Register, count: number | Register): this {
    return this.#doubleShift(0xa4, dst, src, count);
  }
  shrd(dst: RegMem, src: Register, count: number | Register): this {
    return this.#doubleShift(0xac, dst, src, count);
  }

  bt(dst: RegMem, bit: Register | number): this {
    return this.#bitTest(4, dst, bit);
  }
  bts(dst: RegMem, bit: Register | number): this {
    return this.#bitTest(5, dst, bit);
  }
  btr(dst: RegMem, bit: Register | number): this {
    return this.#bitTest(6, dst, bit);
  }
  btc(dst: RegMem, bit: Register | number): this {
    return this.#bitTest(7, dst, bit);
  }
  bsf(dst: Register, src: RegMem): this {
    return this.modrm({ map: "0f", opcode: 0xbc, bits: dst.bits }, dst, src);
  }
  bsr(dst: Register, src: RegMem): this {
    return this.modrm({ map: "0f", opcode: 0xbd, bits: dst.bits }, dst, src);
  }
  popcnt(dst: Register, src: RegMem): this {
    return this.modrm({ map: "0f", opcode: 0xb8, bits: dst.bits, prefix: 0xf3 }, dst, src);
  }
  bswap(dst: Register): this {
    return this.plain({ map: "0f", opcode: 0xc8, bits: dst.bits }, dst);
  }

  cbw(): this {
    return this.plain({ opcode: 0x98, bits: 16 });
  }
  cwde(): this {
    return this.plain({ opcode: 0x98, bits: 32 });
  }
  cdqe(): this {
    return this.plain({ opcode: 0x98, bits: 64 });
  }
  cwd(): this {
    return this.plain({ opcode: 0x99, bits: 16 });
  }
  cdq(): this {
    return this.plain({ opcode: 0x99, bits: 32 });
  }
  cqo(): this {
    return this.plain({ opcode: 0x99, bits: 64 });
  }
  xlat(): this {
    return this.db(0xd7);
  }

  #alu(n: number, dst: RegMem, src: Operand): this {
    if (!isImmediate(src)) return this.#regRm(n << 3, dst, src as RegMem);
    const bits = sizeOf(dst);
    if (bits === 8) {
      if (isAccumulator(dst)) return this.plain({ opcode: (n << 3) | 4 }, undefined, sized(src, 8));
      return this.modrm({ opcode: 0x80 }, n, dst, sized(src, 8));
    }
    if (fitsInt(src, 8)) return this.modrm({ opcode: 0x83, bits }, n, dst, { value: src, bytes: 1 });
    if (isAccumulator(dst)) return this.plain({ opcode: (n << 3) | 5, bits }, undefined, sized(src, bits));
    return this.modrm({ opcode: 0x81, bits }, n, dst, sized(src, bits));
  }
  /** The four forms op r/m,r and op r,r/m, with bit 1 of the opcode as the direction. */
  #regRm(opcode: number, dst: RegMem, src: RegMem): this {
    const [rm, reg, direction] = isMem(src) ? [src, dst as Register, 2] : [dst, src, 0];
    if (isMem(reg)) throw new Error("two memory operands");
    return this.modrm({ opcode: opcode + direction + wBit(reg.bits), bits: reg.bits }, reg, rm);
  }
  #group3(n: number, dst: RegMem): this {
    return this.modrm({ opcode: 0xf6 + wBit(sizeOf(dst)), bits: sizeOf(dst) }, n, dst);
  }
  #shift(n: number, dst: RegMem, count: number | Register): this {
    const bits = sizeOf(dst);
    if (typeof count === "object") return this.modrm({ opcode: 0xd2 + wBit(bits), bits }, n, dst);
    if (count === 1) return this.modrm({ opcode: 0xd0 + wBit(bits), bits }, n, dst);
    return this.modrm({ opcode: 0xc0 + wBit(bits), bits }, n, dst, { value: count, bytes: 1 });
  }
  #doubleShift(opcode: number, dst: RegMem, src: Register, count: number | Register): this {
    if (typeof count === "object") return this.modrm({ map: "0f", opcode: opcode + 1, bits: src.bits }, src, dst);
    return this.modrm({ map: "0f", opcode, bits: src.bits }, src, dst, { value: count, bytes: 1 });
  }
  #bitTest(n: number, dst: RegMem, bit: Register | number): this {
    if (typeof bit === "object") return this.modrm({ map: "0f", opcode: 0x83 | (n << 3), bits: bit.bits }, bit, dst);
    return this.modrm({ map: "0f", opcode: 0xba, bits: sizeOf(dst) }, n, dst, { value: bit, bytes: 1 });
  }
  #movSpecial(dst: Operand, src: Operand): this {
    const store = isSpecial(src);
    const [spec, rm] = (store ? [src, dst] : [dst, src]) as [{ kind: string; num: number }, RegMem];
    const reg = spec.num;
    if (spec.kind === "sreg") {
      const bits: Encoding["bits"] = store && isGpr(rm) ? rm.bits : undefined;
      return this.modrm({ opcode: store ? 0x8c : 0x8e, bits }, reg, rm);
    }
    if (spec.kind !== "creg" && spec.kind !== "dreg")
      throw new Error(`mov: ${spec.kind} operands have their own instructions`);
    const opcode = (spec.kind === "creg" ? 0x20 : 0x21) + (store ? 0 : 2);
    return this.modrm({ map: "0f", opcode, default64: true }, { kind: "creg", num: reg }, rm);
  }
}

export const wBit = (bits: OperandBits): 0 | 1 => (bits === 8 ? 0 : 1);
const isAccumulator = (o: RegMem): boolean => isGpr(o) && o.num === 0;
export const isSpecial = (o: Operand): o is Exclude<Operand, RegMem | Immediate> =>
  !isImmediate(o) && !isGpr(o) && !isMem(o);

function sizeOf(o: RegMem): OperandBits {
  if (o.bits === undefined) throw new Error("the memory operand needs a size");
  return o.bits;
}
function sized(value: Immediate, bits: OperandBits): SizedImmediate {
  return { value, bytes: bits === 64 ? 4 : ((bits / 8) as 1 | 2 | 4) };
}
