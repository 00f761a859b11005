/** Known answers of the x87 unit and MMX. */
import { type Assembler, ax, mm, ptr, rsi } from "../../asm/index.ts";
import { Vector } from "../case.ts";
import { type KnownAnswer, known, scratch } from "./known-answer.ts";

const f =
  (...bytes: number[]) =>
  (a: Assembler) =>
    a.db(...bytes);
/** An x87 instruction on [RSI]. */
const m = (opcode: number, digit: number) => (a: Assembler) => a.insn({ opcode }, digit, ptr(rsi));
const at = { rsi: scratch(0) };

const ONE = "3fff:8000000000000000";
const TWO = "4000:8000000000000000";
const THREE = "4000:c000000000000000";
const MINUS_TWO = "c000:8000000000000000";
const DEFAULT_NAN = "ffff:c000000000000000";
const top = (n: number): number => n << 11;
const IE = 1;
const DE = 2;
const ZE = 4;
const PE = 32;
const SF = 64;
const ES = 0x8080;
const C0 = 0x100;
const C1 = 0x200;
const C2 = 0x400;
const C3 = 0x4000;
const ALL = 0xffff;

const arithmetic: KnownAnswer[] = [
  known("fld1 pushes", f(0xd9, 0xe8), {}, { st0: ONE, fsw: top(7) }),
  known("fldpi", f(0xd9, 0xeb), {}, { st0: "4000:c90fdaa22168c235", fsw: top(7) }),
  known("fldpi rounds down on request", f(0xd9, 0xeb), { fcw: 0x077f }, { st0: "4000:c90fdaa22168c234", fsw: top(7) }),
  known(
    "1/3 rounds up in 64 bits",
    f(0xd8, 0xf1),
    { st0: ONE, st1: THREE },
    { st0: "3ffd:aaaaaaaaaaaaaaab", fsw: PE | C1 },
  ),
  known(
    "1/3 in 24 bits",
    f(0xd8, 0xf1),
    { st0: ONE, st1: THREE, fcw: 0x007f },
    { st0: "3ffd:aaaaab0000000000", fsw: PE | C1 },
  ),
  known(
    "fdivp by zero",
    f(0xde, 0xf9),
    { st0: "0000:0000000000000000", st1: MINUS_TWO },
    { st0: "ffff:8000000000000000", fsw: ZE | top(1) },
  ),
  known("fsqrt(2)", f(0xd9, 0xfa), { st0: TWO }, { st0: "3fff:b504f333f9de6484", fsw: PE }),
  known("fsqrt of a negative number", f(0xd9, 0xfa), { st0: MINUS_TWO }, { st0: DEFAULT_NAN, fsw: IE }),
  known(
    "fadd of a denormal raises DE",
    f(0xd8, 0xc1),
    { st0: "0000:0000000000000001", st1: "0000:0000000000000001" },
    { st0: "0000:0000000000000002", fsw: DE },
  ),
  known(
    "an unnormal is invalid",
    f(0xd8, 0xc1),
    { st0: ONE, st1: "4000:4000000000000000" },
    { st0: DEFAULT_NAN, fsw: IE },
  ),
  known(
    "the larger significand of two NaNs wins",
    f(0xd8, 0xc1),
    { st0: "7fff:c000000000000001", st1: "ffff:c000000000000002" },
    { st0: "ffff:c000000000000002", fsw: 0 },
  ),
  known(
    "fscale",
    f(0xd9, 0xfd),
    { st0: THREE, st1: "c000:8000000000000000" },
    { st0: "3ffe:c000000000000000", fsw: 0 },
  ),
  known(
    "fxtract",
    f(0xd9, 0xf4),
    { st0: "4002:c000000000000000" },
    { st0: "3fff:c000000000000000", st1: THREE, fsw: top(7) },
  ),
  known(
    "fprem sets quotient bits",
    f(0xd9, 0xf8),
    { st0: "4001:e000000000000000", st1: TWO },
    { st0: ONE, fsw: C1 | C3, fswMask: ALL },
  ),
  known("frndint to even", f(0xd9, 0xfc), { st0: "4000:a000000000000000" }, { st0: TWO, fsw: PE }),
  known("fchs of zero", f(0xd9, 0xe0), { st0: "0000:0000000000000000" }, { st0: "8000:0000000000000000" }),
];

const memory: KnownAnswer[] = [
  known(
    "fild and fistp of the smallest integer",
    (a) => a.insn({ opcode: 0xdf }, 5, ptr(rsi)).insn({ opcode: 0xdf }, 7, ptr(rsi, 8)),
    { ...at, memory: { 0: "00 00 00 00 00 00 00 80", 8: "00 00 00 00 00 00 00 00" } },
    { memory: { 8: "00 00 00 00 00 00 00 80" }, fsw: 0 },
  ),
  known(
    "fist out of range stores the indefinite integer",
    m(0xdf, 2),
    { ...at, st0: "400e:8000000000000000", memory: { 0: "00 00" } },
    { memory: { 0: "00 80" }, fsw: IE },
  ),
  known(
    "fisttp truncates",
    m(0xdb, 1),
    { ...at, st0: "bfff:e000000000000000", memory: { 0: "00 00 00 00" } },
    { memory: { 0: "ff ff ff ff" }, fsw: PE | top(1) },
  ),
  known(
    "fbstp",
    m(0xdf, 6),
    { ...at, st0: "c01d:932c05a400000000", memory: { 0: "00 00 00 00 00 00 00 00 00 00" } },
    { memory: { 0: "90 78 56 34 12 00 00 00 00 80" }, fsw: top(1) },
  ),
  known(
    "fbld",
    m(0xdf, 4),
    { ...at, memory: { 0: "90 78 56 34 12 00 00 00 00 80" } },
    { st0: "c01d:932c05a400000000", fsw: top(7) },
  ),
  known(
    "fld quiets a signalling NaN",
    m(0xd9, 0),
    { ...at, memory: { 0: "01 00 80 7f" } },
    { st0: "7fff:c000010000000000", fsw: IE | top(7) },
  ),
  known(
    "fld of 80 bits takes it as it is",
    m(0xdb, 5),
    { ...at, memory: { 0: "01 00 00 00 00 00 00 80 ff 7f" } },
    { st0: "7fff:8000000000000001", fsw: top(7) },
  ),
  known(
    "fst to 32 bits rounds",
    m(0xd9, 2),
    { ...at, st0: "3fff:800000ffffffffff", memory: { 0: "00 00 00 00" } },
    { memory: { 0: "01 00 80 3f" }, fsw: PE | C1 },
  ),
];

const state: KnownAnswer[] = [
  known("an empty register underflows", f(0xd8, 0xc1), { st0: ONE }, { st0: DEFAULT_NAN, fsw: IE | SF }),
  known(
    "a push onto a full stack overflows",
    f(0xd9, 0xe8),
    { st0: ONE, st1: ONE, st2: ONE, st3: ONE, st4: ONE, st5: ONE, st6: ONE, st7: ONE },
    { st0: DEFAULT_NAN, fsw: IE | SF | C1 | top(7) },
  ),
  known("fcom: less", f(0xd8, 0xd1), { st0: ONE, st1: TWO }, { fsw: C0, fswMask: ALL }),
  known(
    "fcom: unordered",
    f(0xd8, 0xd1),
    { st0: "7fff:c000000000000000", st1: TWO },
    { fsw: IE | C0 | C2 | C3, fswMask: ALL },
  ),
  known(
    "fxam: negative infinity",
    f(0xd9, 0xe5),
    { st0: "ffff:8000000000000000" },
    { fsw: C0 | C1 | C2, fswMask: ALL },
  ),
  known("fxam: empty", f(0xd9, 0xe5), {}, { fsw: C0 | C3, fswMask: ALL }),
  known("fucomi: equal", f(0xdb, 0xe9), { st0: ONE, st1: ONE, flags: "CF OF" }, { flags: "ZF / OF SF AF" }),
  known("fcmovb", f(0xda, 0xc1), { st0: ONE, st1: TWO, flags: "CF" }, { st0: TWO }),
  known(
    "fnstsw ax",
    (a) => a.db(0xd9, 0xe4, 0xdf, 0xe0).test(ax, 0x4000),
    { st0: "0000:0000000000000000" },
    { rax: C3, flags: "PF / AF" },
  ),
  known(
    "an unmasked fault waits for the next instruction",
    (a) => a.db(0xd8, 0xf1).nop().db(0x9b),
    { st0: ONE, st1: "0000:0000000000000000", fcw: 0x037b },
    { vector: Vector.MF, at: 3, fsw: ZE | ES, st0: ONE },
  ),
  known(
    "fnclex forgets it",
    (a) => a.db(0xd8, 0xf1, 0xdb, 0xe2, 0x9b),
    { st0: ONE, st1: "0000:0000000000000000", fcw: 0x037b },
    { fsw: 0 },
  ),
  known(
    "mmx marks all registers and sets exponents",
    (a) => a.insn({ map: "0f", opcode: 0xfc }, mm(0), mm(1)),
    { st0: "3fff:8000000000000001", st1: "3fff:8000000000000001" },
    { st0: "ffff:0000000000000002", fsw: 0 },
  ),
  known(
    "emms empties the stack",
    (a) => a.emms().db(0xd9, 0xe5),
    { st0: ONE },
    { fsw: C0 | C3, fswMask: C0 | C2 | C3 },
  ),
];

export const X87_ANSWERS: readonly KnownAnswer[] = [...arithmetic, ...memory, ...state];
