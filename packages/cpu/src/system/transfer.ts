import { type Decoded, Seg } from "../decode/decoded.ts";
import { defineSystem } from "../semantics/define.ts";
import { Flag } from "../semantics/flags.ts";
import { Slot, State } from "../state/layout.ts";
import { flatCode, flatStack } from "./fast-call.ts";
import { GuestFault, gp, ud, Vector } from "./faults.ts";
import { deliver } from "./interrupts.ts";
import type { Machine } from "./machine.ts";
import { Attr } from "./registers.ts";
import {
  codeSegment,
  dplOf,
  loadSegment,
  needTarget,
  readDescriptor,
  setCode,
  setDescriptor,
  setSegment,
} from "./segments.ts";
import { Stack } from "./stack.ts";

/** Far pointers, system calls and returns: everything that changes CS. */

interface FarPointer {
  readonly selector: number;
  readonly ip: number;
}

function farPointer(m: Machine, d: Decoded): FarPointer {
  const at = m.address(d);
  const width = d.operandSize;
  const ip = width === 8 ? m.readAddress(at) : width === 4 ? m.read32(at) >>> 0 : m.read16(at);
  return { ip, selector: m.read16(at + width) };
}
const immediatePointer = (d: Decoded): FarPointer => ({
  ip: d.operandSize === 2 ? d.immLo & 0xffff : d.immLo >>> 0,
  selector: d.farSelector,
});

function setRealCode(m: Machine, selector: number): void {
  m.set32(State.selector + Seg.cs * 4, selector);
  m.setAddress(Slot.segBase + Seg.cs * 8, selector * 16);
  m.updateMode();
}

function farJump(m: Machine, p: FarPointer): void {
  const code = m.isProtected ? codeSegment(m, p.selector, m.cpl) : undefined;
  needTarget(m, p.ip, code);
  if (code) setCode(m, code, m.cpl);
  else setRealCode(m, p.selector);
  m.setIp(p.ip);
}

function farCall(m: Machine, d: Decoded, p: FarPointer): void {
  const stack = Stack.current(m, d.operandSize);
  const code = m.isProtected ? codeSegment(m, p.selector, m.cpl) : undefined;
  needTarget(m, p.ip, code);
  stack.push(m.get32(State.selector + Seg.cs * 4));
  stack.push(m.toIp(m.nextRip));
  stack.commit();
  if (code) setCode(m, code, m.cpl);
  else setRealCode(m, p.selector);
  m.setIp(p.ip);
}

function farReturn(m: Machine, d: Decoded, extra: number): void {
  const stack = Stack.current(m, d.operandSize);
  const ip = stack.pop();
  const selector = stack.pop() & 0xffff;
  if (!m.isProtected) {
    needTarget(m, ip);
    stack.pointer += extra;
    stack.commit();
    setRealCode(m, selector);
    return m.setIp(ip);
  }
  const rpl = selector & 3;
  if (rpl < m.cpl) throw gp(selector & ~3);
  const code = codeSegment(m, selector, rpl);
  needTarget(m, ip, code);
  stack.pointer += extra;
  if (rpl > m.cpl) {
    const sp = stack.pop();
    const ss = stack.pop() & 0xffff;
    const ssDescriptor = (ss & ~3) === 0 ? undefined : readDescriptor(m, ss);
    setCode(m, code, rpl);
    if (ssDescriptor) setDescriptor(m, Seg.ss, ssDescriptor);
    else setSegment(m, Seg.ss, ss, 0, 0, 0);
    m.setAddress(4 * 8, sp + extra);
    m.updateMode();
  } else {
    setCode(m, code, rpl);
    stack.commit();
  }
  m.setIp(ip);
}

defineSystem("JMP far", "ea Ap i64", (m, d) => farJump(m, immediatePointer(d)));
defineSystem("CALL far", "9a Ap i64", (m, d) => farCall(m, d, immediatePointer(d)));
defineSystem("JMP far indirect", "ff /5 M", (m, d) => farJump(m, farPointer(m, d)));
defineSystem("CALL far indirect", "ff /3 M", (m, d) => farCall(m, d, farPointer(m, d)));
defineSystem("RET far", "cb", (m, d) => farReturn(m, d, 0));
defineSystem("RET far imm", "ca Iw", (m, d) => farReturn(m, d, d.immLo & 0xffff));

function softwareInterrupt(m: Machine, vector: number): void {
  deliver(m, vector, "software");
}
defineSystem("INT3", "cc", (m) => softwareInterrupt(m, Vector.bp));
defineSystem("INT1", "f1", (m) => deliver(m, Vector.db, "exception"));
defineSystem("INT", "cd Ib", (m, d) => softwareInterrupt(m, d.immLo & 0xff));
defineSystem("INTO", "ce i64", (m) => {
  if (m.rflags & Flag.of) softwareInterrupt(m, Vector.of);
});
defineSystem("BOUND", "62 Gv,M i64", (m, d) => {
  const at = m.address(d);
  const wide = d.operandSize === 4;
  const reg = d.operands[0].kind === "gpr" ? d.operands[0].reg : 0;
  const index = wide ? m.gprLo(reg) : (m.gprLo(reg) << 16) >> 16;
  const low = wide ? m.read32(at) : (m.read16(at) << 16) >> 16;
  const high = wide ? m.read32(at + 4) : (m.read16(at + 2) << 16) >> 16;
  if (index < low || index > high) throw new GuestFault(Vector.br);
});

defineSystem("SYSENTER", "0f 34", (m) => {
  const selector = m.get32(State.sysenterCs) & 0xfffc;
  if (!m.isProtected || selector === 0) throw gp();
  m.set32(State.flagsSystem, m.get32(State.flagsSystem) & ~(Flag.vm | Flag.if | Flag.rf));
  const wide = m.isLong;
  flatCode(m, selector, 0, wide);
  flatStack(m, selector + 8, 0);
  m.setAddress(4 * 8, wide ? m.getAddress(State.sysenterEsp) : m.get32(State.sysenterEsp) >>> 0);
  m.updateMode();
  m.nextRip = wide ? m.getAddress(State.sysenterEip) : m.get32(State.sysenterEip) >>> 0;
});
defineSystem("SYSEXIT", "0f 35", (m, d) => {
  const base = m.get32(State.sysenterCs) & 0xfffc;
  if (!m.isProtected || base === 0) throw gp();
  m.needCpl0();
  const wide = m.isLong && d.rexW;
  const [ip, sp] = [m.getAddress(2 * 8), m.getAddress(1 * 8)];
  flatCode(m, (wide ? base + 32 : base + 16) | 3, 3, wide);
  flatStack(m, (wide ? base + 40 : base + 24) | 3, 3);
  m.setAddress(4 * 8, wide ? sp : sp >>> 0);
  m.updateMode();
  m.nextRip = wide ? ip : ip >>> 0;
});

// Segment registers

defineSystem("MOV to Sreg", "8e Sw,Ew", (m, d) => {
  const segment = d.operands[0].kind === "sreg" ? d.operands[0].reg : 0;
  if (segment === Seg.cs || segment > Seg.gs) throw ud();
  loadSegment(m, segment, m.readOperand16(d, 1));
});
const POPS: readonly [string, number][] = [
  ["07 i64", Seg.es],
  ["17 i64", Seg.ss],
  ["1f i64", Seg.ds],
  ["0f a1 d64", Seg.fs],
  ["0f a9 d64", Seg.gs],
];
for (const [encoding, segment] of POPS) {
  defineSystem(`POP ${["ES", "CS", "SS", "DS", "FS", "GS"][segment]}`, encoding, (m, d) => {
    const stack = Stack.current(m, d.operandSize);
    const selector = stack.pop() & 0xffff;
    loadSegment(m, segment, selector);
    stack.commit();
  });
}
function loadFar(name: string, encoding: string, segment: number): void {
  defineSystem(name, encoding, (m, d) => {
    const p = farPointer(m, d);
    loadSegment(m, segment, p.selector);
    const reg = d.operands[0].kind === "gpr" ? d.operands[0].reg : 0;
    if (d.operandSize === 8) m.setAddress(reg * 8, p.ip);
    else if (d.operandSize === 4) m.setGpr32(reg, p.ip);
    else m.set32(reg * 8, (m.gprLo(reg) & ~0xffff) | p.ip);
  });
}
loadFar("LES", "c4 Gv,M i64", Seg.es);
loadFar("LDS", "c5 Gv,M i64", Seg.ds);
loadFar("LSS", "0f b2 Gv,M", Seg.ss);
loadFar("LFS", "0f b4 Gv,M", Seg.fs);
loadFar("LGS", "0f b5 Gv,M", Seg.gs);

/** LAR, LSL, VERR, VERW: look at a descriptor without loading it; ZF tells whether it may be used. */
function visible(m: Machine, selector: number): ReturnType<typeof readDescriptor> | undefined {
  if ((selector & ~3) === 0) return undefined;
  try {
    const d = readDescriptor(m, selector);
    const conforming = d.attr & Attr.s && d.attr & Attr.code && d.attr & Attr.conforming;
    if (!conforming && (dplOf(d.attr) < m.cpl || dplOf(d.attr) < (selector & 3))) return undefined;
    return d;
  } catch (fault) {
    if (fault instanceof GuestFault && fault.vector === Vector.gp) return undefined;
    throw fault;
  }
}
function setZf(m: Machine, on: boolean): void {
  m.rflags = on ? m.rflags | Flag.zf : m.rflags & ~Flag.zf;
}
function inspect(
  name: string,
  encoding: string,
  systemTypes: readonly number[],
  value: (d: NonNullable<ReturnType<typeof visible>>) => number,
): void {
  defineSystem(name, encoding, (m, d) => {
    if (!m.isProtected) throw ud();
    const found = visible(m, m.readOperand16(d, 1));
    const usable = found && (found.attr & Attr.s || systemTypes.includes(found.attr & 15)) ? found : undefined;
    setZf(m, usable !== undefined);
    if (!usable || d.operands[0].kind !== "gpr") return;
    const { reg } = d.operands[0];
    if (d.operandSize === 2) m.set32(reg * 8, (m.gprLo(reg) & ~0xffff) | (value(usable) & 0xffff));
    else m.setGpr32(reg, value(usable));
  });
}
inspect("LAR", "0f 02 Gv,Ew", [2, 9, 11, 12], (d) => ((d.attr & 0xff) << 8) | ((d.attr & 0xf00) << 12));
inspect("LSL", "0f 03 Gv,Ew", [2, 9, 11], (d) => d.limit | 0);
function verify(name: string, digit: number, usable: (attr: number) => boolean): void {
  defineSystem(name, `0f 00 /${digit} Ew`, (m, d) => {
    if (!m.isProtected) throw ud();
    const found = visible(m, m.readOperand16(d));
    setZf(m, found !== undefined && (found.attr & Attr.s) !== 0 && usable(found.attr));
  });
}
verify("VERR", 4, (attr) => !(attr & Attr.code) || (attr & Attr.rw) !== 0);
verify("VERW", 5, (attr) => !(attr & Attr.code) && (attr & Attr.rw) !== 0);
defineSystem("ARPL", "63 Ew,Gw i64", (m, d) => {
  if (!m.isProtected) throw ud();
  const destination = m.readOperand16(d, 0);
  const rpl = (d.operands[1].kind === "gpr" ? m.gprLo(d.operands[1].reg) : 0) & 3;
  const lower = (destination & 3) < rpl;
  if (lower) m.writeOperand16({ ...d, operandSize: 2 }, (destination & ~3) | rpl);
  setZf(m, lower);
});
