import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { type Assembler, assemble } from "./assembler.ts";
import {
  addressOf,
  ah,
  al,
  ax,
  bp,
  bx,
  byte,
  cl,
  cr,
  dil,
  dr,
  ds,
  dword,
  eax,
  ebx,
  ecx,
  es,
  fs,
  gs,
  type Mode,
  mem,
  ptr,
  qword,
  r8,
  r8d,
  r9,
  r10,
  r12,
  r13,
  r15,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  si,
  spl,
  word,
  xmm,
} from "./operands.ts";

const hex = (bytes: Uint8Array): string => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(" ");

/** Source as objdump prints it (Intel syntax, blanks squeezed), the bytes from the manual's tables, and how to assemble it. */
const CASES: readonly (readonly [Mode, string, string, (a: Assembler) => unknown])[] = [
  [64, "mov rax,0x5", "48 c7 c0 05 00 00 00", (a) => a.mov(rax, 5)],
  [64, "movabs rax,0x123456789abcdef0", "48 b8 f0 de bc 9a 78 56 34 12", (a) => a.mov(rax, 0x123456789abcdef0n)],
  [64, "mov eax,0xffffffff", "b8 ff ff ff ff", (a) => a.mov(eax, 0xffffffff)],
  [64, "mov dil,0x7", "40 b7 07", (a) => a.mov(dil, 7)],
  [64, "mov ah,0x7", "b4 07", (a) => a.mov(ah, 7)],
  [64, "mov QWORD PTR [rsp+0x8],r12", "4c 89 64 24 08", (a) => a.mov(qword(rsp, 8), r12)],
  [64, "mov r9,QWORD PTR [r13+0x0]", "4d 8b 4d 00", (a) => a.mov(r9, qword(r13))],
  [64, "mov al,BYTE PTR [r12]", "41 8a 04 24", (a) => a.mov(al, byte(r12))],
  [64, "mov WORD PTR [rbp+0x0],0x1234", "66 c7 45 00 34 12", (a) => a.mov(word(rbp), 0x1234)],
  [64, "mov DWORD PTR ds:0x7ee00020,0x1", "c7 04 25 20 00 e0 7e 01 00 00 00", (a) => a.mov(dword(0x7ee00020), 1)],
  [
    64,
    "mov rax,QWORD PTR [rbx+rcx*8-0x10]",
    "48 8b 44 cb f0",
    (a) => a.mov(rax, qword({ base: rbx, index: rcx, scale: 8, disp: -16 })),
  ],
  [
    64,
    "mov eax,DWORD PTR [r9*4+0x100]",
    "42 8b 04 8d 00 01 00 00",
    (a) => a.mov(eax, dword({ index: r9, scale: 4, disp: 256 })),
  ],
  [64, "mov eax,DWORD PTR [ebx]", "67 8b 03", (a) => a.mov(eax, dword(ebx))],
  [
    64,
    "mov rax,QWORD PTR gs:0x28",
    "65 48 8b 04 25 28 00 00 00",
    (a) => a.mov(rax, qword({ disp: 0x28, segment: gs })),
  ],
  [64, "movabs al,ds:0x1122334455667788", "a0 88 77 66 55 44 33 22 11", (a) => a.movAbsolute(al, 0x1122334455667788n)],
  [64, "mov ds,eax", "8e d8", (a) => a.mov(ds, eax)],
  [64, "mov eax,ds", "8c d8", (a) => a.mov(eax, ds)],
  [64, "mov cr3,rax", "0f 22 d8", (a) => a.mov(cr(3), rax)],
  [64, "mov r8,cr8", "45 0f 20 c0", (a) => a.mov(r8, cr(8))],
  [64, "mov dr7,rcx", "0f 23 f9", (a) => a.mov(dr(7), rcx)],
  [64, "movzx eax,BYTE PTR [rsi]", "0f b6 06", (a) => a.movzx(eax, byte(rsi))],
  [64, "movsxd rax,ecx", "48 63 c1", (a) => a.movsx(rax, ecx)],
  [64, "movsx r8,ax", "4c 0f bf c0", (a) => a.movsx(r8, ax)],
  [64, "lea rsi,[rdx+rdx*2]", "48 8d 34 52", (a) => a.lea(rsi, ptr({ base: rdx, index: rdx, scale: 2 }))],
  [64, "xchg QWORD PTR [rdi],rdx", "48 87 17", (a) => a.xchg(qword(rdi), rdx)],
  [64, "lock cmpxchg DWORD PTR [rdi],ecx", "f0 0f b1 0f", (a) => a.lock().cmpxchg(dword(rdi), ecx)],
  [64, "cmpxchg16b OWORD PTR [rsi]", "48 0f c7 0e", (a) => a.cmpxchg16b(ptr(rsi))],
  [64, "add eax,0x12345678", "05 78 56 34 12", (a) => a.add(eax, 0x12345678)],
  [64, "add rax,0xffffffffffffffff", "48 83 c0 ff", (a) => a.add(rax, -1)],
  [64, "sub BYTE PTR [rax],0x80", "80 28 80", (a) => a.sub(byte(rax), 0x80)],
  [64, "sbb rcx,QWORD PTR [rax]", "48 1b 08", (a) => a.sbb(rcx, qword(rax))],
  [64, "cmp spl,0x3", "40 80 fc 03", (a) => a.cmp(spl, 3)],
  [64, "test ecx,0x100", "f7 c1 00 01 00 00", (a) => a.test(ecx, 0x100)],
  [64, "imul rax,rcx,0x64", "48 6b c1 64", (a) => a.imul(rax, rcx, 100)],
  [64, "idiv QWORD PTR [rsp]", "48 f7 3c 24", (a) => a.idiv(qword(rsp))],
  [64, "shl rdx,0x4", "48 c1 e2 04", (a) => a.shl(rdx, 4)],
  [64, "rcl BYTE PTR [rax],cl", "d2 10", (a) => a.rcl(byte(rax), cl)],
  [64, "sar eax,1", "d1 f8", (a) => a.sar(eax, 1)],
  [64, "shld r8d,eax,0x3", "41 0f a4 c0 03", (a) => a.shld(r8d, eax, 3)],
  [64, "btc DWORD PTR [rax],ecx", "0f bb 08", (a) => a.btc(dword(rax), ecx)],
  [64, "bts rax,0x3f", "48 0f ba e8 3f", (a) => a.bts(rax, 63)],
  [64, "popcnt r10,QWORD PTR [rax]", "f3 4c 0f b8 10", (a) => a.popcnt(r10, qword(rax))],
  [64, "bswap r15", "49 0f cf", (a) => a.bswap(r15)],
  [64, "push r12", "41 54", (a) => a.push(r12)],
  [64, "push 0xffffffffffffff80", "6a 80", (a) => a.push(-128)],
  [64, "push QWORD PTR [rbx+0x18]", "ff 73 18", (a) => a.push(qword(rbx, 24))],
  [64, "pop QWORD PTR [rax]", "8f 00", (a) => a.pop(qword(rax))],
  [64, "push fs", "0f a0", (a) => a.push(fs)],
  [64, "sete BYTE PTR [rcx]", "0f 94 01", (a) => a.setcc("e", byte(rcx))],
  [64, "cmovl rax,r9", "49 0f 4c c1", (a) => a.cmovcc("l", rax, r9)],
  [64, "call rax", "ff d0", (a) => a.call(rax)],
  [64, "jmp QWORD PTR [rax+r9*8]", "42 ff 24 c8", (a) => a.jmp(qword({ base: rax, index: r9, scale: 8 }))],
  [64, "ret 0x10", "c2 10 00", (a) => a.ret(16)],
  [64, "rep movs QWORD PTR es:[rdi],QWORD PTR ds:[rsi]", "f3 48 a5", (a) => a.movs(64, "rep")],
  [64, "repnz scas al,BYTE PTR es:[rdi]", "f2 ae", (a) => a.scas(8, "repne")],
  [64, "iretq", "48 cf", (a) => a.iret()],
  [64, "in al,dx", "ec", (a) => a.in(al)],
  [64, "out 0xe9,al", "e6 e9", (a) => a.out(al, 0xe9)],
  [64, "lgdt [rax]", "0f 01 10", (a) => a.lgdt(ptr(rax))],
  [64, "lidt [rsp+0x6]", "0f 01 5c 24 06", (a) => a.lidt(ptr(rsp, 6))],
  [64, "ltr ax", "0f 00 d8", (a) => a.ltr(ax)],
  [64, "vmmcall", "0f 01 d9", (a) => a.vmmcall()],
  [64, "wrmsr", "0f 30", (a) => a.wrmsr()],
  [64, "wrfsbase rax", "f3 48 0f ae d0", (a) => a.wrfsbase(rax)],
  [64, "fxsave64 [rdi]", "48 0f ae 07", (a) => a.insn({ map: "0f", opcode: 0xae, bits: 64 }, 0, ptr(rdi))],
  [
    64,
    "pshufb xmm9,xmm2",
    "66 44 0f 38 00 ca",
    (a) => a.insn({ map: "0f38", opcode: 0, prefix: 0x66 }, xmm(9), xmm(2)),
  ],
  [
    64,
    "pcmpestri xmm1,XMMWORD PTR [rax],0xc",
    "66 0f 3a 61 08 0c",
    (a) => a.insn({ map: "0f3a", opcode: 0x61, prefix: 0x66 }, xmm(1), ptr(rax), 12),
  ],
  [32, "mov eax,DWORD PTR ds:0x1000", "8b 05 00 10 00 00", (a) => a.mov(eax, dword(0x1000))],
  [32, "mov ax,0x1234", "66 b8 34 12", (a) => a.mov(ax, 0x1234)],
  [32, "jmp 0x8:0x100000", "ea 00 00 10 00 08 00", (a) => a.jmpFar(8, 0x100000)],
  [32, "pusha", "60", (a) => a.pusha()],
  [32, "push es", "06", (a) => a.push(es)],
  [32, "mov ax,WORD PTR [bx+si+0x2]", "67 66 8b 40 02", (a) => a.mov(ax, word({ base: bx, index: si, disp: 2 }))],
  [16, "mov eax,0x1", "66 b8 01 00 00 00", (a) => a.mov(eax, 1)],
  [16, "mov ax,WORD PTR [bp+0x0]", "8b 46 00", (a) => a.mov(ax, word(bp))],
  [16, "mov eax,DWORD PTR [ebx]", "67 66 8b 03", (a) => a.mov(eax, dword(ebx))],
  [16, "lgdtw ds:0x600", "0f 01 16 00 06", (a) => a.lgdt(ptr(0x600))],
  [16, "jmp 0x8:0x1000", "66 ea 00 10 00 00 08 00", (a) => a.jmpFar(8, 0x1000, 32)],
];

describe("encodings", () => {
  for (const [mode, text, bytes, write] of CASES) {
    it(`${mode}-bit ${text}`, () => assert.equal(hex(assemble(mode, write)), bytes));
  }
});

describe("labels", () => {
  it("resolves forward and backward branches", () => {
    const code = assemble(64, (a) => a.label("top").jcc("z", "end").jmp("top").label("end"), 0x1000);
    assert.equal(hex(code), "0f 84 02 00 00 00 eb f8");
  });
  it("counts a RIP-relative displacement from behind the immediate", () => {
    const code = assemble(64, (a) => a.cmp(dword("value"), 0x1000).label("value").dd(7));
    assert.equal(hex(code), "81 3d 00 00 00 00 00 10 00 00 07 00 00 00");
  });
  it("writes a label's address as an immediate and as absolute 32-bit memory", () => {
    const code = assemble(32, (a) => a.mov(eax, addressOf("x", 4)).mov(eax, dword("x")).label("x"), 0x100000);
    assert.equal(hex(code), "b8 0f 00 10 00 8b 05 0b 00 10 00");
  });
  it("refuses a short jump that is too far, an unknown label and a second definition", () => {
    assert.throws(
      () => assemble(64, (a) => a.jmpShort("far").space(200).label("far")),
      /label far: 200 does not fit 1 bytes/,
    );
    assert.throws(() => assemble(64, (a) => a.jmp("nowhere")), /label nowhere: not defined/);
    assert.throws(() => assemble(64, (a) => a.label("x").label("x")), /defined twice/);
  });
});

describe("what cannot be encoded", () => {
  it("refuses AH with a REX prefix", () => assert.throws(() => assemble(64, (a) => a.mov(ah, byte(r8))), /REX/));
  it("refuses 64-bit operands in 32-bit mode", () =>
    assert.throws(() => assemble(32, (a) => a.mov(rax, rcx)), /64-bit/));
  it("refuses an immediate that does not fit", () => assert.throws(() => assemble(64, (a) => a.mov(al, 300)), /300/));
  it("refuses an absolute address that 64-bit mode would sign-extend", () => {
    assert.throws(() => assemble(64, (a) => a.mov(eax, dword(0xfee00020))), /0xfee00020/);
  });
  it("refuses RSP as an index", () => {
    assert.throws(() => assemble(64, (a) => a.mov(rax, qword({ base: rax, index: rsp }))), /index/);
  });
  it("refuses memory without a size where no register tells it", () => {
    assert.throws(() => assemble(64, (a) => a.inc(mem(undefined, rax))), /size/);
  });
});

describe("objdump agrees", { skip: hasObjdump() ? false : "binutils is not installed" }, () => {
  for (const mode of [16, 32, 64] as const) {
    it(`in ${mode}-bit mode`, () => {
      const cases = CASES.filter((c) => c[0] === mode);
      const lines = disassemble(
        mode,
        cases.map((c) => assemble(mode, c[3])),
      );
      assert.deepEqual(
        lines,
        cases.map((c) => c[1]),
      );
    });
  }
});

function hasObjdump(): boolean {
  try {
    execFileSync("objdump", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** One line of text for each piece of code. */
function disassemble(mode: Mode, codes: readonly Uint8Array[]): string[] {
  const folder = mkdtempSync(join(tmpdir(), "assembler-"));
  try {
    const path = join(folder, "code");
    writeFileSync(path, Buffer.concat(codes));
    const machine = { 16: "i8086", 32: "i386", 64: "i386:x86-64" }[mode];
    const text = execFileSync("objdump", ["-D", "-b", "binary", "-m", machine, "-M", "intel", "--insn-width=16", path]);
    return text
      .toString()
      .split("\n")
      .map((line) => line.split("\t")[2])
      .filter((line) => line !== undefined)
      .map((line) => line.replace(/\s+/g, " ").replace(/,\s+/g, ",").trim());
  } finally {
    rmSync(folder, { recursive: true });
  }
}
