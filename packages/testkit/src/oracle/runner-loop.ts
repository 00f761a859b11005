import {
  type Assembler,
  al,
  byte,
  cs,
  ds,
  dword,
  eax,
  ecx,
  edi,
  es,
  esi,
  ptr,
  qword,
  r8d,
  r9,
  r10,
  r10d,
  r11,
  r12,
  r13d,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  register,
  rsi,
  rsp,
  ss,
  word,
  xmm,
} from "../asm/index.ts";
import { CHUNK_BYTES, CODE_BASE, FS_BASE, FX_BYTES, GS_BASE, SCRATCH_BASE, SCRATCH_BYTES } from "./case.ts";
import { CASE_FIXED_BYTES, FX_RESULT_BYTES, KINDS, RESULT_FIXED_BYTES } from "./codec.ts";
import { OUTPUT_BYTES, OUTPUT_RESERVE_BYTES, RUNNER_BYTES, Signal, Ucontext, variable } from "./runner-layout.ts";

/** Selectors of Linux on x86-64 for 32-bit programs. */
const USER_CODE_32 = 0x23;
const USER_DATA = 0x2b;
const CASE_GPRS = 24;
const RESULT_GPRS = 40;
const kind = (name: (typeof KINDS)[number]): number => KINDS.indexOf(name);

/** Emits the loop over cases: `next` starts one, `handler` ends it. */
export function emitLoop(a: Assembler): void {
  emitNext(a);
  emitEnter(a);
  emitHandler(a);
  emitCollectState(a);
  emitCollectFx(a);
  emitScan(a);
  emitRestore(a);
}

/** Places code and memory patches; RBX is the case. */
function emitNext(a: Assembler): void {
  a.label("next").lea(rsp, ptr("stack.end"));
  a.sub(variable("remaining"), 1).jcc("b", "finish").add(variable("serial"), 1);
  a.cmp(variable("outputUsed"), OUTPUT_BYTES - OUTPUT_RESERVE_BYTES)
    .jcc("b", "next.room")
    .call("flush")
    .label("next.room");
  a.mov(rbx, variable("caseAt")).mov(edi, dword(rbx, 8)).add(rdi, variable("codeAlias"));
  a.lea(rsi, ptr(rbx, CASE_FIXED_BYTES)).lea(rax, ptr("defaultFx"));
  a.test(byte(rbx, 12), 1)
    .jcc("z", "next.fx")
    .mov(rax, rsi)
    .add(rsi, FX_BYTES)
    .label("next.fx")
    .mov(variable("fxAt"), rax);
  a.movzx(ecx, word(rbx, 4)).movs(8, "rep").add(rsi, 7).and(rsi, -8).mov(variable("patchesAt"), rsi);
  a.movzx(r8d, word(rbx, 6));
  a.label("patch").test(r8d, r8d).jcc("z", "enter");
  a.mov(eax, dword(rsi)).mov(r10d, dword(rsi, 4)).add(rsi, 8).mov(r9, rsi);
  a.lea(rdi, ptr(rax, SCRATCH_BASE)).mov(ecx, r10d).movs(8, "rep");
  a.mov(rsi, r9).mov(ecx, r10d).lea(rdi, ptr("initial")).add(rdi, rax).movs(8, "rep");
  a.add(rsi, 7).and(rsi, -8).dec(r8d).jmp("patch");
}

/** Loads the state of the case and goes there. IRETQ also serialises, so the new code is what gets fetched. */
function emitEnter(a: Assembler): void {
  a.label("enter").mov(rax, variable("fxAt")).insn({ map: "0f", opcode: 0xae, bits: 64 }, 1, ptr(rax));
  a.mov(eax, ss)
    .push(rax)
    .push(qword(rbx, CASE_GPRS + 8 * rsp.num))
    .push(qword(rbx, 16));
  a.mov(eax, cs).test(byte(rbx, 12), 2).jcc("z", "enter.cs");
  // In 64-bit mode DS and ES mean nothing, so they may stay.
  a.mov(eax, USER_DATA).mov(ds, eax).mov(es, eax).mov(eax, USER_CODE_32);
  a.label("enter.cs").push(rax).mov(eax, dword(rbx, 8)).add(eax, CODE_BASE).push(rax);
  for (let i = 0; i < 16; i++) {
    if (i !== rbx.num && i !== rsp.num) a.mov(register(i, 64), qword(rbx, CASE_GPRS + 8 * i));
  }
  a.mov(rbx, qword(rbx, CASE_GPRS + 8 * rbx.num)).iret();
}

/** Handler of every signal: EDI is its number, RDX the ucontext. A tick that finds no case, or a new one, returns. */
function emitHandler(a: Assembler): void {
  // The kernel leaves AC as the case had it.
  a.label("handler").push(0x202).popf().mov(r12, rdx);
  a.lea(rcx, ptr("image")).mov(rax, qword(r12, Ucontext.rip)).sub(rax, rcx).cmp(edi, Signal.VTALRM).jcc("z", "tick");
  a.mov(r13d, kind("trap")).mov(ecx, kind("syscall")).cmp(edi, Signal.SYS).cmovcc("z", r13d, ecx);
  a.mov(ecx, kind("lost")).cmp(rax, RUNNER_BYTES).cmovcc("b", r13d, ecx).jmp("collect");

  a.label("tick").cmp(rax, RUNNER_BYTES).jcc("b", "tick.return");
  a.mov(rax, variable("serial")).mov(r13d, kind("timeout")).cmp(rax, variable("tickSerial")).jcc("z", "collect");
  a.mov(variable("tickSerial"), rax);
  // The kernel does not restore NT and ID from the frame, so they go back by the flags of this handler.
  a.label("tick.return")
    .mov(rax, qword(r12, Ucontext.eflags))
    .and(eax, 0x20_4000)
    .or(eax, 0x202)
    .push(rax)
    .popf()
    .ret();
}

/** Writes the fixed part of the result; R12 is the ucontext, R13D the kind. Leaves the result in RBP. */
function emitCollectState(a: Assembler): void {
  a.label("collect").lea(rbp, ptr("output")).add(rbp, variable("outputUsed"));
  a.mov(rax, qword(r12, Ucontext.trapNumber)).mov(dword(rbp, 4), r13d).mov(byte(rbp, 5), al);
  a.mov(rax, qword(r12, Ucontext.errorCode)).mov(dword(rbp, 8), eax);
  a.mov(rax, qword(r12, Ucontext.cr2)).mov(qword(rbp, 16), rax);
  a.mov(rax, qword(r12, Ucontext.rip)).mov(qword(rbp, 24), rax);
  a.mov(rax, qword(r12, Ucontext.eflags)).mov(qword(rbp, 32), rax);
  Ucontext.gprs.forEach((offset, i) => {
    a.mov(rax, qword(r12, offset)).mov(qword(rbp, RESULT_GPRS + 8 * i), rax);
  });
}

/** Copies the FX image without its implementation-defined fields, and keeps it only if it changed. Leaves the end in RDI. */
function emitCollectFx(a: Assembler): void {
  a.lea(rdi, ptr(rbp, RESULT_FIXED_BYTES)).mov(rdx, rdi).mov(rsi, qword(r12, Ucontext.fpstate));
  a.mov(ecx, FX_RESULT_BYTES / 8).movs(64, "rep");
  a.mov(word(rdx, 6), 0).mov(qword(rdx, 8), 0).mov(qword(rdx, 16), 0).mov(dword(rdx, 28), 0);
  a.mov(rsi, variable("fxAt"));
  a.mov(rax, qword(rsi)).shl(rax, 16).mov(rcx, qword(rdx)).shl(rcx, 16).cmp(rax, rcx).jcc("nz", "fx.changed");
  a.mov(eax, dword(rsi, 24)).cmp(eax, dword(rdx, 24)).jcc("nz", "fx.changed");
  a.add(rsi, 32)
    .lea(rdi, ptr(rdx, 32))
    .mov(ecx, (FX_RESULT_BYTES - 32) / 8)
    .cmps(64, "repe")
    .jcc("nz", "fx.changed");
  a.mov(rdi, rdx).jmp("scan");
  a.label("fx.changed").mov(byte(rbp, 6), 1).lea(rdi, ptr(rdx, FX_RESULT_BYTES));
}

/** Appends every chunk of scratch memory that changed to the result and puts the initial contents back. */
function emitScan(a: Assembler): void {
  const movdqaLoad = { map: "0f", opcode: 0x6f, prefix: 0x66 } as const;
  const movdqaStore = { map: "0f", opcode: 0x7f, prefix: 0x66 } as const;
  a.label("scan")
    .mov(esi, SCRATCH_BASE)
    .lea(rdx, ptr("initial"))
    .mov(ecx, SCRATCH_BYTES / CHUNK_BYTES);
  a.mov(r8d, 0);
  a.label("scan.chunk");
  for (let i = 0; i < 4; i++) {
    a.insn(movdqaLoad, xmm(i), ptr(rsi, 16 * i)).insn(
      { map: "0f", opcode: 0x74, prefix: 0x66 },
      xmm(i),
      ptr(rdx, 16 * i),
    );
  }
  for (const [to, from] of [
    [0, 1],
    [2, 3],
    [0, 2],
  ])
    a.insn({ map: "0f", opcode: 0xdb, prefix: 0x66 }, xmm(to), xmm(from));
  a.insn({ map: "0f", opcode: 0xd7, prefix: 0x66 }, eax, xmm(0)).cmp(eax, 0xffff).jcc("nz", "scan.changed");
  a.label("scan.next").add(rsi, CHUNK_BYTES).add(rdx, CHUNK_BYTES).dec(ecx).jcc("nz", "scan.chunk").jmp("scanned");

  a.label("scan.changed").lea(eax, ptr(rsi, -SCRATCH_BASE)).mov(dword(rdi), eax).mov(dword(rdi, 4), CHUNK_BYTES);
  for (let i = 0; i < 4; i++) {
    a.insn(movdqaLoad, xmm(0), ptr(rsi, 16 * i)).movups(ptr(rdi, 8 + 16 * i), xmm(0));
    a.insn(movdqaLoad, xmm(0), ptr(rdx, 16 * i)).insn(movdqaStore, xmm(0), ptr(rsi, 16 * i));
  }
  a.add(rdi, 8 + CHUNK_BYTES)
    .add(r8d, 1)
    .jmp("scan.next");

  a.label("scanned").mov(dword(rbp, 12), r8d);
  a.mov(rax, rdi).sub(rax, rbp).add(rax, 15).and(rax, -16).mov(dword(rbp), eax).add(variable("outputUsed"), rax);
}

/** Takes back patches, code and segment bases, and goes to the next case. */
function emitRestore(a: Assembler): void {
  a.mov(rbx, variable("caseAt")).movzx(r8d, word(rbx, 6)).mov(r9, variable("patchesAt"));
  a.label("unpatch").test(r8d, r8d).jcc("z", "unpatched");
  a.mov(eax, dword(r9)).mov(r10d, dword(r9, 4)).mov(r11, variable("background")).add(r11, rax);
  a.lea(rdi, ptr(rax, SCRATCH_BASE)).mov(rsi, r11).mov(ecx, r10d).movs(8, "rep");
  a.lea(rdi, ptr("initial")).add(rdi, rax).mov(rsi, r11).mov(ecx, r10d).movs(8, "rep");
  a.lea(r9, ptr({ base: r9, index: r10, disp: 15 }))
    .and(r9, -8)
    .dec(r8d)
    .jmp("unpatch");

  a.label("unpatched").mov(edi, dword(rbx, 8)).add(rdi, variable("codeAlias"));
  a.movzx(ecx, word(rbx, 4)).mov(eax, 0xcc).stos(8, "rep");
  a.test({ ...variable("hwcap2"), bits: 8 }, 2).jcc("z", "restored");
  a.mov(eax, FS_BASE).wrfsbase(rax).mov(eax, GS_BASE).wrgsbase(rax);
  a.label("restored").mov(eax, dword(rbx)).add(variable("caseAt"), rax).jmp("next");
}
