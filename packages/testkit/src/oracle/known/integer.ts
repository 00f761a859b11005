/** Known answers of integer instructions. @see AMD64 APM volume 3; Intel SDM volume 2 */
import {
  ah,
  al,
  ax,
  byte,
  cl,
  cx,
  dl,
  dword,
  dx,
  eax,
  ecx,
  edx,
  ptr,
  qword,
  r8,
  rax,
  rbx,
  rcx,
  rdx,
  rsi,
  word,
} from "../../asm/index.ts";
import { Vector } from "../case.ts";
import { type KnownAnswer, known, scratch } from "./known-answer.ts";

const MIN64 = 1n << 63n;
const MAX64 = MIN64 - 1n;
const ONES64 = (1n << 64n) - 1n;

const arithmetic: KnownAnswer[] = [
  known("adc wraps a byte", (a) => a.adc(al, 0), { rax: 0x12ff, flags: "CF" }, { rax: 0x1200, flags: "CF PF AF ZF" }),
  known(
    "adc overflows by the carry alone",
    (a) => a.adc(rax, 0),
    { rax: MAX64, flags: "CF" },
    { rax: MIN64, flags: "OF SF AF PF" },
  ),
  known(
    "add of 32 bits clears the upper half",
    (a) => a.add(eax, ecx),
    { rax: ONES64, rcx: 1 },
    { rax: 0, flags: "CF PF AF ZF" },
  ),
  known(
    "add of 16 bits keeps it",
    (a) => a.add(ax, cx),
    { rax: ONES64, rcx: 2 },
    { rax: ONES64 - 0xfffen, flags: "CF AF" },
  ),
  known(
    "sbb borrows from zero",
    (a) => a.sbb(eax, ecx),
    { rax: MIN64, flags: "CF" },
    { rax: 0xffffffff, flags: "CF SF AF PF" },
  ),
  known("sub overflows from the smallest byte", (a) => a.sub(cl, 1), { rcx: 0x80 }, { rcx: 0x7f, flags: "OF AF" }),
  known("cmp only sets flags", (a) => a.cmp(ax, dx), { rax: 1, rdx: 2 }, { flags: "CF SF AF PF" }),
  known("inc keeps the carry", (a) => a.inc(al), { rax: 0xff, flags: "CF" }, { rax: 0, flags: "CF ZF AF PF" }),
  known("dec overflows", (a) => a.dec(ax), { rax: 0x8000 }, { rax: 0x7fff, flags: "OF AF PF" }),
  known("neg of the smallest number", (a) => a.neg(rax), { rax: MIN64 }, { rax: MIN64, flags: "CF OF SF PF" }),
  known("neg of zero clears the carry", (a) => a.neg(ecx), { rcx: 0, flags: "CF" }, { rcx: 0, flags: "ZF PF" }),
  known("and with AH", (a) => a.and(ah, 0xf0), { rax: 0x8f55 }, { rax: 0x8055, flags: "SF / AF" }),
  known("not changes no flags", (a) => a.not(dl), { rdx: 0xf0, flags: "CF ZF" }, { rdx: 0x0f, flags: "CF ZF" }),
  known("xadd", (a) => a.xadd(rax, rcx), { rax: 5, rcx: 7 }, { rax: 12, rcx: 5, flags: "PF" }),
  known(
    "lea takes no memory",
    (a) => a.lea(eax, ptr({ base: rbx, index: rcx, scale: 8, disp: -1 })),
    { rbx: 0x1_0000_0000n, rcx: 2 },
    { rax: 15 },
  ),
];

const multiply: KnownAnswer[] = [
  known(
    "mul of 64 bits",
    (a) => a.mul(rcx),
    { rax: ONES64, rcx: ONES64 },
    { rax: 1, rdx: ONES64 - 1n, flags: "CF OF / SF ZF AF PF" },
  ),
  known(
    "mul of bytes goes to AX",
    (a) => a.mul(cl),
    { rax: 0xabcd_0010, rcx: 0x10 },
    { rax: 0xabcd_0100, flags: "CF OF / SF ZF AF PF" },
  ),
  known(
    "imul with an immediate",
    (a) => a.imul(eax, ecx, -3),
    { rax: ONES64, rcx: 5 },
    { rax: 0xfffffff1, flags: "/ SF ZF AF PF" },
  ),
  known(
    "imul that overflows",
    (a) => a.imul(ax, cx),
    { rax: 0x4000, rcx: 4 },
    { rax: 0, flags: "CF OF / SF ZF AF PF" },
  ),
  known(
    "imul of one operand",
    (a) => a.imul(rcx),
    { rax: -2, rcx: MIN64 },
    { rax: 0, rdx: 1, flags: "CF OF / SF ZF AF PF" },
  ),
  known("div of 128 bits", (a) => a.div(rcx), { rax: 0, rdx: 1, rcx: 2 }, { rax: MIN64, rdx: 0 }),
  known("div by zero", (a) => a.nop().div(ecx), { rax: 1 }, { vector: Vector.DE, at: 1 }),
  known("div whose quotient is too large", (a) => a.div(ecx), { rdx: 1, rcx: 1 }, { vector: Vector.DE }),
  known("idiv rounds towards zero", (a) => a.idiv(rcx), { rax: -7, rdx: -1, rcx: 2 }, { rax: -3, rdx: -1 }),
  known(
    "idiv of the smallest number by -1",
    (a) => a.idiv(rcx),
    { rax: MIN64, rdx: -1, rcx: -1 },
    { vector: Vector.DE },
  ),
  known("idiv of bytes", (a) => a.idiv(cl), { rax: 0xff80, rcx: 1 }, { rax: 0x0080 }),
  known("cdqe, cqo", (a) => a.cdqe().cqo(), { rax: 0x8000_0000 }, { rax: -0x8000_0000, rdx: -1 }),
  known("cwd keeps the upper part", (a) => a.cwd(), { rax: 0x8000, rdx: 0x1234_5678 }, { rdx: 0x1234_ffff }),
];

const shifts: KnownAnswer[] = [
  known("shl out of the top", (a) => a.shl(al, 1), { rax: 0xc0 }, { rax: 0x80, flags: "CF SF / AF" }),
  known("shl into the sign overflows", (a) => a.shl(al, 1), { rax: 0x40 }, { rax: 0x80, flags: "OF SF / AF" }),
  known(
    "a masked count of zero keeps flags and clears the upper half",
    (a) => a.shr(eax, cl),
    { rax: ONES64, rcx: 0x20, flags: "CF ZF OF" },
    { rax: 0xffffffff, flags: "CF ZF OF" },
  ),
  known("sar fills with the sign", (a) => a.sar(al, 7), { rax: 0x80 }, { rax: 0xff, flags: "SF PF / OF AF" }),
  known(
    "sar past the width",
    (a) => a.sar(al, cl),
    { rax: 0x80, rcx: 31 },
    { rax: 0xff, flags: "SF PF CF / OF AF CF" },
  ),
  known("rol by four", (a) => a.rol(al, 4), { rax: 0x12 }, { rax: 0x21, flags: "CF / OF" }),
  known("ror by one", (a) => a.ror(ax, 1), { rax: 1, flags: "ZF" }, { rax: 0x8000, flags: "CF OF ZF" }),
  known("rcl by one", (a) => a.rcl(al, 1), { rax: 0x80 }, { rax: 0, flags: "CF OF" }),
  known(
    "rcl by cl through the carry",
    (a) => a.rcl(rax, cl),
    { rax: 0xa000_0000_0000_0001n, rcx: 3, flags: "CF" },
    { rax: 0xe, flags: "CF / OF" },
  ),
  known(
    "rcl of a byte by nine is nothing",
    (a) => a.rcl(al, cl),
    { rax: 0x5a, rcx: 9, flags: "CF" },
    { rax: 0x5a, flags: "CF / OF" },
  ),
  known(
    "rcr of a word by seventeen is nothing",
    (a) => a.rcr(ax, cl),
    { rax: 0x1234, rcx: 17 },
    { rax: 0x1234, flags: "/ OF" },
  ),
  known(
    "shld",
    (a) => a.shld(eax, ecx, 4),
    { rax: 0x12345678, rcx: 0xf0000000n },
    { rax: 0x2345678f, flags: "CF / OF AF" },
  ),
  known(
    "shrd",
    (a) => a.shrd(rax, rdx, 8),
    { rax: 0x0123_4567_89ab_cdefn, rdx: 0x55 },
    { rax: 0x5501_2345_6789_abcdn, flags: "CF / OF AF" },
  ),
];

const bits: KnownAnswer[] = [
  known(
    "bt takes a register's offset modulo the width",
    (a) => a.bt(eax, ecx),
    { rax: 2, rcx: 33 },
    { flags: "CF / OF SF AF PF" },
  ),
  known(
    "bts with a negative offset reaches back",
    (a) => a.bts(qword(rax), rcx),
    { rax: scratch(0x100), rcx: -1, memory: { 248: "00 00 00 00 00 00 00 00" } },
    { memory: { 248: "00 00 00 00 00 00 00 80" }, flags: "/ OF SF AF PF" },
  ),
  known(
    "btr by an immediate",
    (a) => a.btr(word(rax), 15),
    { rax: scratch(0), memory: { 0: "ff ff" } },
    { memory: { 0: "ff 7f" }, flags: "CF / OF SF AF PF" },
  ),
  known("btc", (a) => a.btc(rdx, 63), { rdx: 0 }, { rdx: MIN64, flags: "/ OF SF AF PF" }),
  known("bsf", (a) => a.bsf(rax, rcx), { rcx: 0x50 }, { rax: 4, flags: "/ CF OF SF AF PF" }),
  known(
    "bsf of zero leaves the destination",
    (a) => a.bsf(rax, rcx),
    { rax: 77, rcx: 0 },
    { rax: 77, flags: "ZF / CF OF SF AF PF" },
  ),
  known("bsr", (a) => a.bsr(eax, ecx), { rcx: 0x8000_0001 }, { rax: 31, flags: "/ CF OF SF AF PF" }),
  known("popcnt", (a) => a.popcnt(rax, rcx), { rcx: ONES64, flags: "CF OF" }, { rax: 64, flags: "" }),
  known("bswap of 32 bits", (a) => a.bswap(eax), { rax: 0xffff_ffff_0123_4567n }, { rax: 0x6745_2301 }),
  known(
    "cmpxchg that matches",
    (a) => a.lock().cmpxchg(dword(rsi), ecx),
    { rsi: scratch(8), rax: 5, rcx: 9, memory: { 8: "05 00 00 00" } },
    { memory: { 8: "09 00 00 00" }, flags: "ZF PF" },
  ),
  known(
    "cmpxchg that does not",
    (a) => a.cmpxchg(dword(rsi), ecx),
    { rsi: scratch(8), rax: ONES64, rcx: 9, memory: { 8: "05 00 00 00" } },
    { rax: 5, flags: "SF PF" },
  ),
  known(
    "cmpxchg16b",
    (a) => a.cmpxchg16b(ptr(rsi)),
    {
      rsi: scratch(16),
      rax: 1,
      rdx: 2,
      rbx: 3,
      rcx: 4,
      memory: { 16: "01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00" },
    },
    { memory: { 16: "03 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00" }, flags: "ZF" },
  ),
  known("cmpxchg16b off its alignment", (a) => a.cmpxchg16b(ptr(rsi)), { rsi: scratch(8) }, { vector: Vector.GP }),
  known(
    "crc32c of 123456789",
    (a) =>
      a
        .insn({ map: "0f38", opcode: 0xf1, prefix: 0xf2, bits: 64 }, rax, qword(rsi))
        .insn({ map: "0f38", opcode: 0xf0, prefix: 0xf2 }, eax, byte(rsi, 8))
        .not(eax),
    { rsi: scratch(0), rax: 0xffffffff, memory: { 0: "31 32 33 34 35 36 37 38 39" } },
    { rax: 0xe306_9283 },
  ),
  known(
    "movbe",
    (a) => a.insn({ map: "0f38", opcode: 0xf0, bits: 32 }, eax, dword(rsi)),
    { rsi: scratch(0), memory: { 0: "01 02 03 04" } },
    { rax: 0x0102_0304 },
  ),
];

const moves: KnownAnswer[] = [
  known("movzx and movsx", (a) => a.movzx(eax, cl).movsx(rdx, cl), { rcx: 0x80 }, { rax: 0x80, rdx: -128 }),
  known("movsxd", (a) => a.movsx(rax, ecx), { rcx: 0x8000_0000 }, { rax: -0x8000_0000 }),
  known(
    "cmov of 32 bits clears the upper half even when false",
    (a) => a.cmovcc("z", eax, ecx),
    { rax: ONES64, rcx: 5 },
    { rax: 0xffffffff },
  ),
  known("setcc", (a) => a.setcc("le", dl), { rdx: 0xff00, flags: "SF" }, { rdx: 0xff01 }),
  known("sahf and lahf", (a) => a.sahf().mov(ah, 0).lahf(), { rax: 0xff00 }, { rax: 0xd700, flags: "SF ZF AF PF CF" }),
  known(
    "xchg with memory",
    (a) => a.xchg(qword(rsi), r8),
    { rsi: scratch(0), r8: 0x42, memory: { 0: "01 00 00 00 00 00 00 00" } },
    { r8: 1, memory: { 0: "42 00 00 00 00 00 00 00" } },
  ),
  known("xlat", (a) => a.xlat(), { rbx: scratch(0), rax: 0x1203, memory: { 0: "10 11 12 13" } }, { rax: 0x1213 }),
  known("moffs", (a) => a.movAbsolute(al, scratch(4)), { rax: 0x1100, memory: { 4: "5a" } }, { rax: 0x115a }),
  known("edx from dl", (a) => a.movzx(edx, dl), { rdx: ONES64 }, { rdx: 0xff }),
];

export const INTEGER_ANSWERS: readonly KnownAnswer[] = [...arithmetic, ...multiply, ...shifts, ...bits, ...moves];
