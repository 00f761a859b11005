/** Known answers about stack, branches, string instructions, and above all faults. */
import {
  al,
  ax,
  byte,
  cr,
  cs,
  dword,
  eax,
  ecx,
  es,
  fs,
  gs,
  ptr,
  qword,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  word,
  xmm,
} from "../../asm/index.ts";
import { CODE_BASE, CODE_BYTES, FS_BASE, GS_BASE, READONLY_BASE, SCRATCH_BYTES, Vector } from "../case.ts";
import { type KnownAnswer, known, scratch } from "./known-answer.ts";

const END = scratch(SCRATCH_BYTES);
const littleEndian = (n: number) => [n & 0xff, (n >> 8) & 0xff, (n >> 16) & 0xff, (n >> 24) & 0xff];
const USER = 4;
const WRITE = 2;
const PRESENT = 1;
const FETCH = 16;

const stack: KnownAnswer[] = [
  known(
    "push sign-extends an immediate",
    (a) => a.push(-2),
    { rsp: scratch(0x100) },
    { rsp: scratch(0xf8), memory: { 248: "fe ff ff ff ff ff ff ff" } },
  ),
  known(
    "push of 16 bits",
    (a) => a.push(ax),
    { rsp: scratch(0x100), rax: 0x1234 },
    { rsp: scratch(0xfe), memory: { 254: "34 12" } },
  ),
  known("push rsp stores the old value", (a) => a.push(rsp).pop(rax), { rsp: scratch(0x100) }, { rax: scratch(0x100) }),
  known(
    "pop rsp",
    (a) => a.pop(rsp),
    { rsp: scratch(0x100), memory: { 256: "10 00 00 00 00 00 00 00" } },
    { rsp: 0x10 },
  ),
  known(
    "pop into memory addresses by the new rsp",
    (a) => a.pop(qword(rsp)),
    { rsp: scratch(0x100), memory: { 256: "07 00 00 00 00 00 00 00" } },
    { rsp: scratch(0x108), memory: { 264: "07 00 00 00 00 00 00 00" } },
  ),
  known(
    "enter and leave",
    (a) => a.enter(32, 1).mov(rax, rbp).leave(),
    { rsp: scratch(0x200), rbp: 0x55 },
    { rax: scratch(0x1f8), memory: { 496: "f8 01 00 10 00 00 00 00 55 00 00 00 00 00 00 00" } },
  ),
  known(
    "a call to where nothing may be executed leaves its return address",
    (a) => a.db(0xe8, ...littleEndian(scratch(0x40) - (CODE_BASE + 5))),
    { rsp: scratch(0x100), memory: { 64: "c3" } },
    {
      vector: Vector.PF,
      errorCode: 0x15,
      cr2: scratch(0x40),
      at: scratch(0x40) - CODE_BASE,
      rsp: scratch(0xf8),
      memory: { 248: "05 00 00 20 00 00 00 00" },
    },
  ),
  known(
    "call and ret",
    (a) => a.call("f").jmp("end").label("f").mov(eax, 1).ret(8).label("end"),
    { rsp: scratch(0x100) },
    { rax: 1, rsp: scratch(0x108), memory: { 248: "05 00 00 20 00 00 00 00" } },
  ),
  known(
    "a push that faults leaves rsp",
    (a) => a.push(rax),
    { rsp: scratch(0) },
    { vector: Vector.PF, errorCode: USER | WRITE, cr2: scratch(-8) },
  ),
  known(
    "popf sets TF: trap after the next instruction",
    (a) => a.push(0x302).popf().nop().nop(),
    { rsp: scratch(0x100) },
    { vector: Vector.DB, at: 7, memory: { 248: "02 03 00 00 00 00 00 00" } },
  ),
  known(
    "jrcxz and loop",
    (a) => a.jcxz("skip").label("more").inc(rax).loop("more").label("skip"),
    { rcx: 5 },
    { rax: 5, rcx: 0 },
  ),
];

const strings: KnownAnswer[] = [
  known(
    "TF traps behind each element of a repeated string instruction",
    (a) => a.movs(8, "rep"),
    { rsi: scratch(0), rdi: scratch(16), rcx: 2, flags: "TF", memory: { 0: "aa bb", 16: "00 00" } },
    { rsi: scratch(1), rdi: scratch(17), rcx: 1, flags: "TF", memory: { 16: "aa 00" }, vector: Vector.DB, at: 0 },
  ),
  known(
    "TF traps behind the last element of a repeated string instruction",
    (a) => a.movs(8, "rep"),
    { rsi: scratch(0), rdi: scratch(16), rcx: 1, flags: "TF", memory: { 0: "aa bb", 16: "00 00" } },
    { rsi: scratch(1), rdi: scratch(17), rcx: 0, flags: "TF", memory: { 16: "aa 00" }, vector: Vector.DB, at: 2 },
  ),
  known(
    "TF traps behind a repeated string instruction with nothing to do",
    (a) => a.stos(64, "rep"),
    { rdi: scratch(16), rcx: 0, flags: "TF" },
    { flags: "TF", vector: Vector.DB, at: 3 },
  ),
  known(
    "TF traps behind the element that ends a comparison",
    (a) => a.cmps(8, "repe"),
    { rsi: scratch(0), rdi: scratch(16), rcx: 9, flags: "TF", memory: { 0: "01", 16: "02" } },
    { rsi: scratch(1), rdi: scratch(17), rcx: 8, flags: "TF CF SF AF PF", vector: Vector.DB, at: 2 },
  ),
  known(
    "rep movsb over itself repeats",
    (a) => a.movs(8, "rep"),
    { rsi: scratch(0), rdi: scratch(1), rcx: 4, memory: { 0: "aa 00 00 00 00" } },
    { rsi: scratch(4), rdi: scratch(5), rcx: 0, memory: { 0: "aa aa aa aa aa" } },
  ),
  known(
    "rep stosd downwards",
    (a) => a.stos(32, "rep"),
    { rdi: scratch(8), rcx: 2, rax: 0x11223344, flags: "DF", memory: { 4: "00 00 00 00 00 00 00 00" } },
    { rdi: scratch(0), rcx: 0, memory: { 4: "44 33 22 11 44 33 22 11" }, flags: "DF" },
  ),
  known(
    "repe cmpsb stops behind the difference",
    (a) => a.cmps(8, "repe"),
    { rsi: scratch(0), rdi: scratch(16), rcx: 9, memory: { 0: "01 02 03", 16: "01 02 04" } },
    { rsi: scratch(3), rdi: scratch(19), rcx: 6, flags: "CF SF AF PF" },
  ),
  known(
    "repne scasw",
    (a) => a.scas(16, "repne"),
    { rdi: scratch(0), rcx: 4, rax: 7, memory: { 0: "01 00 07 00 09 00" } },
    { rdi: scratch(4), rcx: 2, flags: "ZF PF" },
  ),
  known("rep with a count of zero does nothing", (a) => a.cmps(8, "repne"), { flags: "CF ZF" }, { flags: "CF ZF" }),
  known(
    "lodsb keeps the rest of rax",
    (a) => a.lods(8),
    { rsi: scratch(3), rax: 0x1234, memory: { 3: "7f" } },
    { rsi: scratch(4), rax: 0x127f },
  ),
  known(
    "rep movsb into the unmapped page stops there",
    (a) => a.movs(8, "rep"),
    { rsi: scratch(0), rdi: END - 3, rcx: 10, memory: { 0: "01 02 03 04" } },
    {
      rsi: scratch(3),
      rdi: END,
      rcx: 7,
      memory: { 65533: "01 02 03" },
      vector: Vector.PF,
      errorCode: USER | WRITE,
      cr2: END,
    },
  ),
];

const faults: KnownAnswer[] = [
  known(
    "a load across the end",
    (a) => a.nop().mov(rax, qword(rbx)),
    { rbx: END - 4 },
    { vector: Vector.PF, at: 1, errorCode: USER, cr2: END },
  ),
  known(
    "a store across the end writes nothing",
    (a) => a.mov(qword(rbx), rax),
    { rbx: END - 4 },
    { vector: Vector.PF, errorCode: USER | WRITE, cr2: END },
  ),
  known(
    "a load across pages",
    (a) => a.mov(eax, dword(rbx)),
    { rbx: scratch(0xffe), memory: { 4094: "01 02 03 04" } },
    { rax: 0x0403_0201 },
  ),
  known(
    "a load from before the start",
    (a) => a.mov(eax, dword(rbx)),
    { rbx: scratch(-2) },
    { vector: Vector.PF, errorCode: USER, cr2: scratch(-2) },
  ),
  known(
    "a store to the read-only page",
    (a) => a.inc(byte(rbx)),
    { rbx: READONLY_BASE },
    { vector: Vector.PF, errorCode: USER | WRITE | PRESENT, cr2: READONLY_BASE },
  ),
  known(
    "code cannot be written",
    (a) => a.mov(byte(rbx), al),
    { rbx: CODE_BASE + 100 },
    { vector: Vector.PF, errorCode: USER | WRITE | PRESENT, cr2: CODE_BASE + 100 },
  ),
  known(
    "data cannot be executed",
    (a) => a.jmp(rbx),
    { rbx: scratch(0) },
    { vector: Vector.PF, errorCode: USER | FETCH | PRESENT, cr2: scratch(0), at: scratch(0) - CODE_BASE },
  ),
  known(
    "code ends at its last page",
    (a) => a.jmp(rbx),
    { rbx: CODE_BASE + CODE_BYTES },
    { vector: Vector.PF, errorCode: USER | FETCH, cr2: CODE_BASE + CODE_BYTES, at: CODE_BYTES },
  ),
  known("a non-canonical address", (a) => a.mov(eax, dword(rbx)), { rbx: 1n << 47n }, { vector: Vector.GP }),
  known("a non-canonical stack address", (a) => a.push(rax), { rsp: 1n << 60n }, { vector: Vector.SS }),
  known("ud2", (a) => a.ud2(), {}, { vector: Vector.UD }),
  known("lock without a memory destination", (a) => a.lock().add(eax, ecx), {}, { vector: Vector.UD }),
  known("hlt", (a) => a.hlt(), {}, { vector: Vector.GP }),
  known("int through a kernel gate", (a) => a.int(0x20), {}, { vector: Vector.GP, errorCode: 0x20 * 8 + 2 }),
  known("in", (a) => a.in(al), { rdx: 0x80 }, { vector: Vector.GP }),
  known("mov to cr3", (a) => a.mov(cr(3), rax), {}, { vector: Vector.GP }),
  known("wrmsr", (a) => a.wrmsr(), {}, { vector: Vector.GP }),
  known(
    "mov to es of a bad selector",
    (a) => a.mov(es, eax),
    { rax: 0x1_0ff8 },
    { vector: Vector.GP, errorCode: 0x0ff8 },
  ),
  known(
    "movaps off its alignment",
    (a) => a.insn({ map: "0f", opcode: 0x28 }, xmm(0), ptr(rbx)),
    { rbx: scratch(8) },
    { vector: Vector.GP },
  ),
  known("AC checks alignment", (a) => a.mov(eax, dword(rbx)), { rbx: scratch(2), flags: "AC" }, { vector: Vector.AC }),
  known(
    "AC checks each access to a page",
    (a) => a.mov(eax, dword(rbx)).mov(dword(rbx, 8), eax).mov(dword(rbx, 13), eax),
    { rbx: scratch(0), flags: "AC", memory: { 0: "01 00 00 00 00 00 00 00 05 00 00 00" } },
    { rax: 1, flags: "AC", memory: { 8: "01 00 00 00" }, vector: Vector.AC, at: 5 },
  ),
  known("more than fifteen bytes", (a) => a.db(new Uint8Array(15).fill(0x2e)).nop(), {}, { vector: Vector.GP }),
  known("pusha is gone in 64-bit mode", (a) => a.db(0x60), {}, { vector: Vector.UD }),
];

const segments: KnownAnswer[] = [
  known(
    "a bit string's 32-bit address wraps before gs adds its base",
    (a) => a.db(0x67, 0x65, 0x0f, 0xab, 0x03), // bts gs:[ebx], eax
    // 64 KiB + 0x50 bytes behind an offset of −16 lies offset 0x10040.
    { rbx: 0xffff_fff0, rax: ((0x1_0050 / 4) * 32) | 5, memory: { 64: "00 00 00 00" } },
    { memory: { 64: "20 00 00 00" } },
  ),
  known(
    "a bit string above 4 GiB by way of gs",
    (a) => a.db(0x67, 0x65, 0x0f, 0xa3, 0x03), // bt gs:[ebx], eax
    { rbx: 0xffff_fff0, rax: 0 },
    { vector: Vector.PF, errorCode: USER, cr2: GS_BASE + 0xffff_fff0 },
  ),
  known(
    "fs adds its base",
    (a) => a.mov(eax, dword({ disp: scratch(0x40) - FS_BASE, segment: fs })),
    { memory: { 64: "01 02 03 04" } },
    { rax: 0x0403_0201 },
  ),
  known(
    "gs adds its base",
    (a) => a.mov(word({ base: rbx, segment: gs }), ax),
    { rbx: scratch(0x40) - GS_BASE, rax: 0xbeef, memory: { 64: "00 00" } },
    { memory: { 64: "ef be" } },
  ),
  known(
    "cs override means nothing",
    (a) => a.mov(eax, dword({ base: rbx, segment: cs })),
    { rbx: scratch(0), memory: { 0: "05 00 00 00" } },
    { rax: 5 },
  ),
  known(
    "a 32-bit address wraps",
    (a) => a.mov(eax, dword({ base: ecx, disp: 0x10 })),
    { rcx: 0xabcd_0000_0fff_fff0n, memory: { 0: "06 00 00 00" } },
    { rax: 6 },
  ),
  known("rip-relative", (a) => a.lea(rax, ptr("here")).label("here").nop(), {}, { rax: CODE_BASE + 7 }),
  known(
    "registers named in both roles",
    (a) => a.mov(rdi, qword({ base: rdi, index: rsi, scale: 8 })),
    { rdi: scratch(0), rsi: 2, memory: { 16: "ff 00 00 00 00 00 00 00" } },
    { rdi: 0xff },
  ),
  known(
    "edges of scratch memory",
    (a) => a.mov(al, byte(rdx)).mov(byte(rcx), al),
    { rdx: END - 1, rcx: scratch(0), memory: { 65535: "77", 0: "00" } },
    { rax: 0x77, memory: { 0: "77" } },
  ),
];

export const CONTROL_ANSWERS: readonly KnownAnswer[] = [...stack, ...strings, ...faults, ...segments];
