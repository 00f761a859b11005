import { type Decoded, Seg } from "../decode/decoded.ts";
import { defineSystem } from "../semantics/define.ts";
import { Flag } from "../semantics/flags.ts";
import { PHYSICAL_BITS, Slot, State } from "../state/layout.ts";
import { GuestFault, gp, ud, Vector } from "./faults.ts";
import { invalidatePage } from "./invalidate.ts";
import { hiOf, type Machine } from "./machine.ts";
import { Cr0, Cr4, Efer, LDTR, TR } from "./registers.ts";
import { readDescriptor, setDescriptor } from "./segments.ts";

/** Control, debug and descriptor-table registers. */

const CR0_VALID = Cr0.pe | Cr0.mp | Cr0.em | Cr0.ts | Cr0.et | Cr0.ne | Cr0.wp | Cr0.am | Cr0.nw | Cr0.cd | Cr0.pg;
const CR4_VALID =
  1 |
  2 |
  Cr4.tsd |
  Cr4.de |
  Cr4.pse |
  Cr4.pae |
  Cr4.mce |
  Cr4.pge |
  Cr4.pce |
  Cr4.osfxsr |
  Cr4.osxmmexcpt |
  Cr4.fsgsbase |
  Cr4.pcide |
  Cr4.osxsave |
  Cr4.smep |
  Cr4.smap;

function setCr0(m: Machine, lo: number): void {
  const value = (lo & CR0_VALID) | Cr0.et;
  const old = m.cr0;
  if (value & Cr0.pg && !(value & Cr0.pe)) throw gp();
  if (value & Cr0.nw && !(value & Cr0.cd)) throw gp();
  const paging = value & Cr0.pg;
  if (paging && !(old & Cr0.pg)) {
    if (m.efer & Efer.lme) {
      if (!(m.cr4 & Cr4.pae)) throw gp();
      m.set32(State.efer, m.efer | Efer.lma);
    }
  } else if (!paging && old & Cr0.pg && m.efer & Efer.lma) {
    if (m.is64) throw gp();
    m.set32(State.efer, m.efer & ~Efer.lma);
  }
  m.set32(State.cr0, value);
  if ((value ^ old) & (Cr0.pg | Cr0.pe | Cr0.wp)) m.flushAll();
  m.updateMode();
}

function setCr3(m: Machine, lo: number, hi: number): void {
  // With PCIDs bit 63 asks to keep what is cached; dropping it is always allowed.
  const keepBit = m.cr4 & Cr4.pcide ? hi & 0x7fffffff : hi;
  if (m.isLong && keepBit >>> (PHYSICAL_BITS - 32) !== 0) throw gp();
  m.setPair(State.cr3, lo, keepBit);
  m.flushAll(true);
}

function setCr4(m: Machine, lo: number): void {
  if (lo & ~CR4_VALID) throw gp();
  if (m.isLong && !(lo & Cr4.pae)) throw gp();
  const old = m.cr4;
  if (lo & ~old & Cr4.pcide && (!m.isLong || m.get32(State.cr3) & 0xfff)) throw gp();
  m.set32(State.cr4, lo);
  if ((lo ^ old) & (Cr4.pse | Cr4.pae | Cr4.pge | Cr4.pcide | Cr4.smep | Cr4.smap)) m.flushAll();
  m.updateMode();
}

defineSystem("MOV from CR", "0f 20 /0", (m, d) => moveFromControl(m, d));
for (const digit of [1, 2, 3, 4, 5, 6, 7])
  defineSystem("MOV from CR", `0f 20 /${digit}`, (m, d) => moveFromControl(m, d));
for (const digit of [0, 1, 2, 3, 4, 5, 6, 7])
  defineSystem("MOV to CR", `0f 22 /${digit}`, (m, d) => moveToControl(m, d));
for (const digit of [0, 1, 2, 3, 4, 5, 6, 7]) {
  defineSystem("MOV from DR", `0f 21 /${digit}`, (m, d) => moveFromDebug(m, d));
  defineSystem("MOV to DR", `0f 23 /${digit}`, (m, d) => moveToDebug(m, d));
}

const CR_STATE: Readonly<Record<number, number>> = {
  0: State.cr0,
  2: State.cr2,
  3: State.cr3,
  4: State.cr4,
  8: State.cr8,
};

function moveFromControl(m: Machine, d: Decoded): void {
  m.needCpl0();
  const { control, general } = registersOf(d);
  const state = CR_STATE[control];
  if (state === undefined) throw ud();
  m.setPair(general * 8, m.get32(state), m.is64 ? m.get32(state + 4) : 0);
}
/** ModRM is read as a register form whatever its mod bits; REX.R reaches CR8. */
function registersOf(d: Decoded): { control: number; general: number } {
  return { control: ((d.modrm >> 3) & 7) | (d.rexR ? 8 : 0), general: (d.modrm & 7) | (d.rexB ? 8 : 0) };
}
function moveToControl(m: Machine, d: Decoded): void {
  m.needCpl0();
  const { control, general } = registersOf(d);
  const lo = m.gprLo(general);
  const hi = m.is64 ? m.gprHi(general) : 0;
  switch (control) {
    case 0:
      if (hi) throw gp();
      return setCr0(m, lo);
    case 2:
      return m.setPair(State.cr2, lo, hi);
    case 3:
      return setCr3(m, lo, hi);
    case 4:
      if (hi) throw gp();
      return setCr4(m, lo);
    case 8:
      if (hi || lo & ~15) throw gp();
      return m.set32(State.cr8, lo);
    default:
      throw ud();
  }
}

function debugRegister(m: Machine, d: Decoded): number {
  m.needCpl0();
  const { control } = registersOf(d);
  if (control > 7) throw ud();
  if (control === 4 || control === 5) {
    if (m.cr4 & Cr4.de) throw ud();
    return control + 2;
  }
  // General detect.
  if (m.get32(State.dr + 7 * 8) & 0x2000) {
    m.set32(State.dr + 6 * 8, m.get32(State.dr + 6 * 8) | 0x2000);
    throw new GuestFault(Vector.db);
  }
  return control;
}
function moveFromDebug(m: Machine, d: Decoded): void {
  const register = debugRegister(m, d);
  const { general } = registersOf(d);
  m.setPair(general * 8, m.get32(State.dr + register * 8), m.is64 ? m.get32(State.dr + register * 8 + 4) : 0);
}
function moveToDebug(m: Machine, d: Decoded): void {
  const register = debugRegister(m, d);
  const { general } = registersOf(d);
  const lo = m.gprLo(general);
  const hi = m.is64 ? m.gprHi(general) : 0;
  if (register >= 6 && hi) throw gp();
  if (register === 6) m.setPair(State.dr + 48, (lo & 0xe00f) | 0xffff0ff0, 0);
  else if (register === 7) m.setPair(State.dr + 56, (lo & 0xffff2fff) | 0x400, 0);
  else m.setPair(State.dr + register * 8, lo, hi);
  if (register === 7) {
    m.flushAll();
    m.updateMode();
  }
}

defineSystem("CLTS", "0f 06", (m) => {
  m.needCpl0();
  m.set32(State.cr0, m.cr0 & ~Cr0.ts);
  m.updateMode();
});
defineSystem("SMSW", "0f 01 /4 Ew", (m, d) => {
  if (d.operands[0].kind === "gpr" && d.operandSize >= 4) m.setGpr32(d.operands[0].reg, m.cr0);
  else m.writeOperand16(d, m.cr0 & 0xffff);
});
defineSystem("LMSW", "0f 01 /6 Ew", (m, d) => {
  m.needCpl0();
  const value = m.readOperand16(d);
  // PE can be set but not cleared this way.
  setCr0(m, (m.cr0 & ~14) | (value & 15));
});

function loadTable(m: Machine, d: Decoded, base: number, limit: number): void {
  m.needCpl0();
  const at = m.address(d);
  const wide = m.is64;
  const limitValue = m.read16(at);
  let address = wide ? m.readAddress(at + 2) : m.read32(at + 2) >>> 0;
  if (!wide && d.operandSize === 2) address &= 0xffffff;
  if (wide && (address < -(2 ** 47) || address >= 2 ** 47)) throw gp();
  m.setAddress(base, address);
  m.set32(limit, limitValue);
}
function storeTable(m: Machine, d: Decoded, base: number, limit: number): void {
  const at = m.addressToWrite(d);
  m.host(at, m.is64 ? 10 : 6, 1);
  m.write16(at, m.get32(limit));
  if (m.is64) m.writeAddress(at + 2, m.getAddress(base));
  else m.write32(at + 2, m.get32(base));
}
defineSystem("SGDT", "0f 01 /0 M", (m, d) => storeTable(m, d, State.gdtBase, State.gdtLimit));
defineSystem("SIDT", "0f 01 /1 M", (m, d) => storeTable(m, d, State.idtBase, State.idtLimit));
defineSystem("LGDT", "0f 01 /2 M", (m, d) => loadTable(m, d, State.gdtBase, State.gdtLimit));
defineSystem("LIDT", "0f 01 /3 M", (m, d) => loadTable(m, d, State.idtBase, State.idtLimit));

function needProtected(m: Machine): void {
  if (!m.isProtected || m.get32(State.flagsSystem) & Flag.vm) throw ud();
}
defineSystem("SLDT", "0f 00 /0 Ew", (m, d) => {
  needProtected(m);
  m.writeOperand16(d, m.get32(State.selector + LDTR * 4));
});
defineSystem("STR", "0f 00 /1 Ew", (m, d) => {
  needProtected(m);
  m.writeOperand16(d, m.get32(State.selector + TR * 4));
});
function loadSystemSegment(m: Machine, register: number, selector: number, types: readonly number[]): void {
  const d = readDescriptor(m, selector, Vector.gp, m.isLong);
  const error = selector & ~3;
  if (selector & 4 || !types.includes(d.attr & 0x1f)) throw gp(error);
  if (!(d.attr & 0x80)) throw new GuestFault(Vector.np, error);
  setDescriptor(m, register, d);
}
defineSystem("LLDT", "0f 00 /2 Ew", (m, d) => {
  needProtected(m);
  m.needCpl0();
  const selector = m.readOperand16(d);
  if ((selector & ~3) === 0) {
    m.set32(State.selector + LDTR * 4, selector);
    m.set32(State.segLimit + LDTR * 4, 0);
    m.set32(State.segAttr + LDTR * 4, 0);
    return;
  }
  loadSystemSegment(m, LDTR, selector, [2]);
});
defineSystem("LTR", "0f 00 /3 Ew", (m, d) => {
  needProtected(m);
  m.needCpl0();
  const selector = m.readOperand16(d);
  if ((selector & ~3) === 0) throw gp();
  loadSystemSegment(m, TR, selector, m.isLong ? [9] : [1, 9]);
  const at = m.getAddress(State.gdtBase) + (selector & ~7) + 5;
  m.write8(at, m.read8(at) | 2);
  m.set32(State.segAttr + TR * 4, m.get32(State.segAttr + TR * 4) | 2);
});

defineSystem("INVPCID", "66 0f38 82 Gy,Mx", (m, d) => {
  m.needCpl0();
  const reg = d.operands[0].kind === "gpr" ? d.operands[0].reg : 0;
  const type = m.gprLo(reg) >>> 0;
  const at = m.address(d);
  m.host(at, 16, 0);
  const pcid = m.read32(at);
  if (type > 3 || pcid & ~0xfff || m.read32(at + 4)) throw gp();
  if (type === 0) invalidatePage(m, m.readAddress(at + 8));
  else m.flushAll(type === 3 || type === 1);
});
for (const encoding of ["0f 08", "0f 09"])
  defineSystem(encoding === "0f 08" ? "INVD" : "WBINVD", encoding, (m) => m.needCpl0());

export function resetSegments(m: Machine): void {
  m.setAddress(Slot.segBase + Seg.cs * 8, 0);
  m.set32(State.cr8, hiOf(0));
}
