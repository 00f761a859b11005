import {
  type Assembler,
  addressOf,
  eax,
  type Immediate,
  type Mem,
  ptr,
  qword,
  r8,
  r9,
  r10,
  r12,
  r13,
  r14,
  r15,
  rax,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
} from "../asm/index.ts";
import {
  CODE_BASE,
  CODE_BYTES,
  FS_BASE,
  GS_BASE,
  READONLY_BASE,
  READONLY_BYTES,
  SCRATCH_BASE,
  SCRATCH_BYTES,
} from "./case.ts";
import { BATCH_HEADER_BYTES } from "./codec.ts";
import { RUNNER_BYTES, SIGNAL_STACK_BYTES, Signal, variable } from "./runner-layout.ts";

const SYS = {
  read: 0,
  write: 1,
  mmap: 9,
  mprotect: 10,
  rt_sigaction: 13,
  rt_sigreturn: 15,
  setitimer: 38,
  ftruncate: 77,
  sigaltstack: 131,
  prctl: 157,
  arch_prctl: 158,
  exit_group: 231,
  memfd_create: 319,
} as const;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_POPULATE = 0x8000;
const SA_FLAGS = 0x4 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x4000_0000; // SIGINFO RESTORER ONSTACK RESTART NODEFER
const AT_HWCAP2 = 26;
const ARCH_SET_GS = 0x1001;
const ARCH_SET_FS = 0x1002;
const PR_SET_SYSCALL_USER_DISPATCH = 59;
const PR_SYS_DISPATCH_ON = 1;
const ITIMER_VIRTUAL = 1;
/** A case is given up at the second tick that finds it running. */
const TICK_USEC = 5000;

/** What the process returns when it cannot work at all. */
export const RUNNER_EXIT = { input: 2, mapping: 3 } as const;

/** Emits a system call; arguments are loaded in order, so an argument must not be a register loaded before it. */
export function systemCall(a: Assembler, name: keyof typeof SYS, ...args: (Immediate | Mem | typeof rax)[]): void {
  const registers = [rdi, rsi, rdx, r10, r8, r9];
  args.forEach((arg, i) => {
    if (typeof arg === "object" && arg.kind === "mem" && arg.bits === undefined) a.lea(registers[i], arg);
    else if (arg !== registers[i]) a.mov(registers[i], arg);
  });
  a.mov(eax, SYS[name]).syscall();
}

/** Emits the start of the runner: reads the batch, maps the world of the cases, installs the handler. Falls into `next`. */
export function emitSetup(a: Assembler): void {
  a.label("start").mov(r15, rsp).lea(rsp, ptr("stack.end"));
  emitFindHwcap(a);
  a.lea(r12, ptr("header")).mov(r13, BATCH_HEADER_BYTES).call("readExactly");
  systemCall(a, "mmap", 0, qword("header", 8), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  a.call("checkMapping").mov(r14, rax).mov(variable("background"), rax);
  a.mov(r12, rax).mov(r13, qword("header", 8)).call("readExactly");
  a.lea(rax, ptr(r14, SCRATCH_BYTES)).mov(variable("caseAt"), rax);
  a.mov(eax, { ...qword("header", 4), bits: 32 }).mov(variable("remaining"), rax);
  emitMappings(a);
  emitSignals(a);
  a.jmp("next");

  a.label("finish").call("flush");
  systemCall(a, "exit_group", 0);
  emitSubroutines(a);
}

/** HWCAP2 bit 1 tells whether user code may execute WRFSBASE. */
function emitFindHwcap(a: Assembler): void {
  a.mov(rax, qword(r15)).lea(rsi, ptr({ base: r15, index: rax, scale: 8, disp: 16 }));
  a.label("environment").cmp(qword(rsi), 0).lea(rsi, ptr(rsi, 8)).jcc("nz", "environment");
  a.label("auxiliary").mov(rax, qword(rsi)).test(rax, rax).jcc("z", "auxiliary.end");
  a.mov(rcx, qword(rsi, 8)).add(rsi, 16).cmp(rax, AT_HWCAP2).jcc("nz", "auxiliary");
  a.mov(variable("hwcap2"), rcx).label("auxiliary.end");
}

function emitMappings(a: Assembler): void {
  const anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE;
  const readWrite = PROT_READ | PROT_WRITE;
  systemCall(a, "mmap", SCRATCH_BASE, SCRATCH_BYTES, readWrite, anonymous, -1, 0);
  a.call("checkMapping").mov(rdi, rax).mov(rsi, r14).mov(rcx, SCRATCH_BYTES).movs(8, "rep");
  a.lea(rdi, ptr("initial")).mov(rsi, r14).mov(rcx, SCRATCH_BYTES).movs(8, "rep");
  systemCall(a, "mmap", READONLY_BASE, READONLY_BYTES, readWrite, anonymous, -1, 0);
  a.call("checkMapping").mov(rdi, rax).mov(rsi, r14).mov(rcx, READONLY_BYTES).movs(8, "rep");
  systemCall(a, "mprotect", READONLY_BASE, READONLY_BYTES, PROT_READ);
  // The code is mapped twice so that cases cannot write to it where they execute it.
  systemCall(a, "memfd_create", ptr("codeName"), 0);
  a.mov(r13, rax);
  systemCall(a, "ftruncate", r13, CODE_BYTES);
  systemCall(a, "mmap", 0, CODE_BYTES, readWrite, MAP_SHARED | MAP_POPULATE, r13, 0);
  a.call("checkMapping")
    .mov(variable("codeAlias"), rax)
    .mov(rdi, rax)
    .mov(eax, 0xcc)
    .mov(rcx, CODE_BYTES)
    .stos(8, "rep");
  systemCall(a, "mmap", CODE_BASE, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED | MAP_POPULATE, r13, 0);
  a.call("checkMapping");
}

function emitSignals(a: Assembler): void {
  systemCall(a, "sigaltstack", ptr("alternateStack"), 0);
  for (const number of Object.values(Signal)) systemCall(a, "rt_sigaction", number, ptr("action"), 0, 8);
  systemCall(a, "arch_prctl", ARCH_SET_FS, FS_BASE);
  systemCall(a, "arch_prctl", ARCH_SET_GS, GS_BASE);
  // A case that executes SYSCALL gets SIGSYS. Kernels before 5.11 refuse this, and such cases must not be given to them.
  a.mov(r12, addressOf("image"));
  systemCall(a, "prctl", PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, r12, RUNNER_BYTES, 0);
  systemCall(a, "setitimer", ITIMER_VIRTUAL, ptr("tickInterval"), 0);
}

function emitSubroutines(a: Assembler): void {
  // Reads R13 bytes from standard input to R12.
  a.label("readExactly");
  systemCall(a, "read", 0, r12, r13);
  a.test(rax, rax).jcc("le", "badInput").add(r12, rax).sub(r13, rax).jcc("nz", "readExactly").ret();
  a.label("badInput");
  systemCall(a, "exit_group", RUNNER_EXIT.input);

  a.label("checkMapping").test(rax, rax).jcc("s", "badMapping").ret();
  a.label("badMapping");
  systemCall(a, "exit_group", RUNNER_EXIT.mapping);

  a.label("flush").lea(r12, ptr("output")).mov(r13, variable("outputUsed"));
  a.label("flush.more").test(r13, r13).jcc("z", "flush.end");
  systemCall(a, "write", 1, r12, r13);
  a.test(rax, rax).jcc("le", "badInput").add(r12, rax).sub(r13, rax).jmp("flush.more");
  a.label("flush.end").mov(variable("outputUsed"), 0).ret();

  a.label("signalReturn");
  systemCall(a, "rt_sigreturn");
}

/** Emits the constants of the set-up. */
export function emitSetupData(a: Assembler): void {
  a.label("header").space(BATCH_HEADER_BYTES);
  a.label("codeName").db("code", 0).align(8);
  a.label("alternateStack").dq(addressOf("signalStack"), 0, SIGNAL_STACK_BYTES);
  a.label("action").dq(addressOf("handler"), SA_FLAGS, addressOf("signalReturn"), 0);
  a.label("tickInterval").dq(0, TICK_USEC, 0, TICK_USEC);
}
