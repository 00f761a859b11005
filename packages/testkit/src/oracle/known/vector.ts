/** Known answers of SSE, AES and carry-less multiplication. */
import { type Assembler, dword, type Encoding, eax, ptr, rax, rsi, xmm } from "../../asm/index.ts";
import { Vector } from "../case.ts";
import { type KnownAnswer, known, scratch } from "./known-answer.ts";

const op = (opcode: number, prefix?: Encoding["prefix"], map: Encoding["map"] = "0f"): Encoding => ({
  map,
  opcode,
  ...(prefix && { prefix }),
});
const x0x1 = (e: Encoding, imm?: number) => (a: Assembler) => a.insn(e, xmm(0), xmm(1), imm);
const MXCSR = 0x1f80;
const IE = 1;
const DE = 2;
const ZE = 4;
const UE = 16;
const PE = 32;
const UP = 0x4000;
const FTZ = 0x8000;
const zeros = "0".repeat(24);
const one32 = `${zeros}3f800000`;

const floats: KnownAnswer[] = [
  known(
    "addss rounds to nearest",
    x0x1(op(0x58, 0xf3)),
    { xmm0: one32, xmm1: `${zeros}30800000`, mxcsr: MXCSR },
    { xmm0: one32, mxcsr: MXCSR | PE },
  ),
  known(
    "addss rounds up",
    x0x1(op(0x58, 0xf3)),
    { xmm0: one32, xmm1: `${zeros}30800000`, mxcsr: MXCSR | UP },
    { xmm0: `${zeros}3f800001`, mxcsr: MXCSR | UP | PE },
  ),
  known(
    "addss keeps the upper lanes",
    x0x1(op(0x58, 0xf3)),
    { xmm0: `0123456789abcdef012345673f800000`, xmm1: `ffffffffffffffffffffffff3f800000` },
    { xmm0: `0123456789abcdef0123456740000000` },
  ),
  known(
    "addpd quiets a signalling NaN",
    x0x1(op(0x58, 0x66)),
    { xmm0: "7ff00000000000013ff0000000000000", xmm1: "7ff80000000000094000000000000000" },
    { xmm0: "7ff80000000000014008000000000000", mxcsr: MXCSR | IE },
  ),
  known(
    "the first of two quiet NaNs wins",
    x0x1(op(0x59, 0xf2)),
    { xmm0: `${"0".repeat(16)}7ff8000000000abc`, xmm1: `${"0".repeat(16)}fff8000000000def` },
    { xmm0: `${"0".repeat(16)}7ff8000000000abc`, mxcsr: MXCSR },
  ),
  known(
    "inf - inf is the default NaN",
    x0x1(op(0x5c, 0xf3)),
    { xmm0: `${zeros}7f800000`, xmm1: `${zeros}7f800000` },
    { xmm0: `${zeros}ffc00000`, mxcsr: MXCSR | IE },
  ),
  known(
    "divss by zero, masked",
    x0x1(op(0x5e, 0xf3)),
    { xmm0: one32, xmm1: `${zeros}80000000` },
    { xmm0: `${zeros}ff800000`, mxcsr: MXCSR | ZE },
  ),
  known(
    "divss by zero, unmasked",
    x0x1(op(0x5e, 0xf3)),
    { xmm0: one32, xmm1: "0".repeat(32), mxcsr: MXCSR & ~0x200 },
    { xmm0: one32, mxcsr: (MXCSR & ~0x200) | ZE, vector: Vector.XM },
  ),
  known(
    "minss of zeros takes the second",
    x0x1(op(0x5d, 0xf3)),
    { xmm0: "0".repeat(32), xmm1: `${zeros}80000000` },
    { xmm0: `${zeros}80000000` },
  ),
  known(
    "sqrtsd of a negative number",
    x0x1(op(0x51, 0xf2)),
    { xmm0: "0".repeat(32), xmm1: `${"0".repeat(16)}bff0000000000000` },
    { xmm0: `${"0".repeat(16)}fff8000000000000`, mxcsr: MXCSR | IE },
  ),
  known(
    "mulss flushes a tiny result",
    x0x1(op(0x59, 0xf3)),
    { xmm0: `${zeros}00800000`, xmm1: `${zeros}3e800000`, mxcsr: MXCSR | FTZ },
    { xmm0: "0".repeat(32), mxcsr: MXCSR | FTZ | UE | PE },
  ),
  known(
    "an exact denormal result raises nothing while masked",
    x0x1(op(0x59, 0xf3)),
    { xmm0: `${zeros}00800000`, xmm1: `${zeros}3e800000`, mxcsr: MXCSR },
    { xmm0: `${zeros}00200000`, mxcsr: MXCSR },
  ),
  known(
    "a denormal operand raises DE",
    x0x1(op(0x58, 0xf3)),
    { xmm0: `${zeros}00000001`, xmm1: `${zeros}00000001` },
    { xmm0: `${zeros}00000002`, mxcsr: MXCSR | DE },
  ),
  known(
    "comisd unordered",
    x0x1(op(0x2f, 0x66)),
    { xmm0: `${"0".repeat(16)}7ff8000000000000`, xmm1: "0".repeat(32) },
    { flags: "ZF PF CF", mxcsr: MXCSR | IE },
  ),
  known(
    "ucomiss takes a quiet NaN silently",
    x0x1(op(0x2e)),
    { xmm0: `${zeros}7fc00000`, xmm1: "0".repeat(32), flags: "OF SF" },
    { flags: "ZF PF CF", mxcsr: MXCSR },
  ),
];

const conversions: KnownAnswer[] = [
  known(
    "cvtsd2si rounds to even",
    (a) => a.insn({ ...op(0x2d, 0xf2), bits: 64 }, rax, xmm(1)),
    { xmm1: `${"0".repeat(16)}4004000000000000` },
    { rax: 2, mxcsr: MXCSR | PE },
  ),
  known(
    "cvttsd2si out of range",
    (a) => a.insn({ ...op(0x2c, 0xf2), bits: 64 }, rax, xmm(1)),
    { xmm1: `${"0".repeat(16)}43e0000000000000` },
    { rax: 1n << 63n, mxcsr: MXCSR | IE },
  ),
  known(
    "cvtsi2ss rounds",
    (a) => a.insn(op(0x2a, 0xf3), xmm(0), eax),
    { rax: 0x0100_0001, xmm0: "0".repeat(32) },
    { xmm0: `${zeros}4b800000`, mxcsr: MXCSR | PE },
  ),
  known(
    "cvttps2dq",
    x0x1(op(0x5b, 0xf3)),
    { xmm0: "0".repeat(32), xmm1: "3fc00000bfc000004f0000007fc00000" },
    { xmm0: "00000001ffffffff8000000080000000", mxcsr: MXCSR | IE | PE },
  ),
  known(
    "cvtsd2ss overflows",
    x0x1(op(0x5a, 0xf2)),
    { xmm0: "0".repeat(32), xmm1: `${"0".repeat(16)}7fe0000000000000` },
    { xmm0: `${zeros}7f800000`, mxcsr: MXCSR | 8 | PE },
  ),
  known(
    "roundsd up without PE",
    (a) => a.insn(op(0x0b, 0x66, "0f3a"), xmm(0), xmm(1), 0xa),
    { xmm0: "0".repeat(32), xmm1: `${"0".repeat(16)}3ff8000000000000` },
    { xmm0: `${"0".repeat(16)}4000000000000000`, mxcsr: MXCSR },
  ),
];

const integers: KnownAnswer[] = [
  known(
    "pshufb",
    x0x1(op(0x00, 0x66, "0f38")),
    { xmm0: "0f0e0d0c0b0a09080706050403020100", xmm1: "800f0e0d0c0b0a0908070605040302f1" },
    { xmm0: "000f0e0d0c0b0a090807060504030200" },
  ),
  known(
    "paddusb saturates",
    x0x1(op(0xdc, 0x66)),
    { xmm0: `${zeros}f0801001`, xmm1: `${zeros}208001ff` },
    { xmm0: `${zeros}ffff11ff` },
  ),
  known(
    "pmaddwd of the smallest numbers",
    x0x1(op(0xf5, 0x66)),
    { xmm0: `${zeros}80008000`, xmm1: `${zeros}80008000` },
    { xmm0: `${zeros}80000000` },
  ),
  known(
    "psllq past the width",
    x0x1(op(0xf3, 0x66)),
    { xmm0: "f".repeat(32), xmm1: `${"0".repeat(14)}4040`.padStart(32, "0") },
    { xmm0: "0".repeat(32) },
  ),
  known(
    "pmovmskb",
    (a) => a.insn(op(0xd7, 0x66), eax, xmm(1)),
    { rax: -1, xmm1: "80000000000000ff00000000000080ff" },
    { rax: 0x8103 },
  ),
  known(
    "ptest",
    x0x1(op(0x17, 0x66, "0f38")),
    { xmm0: `${zeros}0000000f`, xmm1: `${zeros}000000f0`, flags: "CF OF AF SF PF" },
    { flags: "ZF" },
  ),
  known(
    "pcmpestri finds any of a set",
    x0x1(op(0x61, 0x66, "0f3a"), 0),
    { rax: 5, rdx: 6, xmm0: "0000000000000000000000756f696561", xmm1: "000000000000000000006d656c797873" },
    { rcx: 4, flags: "CF ZF SF" },
  ),
  known(
    "pcmpistri finds a substring",
    x0x1(op(0x63, 0x66, "0f3a"), 0x0c),
    { xmm0: `${zeros}00006463`, xmm1: `${"0".repeat(20)}666564636261` },
    { rcx: 2, flags: "CF ZF SF" },
  ),
  known(
    "aesenc",
    x0x1(op(0xdc, 0x66, "0f38")),
    { xmm0: "7b5b54657374566563746f725d53475d", xmm1: "48692853686179295b477565726f6e5d" },
    { xmm0: "a8311c2f9fdba3c58b104b58ded7e595" },
  ),
  known(
    "pclmulqdq",
    x0x1(op(0x44, 0x66, "0f3a"), 0),
    { xmm0: "7b5b54657374566563746f725d53475d", xmm1: "48692853686179295b477565726f6e5d" },
    { xmm0: "1d4d84c85c3440c0929633d5d36f0451" },
  ),
  known(
    "movd clears the rest",
    (a) => a.movdToXmm(xmm(0), dword(rsi)),
    { rsi: scratch(0), xmm0: "f".repeat(32), memory: { 0: "01 02 03 04" } },
    { xmm0: `${zeros}04030201` },
  ),
  known(
    "ldmxcsr of reserved bits",
    (a) => a.ldmxcsr(ptr(rsi)),
    { rsi: scratch(0), memory: { 0: "00 00 00 80" } },
    { vector: Vector.GP },
  ),
];

export const VECTOR_ANSWERS: readonly KnownAnswer[] = [...floats, ...conversions, ...integers];
