import { defineSystem } from "../semantics/define.ts";
import { Slot, State } from "../state/layout.ts";
import { GuestFault, gp, ud, Vector } from "./faults.ts";
import { hiOf, type Machine } from "./machine.ts";
import { Cr0, Cr4, Efer } from "./registers.ts";

/** Model-specific registers that belong to the processor core; all others go to the hypervisor. */
interface Msr {
  readonly state: number;
  /** The value must be canonical. */
  readonly address?: boolean;
}
const MSRS: ReadonlyMap<number, Msr> = new Map([
  [0x174, { state: State.sysenterCs }],
  [0x175, { state: State.sysenterEsp, address: true }],
  [0x176, { state: State.sysenterEip, address: true }],
  [0x277, { state: State.pat }],
  [0xc0000080, { state: State.efer }],
  [0xc0000081, { state: State.star }],
  [0xc0000082, { state: State.lstar, address: true }],
  [0xc0000083, { state: State.cstar, address: true }],
  [0xc0000084, { state: State.sfmask }],
  [0xc0000100, { state: Slot.segBase + 4 * 8, address: true }],
  [0xc0000101, { state: Slot.segBase + 5 * 8, address: true }],
  [0xc0000102, { state: State.kernelGsBase, address: true }],
  [0xc0000103, { state: State.tscAux }],
]);
const MSR_TSC = 0x10;
const MSR_EFER = 0xc0000080;
const MSR_PAT = 0x277;
const EFER_VALID = Efer.sce | Efer.lme | Efer.lma | Efer.nxe | Efer.ffxsr;

/** The guest's time-stamp counter: nanoseconds plus what the guest set. */
export function timeStamp(m: Machine): number {
  return Math.floor(m.options.nowNs()) + m.getAddress(State.tscOffset);
}

defineSystem("RDMSR", "0f 32", (m) => {
  m.needCpl0();
  const index = m.gprLo(1) >>> 0;
  if (index === MSR_TSC) return setPairRegisters(m, timeStamp(m));
  const msr = MSRS.get(index);
  if (!msr) {
    m.exit = { kind: "msr-read", index };
    return;
  }
  const lo = m.get32(msr.state);
  const hi = m.get32(msr.state + 4);
  m.setGpr32(0, lo);
  m.setGpr32(2, hi);
});

function setPairRegisters(m: Machine, value: number): void {
  m.setGpr32(0, value >>> 0);
  m.setGpr32(2, hiOf(value));
}

defineSystem("WRMSR", "0f 30", (m) => {
  m.needCpl0();
  const index = m.gprLo(1) >>> 0;
  const [lo, hi] = [m.gprLo(0), m.gprLo(2)];
  if (index === MSR_TSC)
    return m.setAddress(State.tscOffset, hi * 2 ** 32 + (lo >>> 0) - Math.floor(m.options.nowNs()));
  if (index === MSR_EFER) return setEfer(m, lo, hi);
  const msr = MSRS.get(index);
  if (!msr) {
    m.exit = { kind: "msr-write", index, lo, hi };
    return;
  }
  if (msr.address && (hi << 16) >> 31 !== hi >> 15) throw gp();
  if (index === MSR_PAT) checkPat(lo, hi);
  if (index === 0xc0000103 && hi) throw gp();
  m.setPair(msr.state, lo, hi);
});

function setEfer(m: Machine, lo: number, hi: number): void {
  if (hi || lo & ~EFER_VALID) throw gp();
  if ((lo ^ m.efer) & Efer.lme && m.cr0 & Cr0.pg) throw gp();
  m.set32(State.efer, (lo & ~Efer.lma) | (m.efer & Efer.lma));
  m.flushAll();
}

/** Each byte of the PAT is one of the memory types 0, 1, 4, 5, 6, 7. */
function checkPat(lo: number, hi: number): void {
  for (const word of [lo, hi]) {
    for (let byte = 0; byte < 4; byte++) {
      const type = (word >>> (byte * 8)) & 0xff;
      if (type > 7 || type === 2 || type === 3) throw gp();
    }
  }
}

/** RDTSC and RDTSCP where they are forbidden; everywhere else they are semantics/integer/time.ts. */
export function refuseTime(): never {
  throw gp();
}
defineSystem("RDPMC", "0f 33", () => {
  throw gp();
});

/** XCR0: x87 must be on, and AVX is not offered. */
defineSystem("XGETBV", "np 0f 01 /2.0", (m) => {
  if (!(m.cr4 & Cr4.osxsave)) throw ud();
  if (m.gprLo(1) !== 0) throw gp();
  m.setGpr32(0, m.get32(State.xcr0));
  m.setGpr32(2, 0);
});
defineSystem("XSETBV", "np 0f 01 /2.1", (m) => {
  if (!(m.cr4 & Cr4.osxsave)) throw ud();
  m.needCpl0();
  const value = m.gprLo(0);
  if (m.gprLo(1) !== 0 || m.gprLo(2) !== 0 || !(value & 1) || value & ~3) throw gp();
  m.set32(State.xcr0, value);
});

defineSystem("CPUID", "0f a2", (m) => {
  const leaf = m.gprLo(0) >>> 0;
  const subleaf = m.gprLo(1) >>> 0;
  const answer = lookUpCpuid(m, leaf, subleaf);
  let ecx = answer.ecx;
  if (leaf === 1 && m.cr4 & Cr4.osxsave) ecx |= 1 << 27;
  m.setGpr32(0, answer.eax);
  m.setGpr32(3, answer.ebx);
  m.setGpr32(1, ecx);
  m.setGpr32(2, answer.edx);
});
const NO_LEAF = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
function lookUpCpuid(
  m: Machine,
  leaf: number,
  subleaf: number,
): { eax: number; ebx: number; ecx: number; edx: number } {
  for (const row of m.options.cpuid) {
    if (row.leaf === leaf && (row.subleaf === undefined || row.subleaf === subleaf)) return row;
  }
  return NO_LEAF;
}

/** Random numbers from the host; CF tells that one was there. */
defineSystem("RDRAND", ["0f c7 /6 Rv"], (m, d) => {
  const random = crypto.getRandomValues(new Int32Array(2));
  const reg = d.operands[0].kind === "gpr" ? d.operands[0].reg : 0;
  if (d.operandSize === 8) m.setPair(reg * 8, random[0], random[1]);
  else if (d.operandSize === 4) m.setGpr32(reg, random[0]);
  else m.set32(reg * 8, (m.gprLo(reg) & ~0xffff) | (random[0] & 0xffff));
  m.rflags = (m.rflags & ~0x8d5) | 1;
});

export function needFpu(m: Machine): void {
  if (m.cr0 & (Cr0.em | Cr0.ts)) throw new GuestFault(Vector.nm);
}
