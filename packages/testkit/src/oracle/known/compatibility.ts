/** Known answers of 32-bit user code: what 64-bit mode does not have, and what means something else there. */
import { type Assembler, ax, bx, cx, dword, eax, ebx, ecx, esp, ptr, si } from "../../asm/index.ts";
import { SCRATCH_BYTES, Vector } from "../case.ts";
import { type KnownAnswer, known32, scratch, type Wanted } from "./known-answer.ts";

const END = scratch(SCRATCH_BYTES);
const raw =
  (...bytes: number[]) =>
  (a: Assembler) =>
    a.db(...bytes);

const decimal: KnownAnswer[] = [
  known32("daa corrects both digits", raw(0x27), { rax: 0x9a }, { rax: 0, flags: "CF AF ZF PF / OF" }),
  known32("daa after a carry", raw(0x27), { rax: 0x21, flags: "CF AF" }, { rax: 0x87, flags: "CF AF SF PF / OF" }),
  known32("das", raw(0x2f), { rax: 0xee, flags: "CF" }, { rax: 0x88, flags: "CF AF SF PF / OF" }),
  known32("aaa", raw(0x37), { rax: 0x000f }, { rax: 0x0105, flags: "CF AF / OF SF ZF PF" }),
  known32("aas", raw(0x3f), { rax: 0x0200, flags: "AF" }, { rax: 0x000a, flags: "CF AF / OF SF ZF PF" }),
  known32("aam", raw(0xd4, 0x0a), { rax: 0x3f }, { rax: 0x0603, flags: "PF / OF AF CF" }),
  known32("aam by zero", raw(0xd4, 0x00), { rax: 0x3f }, { vector: Vector.DE }),
  known32("aad", raw(0xd5, 0x0a), { rax: 0x0603 }, { rax: 0x003f, flags: "PF / OF AF CF" }),
  known32("salc", raw(0xd6), { rax: 0x1200, flags: "CF" }, { rax: 0x12ff, flags: "CF" }),
];

const other: KnownAnswer[] = [
  known32(
    "inc and dec of one byte",
    raw(0x40, 0x49),
    { rax: 0xffffffff, rcx: 5, flags: "CF" },
    { rax: 0, rcx: 4, flags: "CF" },
  ),
  known32(
    "pusha stores the old esp",
    (a) => a.pusha().mov(eax, dword(esp, 12)),
    { rsp: scratch(0x100) },
    { rax: scratch(0x100), rsp: scratch(0xe0) },
  ),
  known32(
    "popa leaves esp out",
    (a) => a.popa(),
    {
      rsp: scratch(0x100),
      memory: {
        256: "01 00 00 00 02 00 00 00 03 00 00 00 04 00 00 00 05 00 00 00 06 00 00 00 07 00 00 00 08 00 00 00",
      },
    },
    { rdi: 1, rsi: 2, rbp: 3, rbx: 5, rdx: 6, rcx: 7, rax: 8, rsp: scratch(0x120) },
  ),
  known32(
    "push of 32 bits",
    (a) => a.push(-2).push(ax),
    { rsp: scratch(0x100), rax: 0x1234 },
    { rsp: scratch(0xfa), memory: { 250: "34 12 fe ff ff ff" } },
  ),
  known32("into", raw(0xce), { flags: "OF" }, { vector: Vector.OF, at: 1 }),
  known32("into without overflow", raw(0xce), { flags: "CF" }, { flags: "CF" }),
  known32(
    "bound",
    raw(0x62, 0x03),
    { rax: 6, rbx: scratch(0), memory: { 0: "01 00 00 00 05 00 00 00" } },
    { vector: 5 },
  ),
  known32("bound within", raw(0x62, 0x03), { rax: 5, rbx: scratch(0), memory: { 0: "01 00 00 00 05 00 00 00" } }, {}),
  known32(
    "arpl raises the level",
    (a) => a.modrm({ opcode: 0x63 }, cx, bx),
    { rbx: 0x10, rcx: 0x0b },
    { rbx: 0x13, flags: "ZF" },
  ),
  known32(
    "an address of two registers wraps at 32 bits",
    (a) => a.mov(eax, dword({ base: ebx, index: ecx })),
    { rbx: 0xffff_fff0, rcx: scratch(0x10), memory: { 0: "07 00 00 00" } },
    { rax: 7 },
  ),
  known32(
    "a 16-bit address wraps at 64 KiB",
    (a) => a.lea(eax, ptr({ base: bx, index: si, disp: 0x10 })),
    { rbx: 0x1234_fff8, rsi: 0xabcd_0001 },
    { rax: 9 },
  ),
  known32(
    "an absolute address",
    (a) => a.mov(eax, dword(scratch(4))),
    { memory: { 4: "01 02 03 04" } },
    { rax: 0x0403_0201 },
  ),
  known32(
    "a load across the end",
    (a) => a.mov(eax, dword(ebx)),
    { rbx: END - 1 },
    { vector: Vector.PF, errorCode: 4, cr2: END },
  ),
  known32(
    "call pushes four bytes",
    (a) => a.call("f").label("f").pop(eax),
    { rsp: scratch(0x100) },
    { rax: 0x2000_0005, memory: { 252: "05 00 00 20" } },
  ),
];

const gp: Wanted = { vector: Vector.GP };
const codeSegment: KnownAnswer[] = [
  known32(
    "a load through cs",
    raw(0x2e, 0x8b, 0x03),
    { rbx: scratch(0), memory: { 0: "01 02 03 04" } },
    { rax: 0x0403_0201 },
  ),
  known32("a store through cs", raw(0x2e, 0x89, 0x03), { rbx: scratch(0) }, gp),
  known32("a store of a byte through cs", raw(0x2e, 0xc6, 0x03, 0x01), { rbx: scratch(0) }, gp),
  known32("an addition in memory through cs", raw(0x2e, 0x01, 0x03), { rbx: scratch(0) }, gp),
  known32("an exchange through cs", raw(0x2e, 0x87, 0x03), { rbx: scratch(0) }, gp),
  known32("a compare-and-exchange that fails through cs", raw(0x2e, 0x0f, 0xb1, 0x03), { rbx: scratch(0) }, gp),
  known32("a bit set through cs", raw(0x2e, 0x0f, 0xab, 0x03), { rbx: scratch(0) }, gp),
  known32("a bit tested through cs", raw(0x2e, 0x0f, 0xa3, 0x03), { rbx: scratch(0), flags: "CF" }, { flags: "/ CF" }),
  known32("a vector stored through cs", raw(0x2e, 0x0f, 0x11, 0x03), { rbx: scratch(0) }, gp),
  known32("a pop to memory through cs", raw(0x2e, 0x8f, 0x03), { rbx: scratch(0), rsp: scratch(0x100) }, gp),
  known32("fxsave through cs", raw(0x2e, 0x0f, 0xae, 0x03), { rbx: scratch(0) }, gp),
  known32("mov of a selector through cs", raw(0x2e, 0x8c, 0x1b), { rbx: scratch(0) }, gp),
  known32("fnsave through cs", raw(0x2e, 0xdd, 0x33), { rbx: scratch(0) }, gp),
  known32(
    "movs from cs goes to es",
    raw(0x2e, 0xa5),
    { rsi: scratch(0), rdi: scratch(8), memory: { 0: "01 02 03 04" } },
    { rsi: scratch(4), rdi: scratch(12), memory: { 8: "01 02 03 04" } },
  ),
];

export const COMPATIBILITY_ANSWERS: readonly KnownAnswer[] = [...decimal, ...other, ...codeSegment];
