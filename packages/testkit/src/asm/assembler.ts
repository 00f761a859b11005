import type { Encoding } from "./emitter.ts";
import { FlowOps } from "./flow.ts";
import type { Immediate, Mem, Mode, Register, RegMem, SpecialRegister } from "./operands.ts";

/**
 * x86 assembler for 16-, 32- and 64-bit code.
 *
 * `new Assembler({ mode: 64, origin: 0x100000 }).mov(rax, 1).label("again").dec(rax).jcc("nz", "again").hlt().bytes()`
 *
 * Instructions without a method of their own are written with `insn` (fixed part of the encoding and operands) or `db`.
 */
export class Assembler extends FlowOps {
  /** Any instruction with ModRM: `insn({ map: "0f38", opcode: 0, prefix: 0x66 }, xmm(1), xmm(2))` is PSHUFB. */
  insn(
    e: Encoding,
    reg: Register | SpecialRegister | number,
    rm: Register | SpecialRegister | Mem,
    imm8?: number,
  ): this {
    return this.modrm(e, reg, rm, imm8 === undefined ? undefined : { value: imm8, bytes: 1 });
  }

  int(vector: number): this {
    return this.db(0xcd, vector);
  }
  int3(): this {
    return this.db(0xcc);
  }
  /** IRET with the operand size of the mode: IRETW, IRETD, IRETQ. */
  iret(): this {
    return this.plain({ opcode: 0xcf, bits: this.mode });
  }
  syscall(): this {
    return this.db(0x0f, 0x05);
  }
  /** SYSRET to 64-bit code; `bits` 32 returns to compatibility mode. */
  sysret(bits: 32 | 64 = 64): this {
    return this.plain({ map: "0f", opcode: 0x07, bits });
  }
  sysenter(): this {
    return this.db(0x0f, 0x34);
  }
  ud2(): this {
    return this.db(0x0f, 0x0b);
  }
  hlt(): this {
    return this.db(0xf4);
  }
  cli(): this {
    return this.db(0xfa);
  }
  sti(): this {
    return this.db(0xfb);
  }
  cpuid(): this {
    return this.db(0x0f, 0xa2);
  }
  rdtsc(): this {
    return this.db(0x0f, 0x31);
  }
  rdmsr(): this {
    return this.db(0x0f, 0x32);
  }
  wrmsr(): this {
    return this.db(0x0f, 0x30);
  }
  vmcall(): this {
    return this.db(0x0f, 0x01, 0xc1);
  }
  vmmcall(): this {
    return this.db(0x0f, 0x01, 0xd9);
  }
  swapgs(): this {
    return this.db(0x0f, 0x01, 0xf8);
  }
  xgetbv(): this {
    return this.db(0x0f, 0x01, 0xd0);
  }
  xsetbv(): this {
    return this.db(0x0f, 0x01, 0xd1);
  }
  clts(): this {
    return this.db(0x0f, 0x06);
  }
  wbinvd(): this {
    return this.db(0x0f, 0x09);
  }
  lfence(): this {
    return this.db(0x0f, 0xae, 0xe8);
  }
  mfence(): this {
    return this.db(0x0f, 0xae, 0xf0);
  }
  sfence(): this {
    return this.db(0x0f, 0xae, 0xf8);
  }

  sgdt(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0x01 }, 0, m);
  }
  sidt(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0x01 }, 1, m);
  }
  lgdt(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0x01 }, 2, m);
  }
  lidt(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0x01 }, 3, m);
  }
  lldt(r: Register | Mem): this {
    return this.modrm({ map: "0f", opcode: 0x00 }, 2, r);
  }
  ltr(r: Register | Mem): this {
    return this.modrm({ map: "0f", opcode: 0x00 }, 3, r);
  }
  str(r: Register): this {
    return this.modrm({ map: "0f", opcode: 0x00, bits: r.bits }, 1, r);
  }
  invlpg(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0x01 }, 7, m);
  }
  /** RDFSBASE and its relatives; `bits` of the register decide REX.W. */
  rdfsbase(r: Register): this {
    return this.modrm({ map: "0f", opcode: 0xae, prefix: 0xf3, bits: r.bits }, 0, r);
  }
  rdgsbase(r: Register): this {
    return this.modrm({ map: "0f", opcode: 0xae, prefix: 0xf3, bits: r.bits }, 1, r);
  }
  wrfsbase(r: Register): this {
    return this.modrm({ map: "0f", opcode: 0xae, prefix: 0xf3, bits: r.bits }, 2, r);
  }
  wrgsbase(r: Register): this {
    return this.modrm({ map: "0f", opcode: 0xae, prefix: 0xf3, bits: r.bits }, 3, r);
  }

  /** IN AL/AX/EAX from an immediate port, or from DX where none is given. */
  in(dst: Register, port?: number): this {
    const w = dst.bits === 8 ? 0 : 1;
    if (port === undefined) return this.plain({ opcode: 0xec + w, bits: dst.bits });
    return this.plain({ opcode: 0xe4 + w, bits: dst.bits }, undefined, { value: port, bytes: 1 });
  }
  /** OUT of AL/AX/EAX to an immediate port, or to DX where none is given. */
  out(src: Register, port?: number): this {
    const w = src.bits === 8 ? 0 : 1;
    if (port === undefined) return this.plain({ opcode: 0xee + w, bits: src.bits });
    return this.plain({ opcode: 0xe6 + w, bits: src.bits }, undefined, { value: port, bytes: 1 });
  }
  /** Far JMP to selector:offset, outside 64-bit mode; `bits` is the size of the offset. */
  jmpFar(selector: number, offset: Immediate, bits: 16 | 32 = this.mode === 16 ? 16 : 32): this {
    return this.plain({ opcode: 0xea, bits }, undefined, { value: offset, bytes: (bits / 8) as 2 | 4 }).dw(selector);
  }
  /** Far JMP through memory m16:16, m16:32 or m16:64. */
  jmpFarIndirect(m: Mem): this {
    return this.modrm({ opcode: 0xff, bits: m.bits }, 5, m);
  }
  /** Far RET; REX.W in 64-bit mode. */
  retf(): this {
    return this.plain({ opcode: 0xcb, bits: this.mode });
  }

  fninit(): this {
    return this.db(0xdb, 0xe3);
  }
  emms(): this {
    return this.db(0x0f, 0x77);
  }
  fxsave(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0xae }, 0, m);
  }
  fxrstor(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0xae }, 1, m);
  }
  ldmxcsr(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0xae }, 2, m);
  }
  stmxcsr(m: Mem): this {
    return this.modrm({ map: "0f", opcode: 0xae }, 3, m);
  }
  movups(dst: SpecialRegister | Mem, src: SpecialRegister | Mem): this {
    return this.#sseMove(0x10, undefined, dst, src);
  }
  movdqu(dst: SpecialRegister | Mem, src: SpecialRegister | Mem): this {
    return dst.kind === "mem"
      ? this.modrm({ map: "0f", opcode: 0x7f, prefix: 0xf3 }, src as SpecialRegister, dst)
      : this.modrm({ map: "0f", opcode: 0x6f, prefix: 0xf3 }, dst, src);
  }
  /** MOVD/MOVQ between an XMM register and a general register or memory; the size comes from `rm`. */
  movdToXmm(dst: SpecialRegister, rm: RegMem): this {
    return this.modrm({ map: "0f", opcode: 0x6e, prefix: 0x66, bits: rm.bits === 64 ? 64 : undefined }, dst, rm);
  }
  movdFromXmm(rm: RegMem, src: SpecialRegister): this {
    return this.modrm({ map: "0f", opcode: 0x7e, prefix: 0x66, bits: rm.bits === 64 ? 64 : undefined }, src, rm);
  }

  #sseMove(opcode: number, prefix: Encoding["prefix"], dst: SpecialRegister | Mem, src: SpecialRegister | Mem): this {
    const e: Encoding = { map: "0f", opcode: dst.kind === "mem" ? opcode + 1 : opcode, ...(prefix && { prefix }) };
    return dst.kind === "mem" ? this.modrm(e, src as SpecialRegister, dst) : this.modrm(e, dst, src);
  }
}

/** Assembles in one expression: `assemble(64, (a) => a.xor(eax, eax).ret())`. */
export function assemble(mode: Mode, write: (a: Assembler) => unknown, origin = 0): Uint8Array {
  const a = new Assembler({ mode, origin });
  write(a);
  return a.bytes();
}
