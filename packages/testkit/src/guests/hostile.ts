/** Guests that attack the hypervisor: random hypercalls, and garbage where shared structures are expected. */
import { dword, eax, ecx, edx, type Immediate, type Mem, ptr, type Register } from "../asm/index.ts";
import { Area, buildGuest, type GuestAssembler, type GuestMode, Hypercall, ShutdownReason } from "./guest.ts";

export interface FuzzerOptions {
  readonly seed: number;
  /** How many hypercalls; default a million. */
  readonly calls?: number;
  readonly mode?: GuestMode;
}

const SCRATCH_MASK = 0xfff8;
/** Numbers that a hypervisor should implement, drawn more often than their neighbours. */
const NUMBERS = [12, 13, 15, 17, 18, 20, 21, 24, 29, 32, 33, 34];
/** Numbers that have a meaning in some argument: limits, domain ids, magic pages. */
const CORNERS = [
  0x7ff0, 0x7ff1, 0x7fff, 0xa_0000, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0xf_effc, 0xf_efff, 0x1000, 0x400, 0xfff,
  0x3ff, 0xfee0_0000, 0x10000, 0x20,
];
const SCHED_OP_YIELD = 0;
const VCPUOP_down = 2;
const VCPUOP_is_up = 3;
const MULTICALL_ENTRIES = 4;

const Variable = { seed: Area.variables, left: Area.variables + 8, number: Area.variables + 16 } as const;
const STRUCTURES_BYTES = 0xe000;

/**
 * Makes random hypercalls with random arguments, says "fuzzed" and powers off.
 *
 * Arguments are small numbers, pointers to structures full of such numbers, corners, and noise. Calls that would
 * rightly end or stop the domain (shutdown, block, VCPUOP_down) are turned into harmless ones, so that the end is
 * reached exactly if the hypervisor survives.
 */
export function hypercallFuzzerGuest(options: FuzzerOptions): Uint8Array {
  const { seed, calls = 1_000_000, mode = 64 } = options;
  return buildGuest(mode, (a) => {
    a.mov(dword(Variable.seed), seed === 0 ? 1 : seed).mov(dword(Variable.left), calls);
    a.label("next");
    emitFillStructures(a);
    emitChooseNumber(a);
    for (let i = 0; i < a.args.length; i++) a.call("argument").push(a.reg(0));
    for (const register of [...a.args].reverse()) a.pop(register);
    emitTame(a);
    a.mov(eax, dword(Variable.number)).hypercallInRax();
    a.sub(dword(Variable.left), 1).jcc("nz", "next");
    a.say("fuzzed\n").shutdown(ShutdownReason.poweroff);
    emitRandom(a);
  });
}

/** Puts sixteen random arguments somewhere into the structures. */
function emitFillStructures(a: GuestAssembler): void {
  const [at, count] = [a.reg(7), a.reg(5)];
  a.call("random")
    .and(eax, SCRATCH_MASK)
    .cmp(eax, STRUCTURES_BYTES - 64)
    .jcc("b", "fill.at")
    .and(eax, 0x7ff8);
  a.label("fill.at")
    .lea(at, ptr(a.reg(0), Area.scratch))
    .mov({ ...count, bits: 32 }, 16);
  a.label("fill").call("argument").mov(dword(at), eax).add(at, 4).sub(count, 1).jcc("nz", "fill");
}

/** Half of the numbers are implemented ones, most of the rest below 64. */
function emitChooseNumber(a: GuestAssembler): void {
  a.call("random").mov(ecx, eax).shr(eax, 8).test(ecx, 1).jcc("z", "number.any");
  a.xor(edx, edx)
    .mov(ecx, NUMBERS.length)
    .div(ecx)
    .mov(eax, tableEntry("numbers", a.reg(2)))
    .jmp("number.chosen");
  a.label("number.any").test(ecx, 0x1e).jcc("z", "number.chosen").and(eax, 63);
  a.label("number.chosen").mov(dword(Variable.number), eax);
}

/** Turns calls that stop the domain into others. Argument registers are loaded. */
function emitTame(a: GuestAssembler): void {
  const first = a.args[0];
  a.mov(eax, dword(Variable.number));
  a.cmp(eax, Hypercall.sched_op).jcc("nz", "tame.vcpu").mov(first, SCHED_OP_YIELD);
  a.label("tame.vcpu")
    .cmp(eax, Hypercall.vcpu_op)
    .jcc("nz", "tame.multicall")
    .cmp({ ...first, bits: 32 }, VCPUOP_down)
    .jcc("nz", "tame.multicall");
  a.mov(first, VCPUOP_is_up);
  // The entries of a multicall could be anything; these are xen_version, console_io, grant_table_op and hvm_op.
  a.label("tame.multicall").cmp(eax, Hypercall.multicall).jcc("nz", "tame.done").mov(first, Area.scratch);
  const entryBytes = a.guestMode === 64 ? 64 : 32;
  [17, 18, 20, 34].forEach((number, i) => {
    a.mov(dword(Area.scratch + entryBytes * i), number);
    if (a.guestMode === 64) a.mov(dword(Area.scratch + entryBytes * i + 4), 0);
  });
  a.and({ ...a.args[1], bits: 32 }, MULTICALL_ENTRIES).label("tame.done");
}

/** Emits `random` (xorshift32 to EAX, changes ECX) and `argument` (an interesting word to RAX, changes RCX, RDX). */
function emitRandom(a: GuestAssembler): void {
  a.label("random").mov(eax, dword(Variable.seed));
  a.mov(ecx, eax)
    .shl(ecx, 13)
    .xor(eax, ecx)
    .mov(ecx, eax)
    .shr(ecx, 17)
    .xor(eax, ecx)
    .mov(ecx, eax)
    .shl(ecx, 5)
    .xor(eax, ecx);
  a.mov(dword(Variable.seed), eax).ret();

  a.label("argument").call("random").mov(edx, eax).shr(eax, 8).and(edx, 15);
  a.cmp(edx, 6).jcc("ae", "argument.pointer").and(eax, 63).ret();
  a.label("argument.pointer").cmp(edx, 10).jcc("ae", "argument.corner");
  a.and(eax, SCRATCH_MASK).add(eax, Area.scratch).ret();
  a.label("argument.corner").cmp(edx, 12).jcc("ae", "argument.noise");
  a.and(eax, CORNERS.length - 1)
    .mov(eax, tableEntry("corners", a.reg(0)))
    .ret();
  a.label("argument.noise").call("random");
  if (a.guestMode === 64)
    a.cmp(edx, 14)
      .jcc("ae", "argument.end")
      .push(a.reg(0))
      .call("random")
      .pop(a.reg(1))
      .shl(a.reg(1), 32)
      .or(a.reg(0), a.reg(1));
  a.label("argument.end").ret();
  a.align(4)
    .label("numbers")
    .dd(...NUMBERS)
    .label("corners")
    .dd(...CORNERS);
}

const tableEntry = (label: string, index: Register): Mem => dword({ label, index, scale: 4 });

const HVMOP_get_param = 1;
const HVM_PARAM = { STORE_PFN: 1, STORE_EVTCHN: 2, CONSOLE_PFN: 17, CONSOLE_EVTCHN: 18 } as const;
const XENMEM_add_to_physmap = 7;
const EVTCHNOP_send = 4;
const DOMID_SELF = 0x7ff0;
const PAGE_BYTES = 4096;

export interface GarbageOptions {
  readonly seed: number;
  /** How often each page is filled; default 200. */
  readonly rounds?: number;
  readonly mode?: GuestMode;
}

/**
 * Maps the shared information page and, round after round, fills it, the console ring and the xenstore ring with noise
 * and notifies both backends. Then says "littered" and powers off.
 */
export function garbageGuest(options: GarbageOptions): Uint8Array {
  const { seed, rounds = 200, mode = 64 } = options;
  return buildGuest(mode, (a) => {
    a.mov(dword(Variable.seed), seed === 0 ? 1 : seed).mov(dword(Variable.left), rounds);
    emitMapSharedInfo(a);
    a.label("round").mov(eax, Area.sharedInfo).call("litter");
    for (const [pfn, port] of [
      [HVM_PARAM.CONSOLE_PFN, HVM_PARAM.CONSOLE_EVTCHN],
      [HVM_PARAM.STORE_PFN, HVM_PARAM.STORE_EVTCHN],
    ]) {
      emitGetParam(a, pfn);
      a.shl(a.reg(0), 12).call("litter");
      emitGetParam(a, port);
      a.mov(dword(Area.scratch), eax).hypercall(Hypercall.event_channel_op, EVTCHNOP_send, Area.scratch);
    }
    a.sub(dword(Variable.left), 1).jcc("nz", "round");
    a.say("littered\n").shutdown(ShutdownReason.poweroff);
    a.label("litter")
      .mov(a.reg(7), a.reg(0))
      .mov({ ...a.reg(5), bits: 32 }, PAGE_BYTES / 4);
    a.label("litter.more")
      .call("random")
      .mov(dword(a.reg(7)), eax)
      .add(a.reg(7), 4)
      .sub(a.reg(5), 1)
      .jcc("nz", "litter.more")
      .ret();
    emitRandom(a);
  });
}

/** struct xen_add_to_physmap: u16 domid, u16 size, u32 space, word idx, word gpfn. */
function emitMapSharedInfo(a: GuestAssembler): void {
  const wordBytes = a.guestMode / 8;
  storeWords(a, [DOMID_SELF, 0]);
  a.mov(a.wordAt(Area.scratch + 8), 0).mov(a.wordAt(Area.scratch + 8 + wordBytes), Area.sharedInfo / PAGE_BYTES);
  a.hypercall(Hypercall.memory_op, XENMEM_add_to_physmap, Area.scratch);
}

/** struct xen_hvm_param: u16 domid, u32 index, u64 value; leaves the value in RAX. */
function emitGetParam(a: GuestAssembler, index: number): void {
  storeWords(a, [DOMID_SELF, index, 0, 0]);
  a.hypercall(Hypercall.hvm_op, HVMOP_get_param, Area.scratch).mov(eax, dword(Area.scratch + 8));
}

function storeWords(a: GuestAssembler, words: readonly Immediate[]): void {
  words.forEach((value, i) => {
    a.mov(dword(Area.scratch + 4 * i), value);
  });
}
