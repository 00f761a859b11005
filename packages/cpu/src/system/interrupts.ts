import { Seg } from "../decode/decoded.ts";
import { Flag } from "../semantics/flags.ts";
import { State } from "../state/layout.ts";
import { GuestFault, gp, Vector } from "./faults.ts";
import type { Machine } from "./machine.ts";
import { Attr } from "./registers.ts";
import {
  codeSegment,
  dplOf,
  loadNull,
  needTarget,
  readDescriptor,
  setCode,
  setDescriptor,
  setSegment,
} from "./segments.ts";
import { Stack } from "./stack.ts";

export type EventKind = "exception" | "external" | "software";

/** Thrown when an exception cannot be delivered three levels deep: the vcpu shuts down. */
export class TripleFault {}

const CONTRIBUTORY = new Set<number>([Vector.de, Vector.ts, Vector.np, Vector.ss, Vector.gp]);

/** Exceptions reported behind the instruction, and aborts. */
const TRAPS = new Set<number>([Vector.db, Vector.bp, Vector.of, Vector.df]);

/**
 * Delivers an exception, escalating to #DF and to a shutdown as the manual's table says.
 * `m.nextRip` is the address to return to, and afterwards the handler's.
 */
export function deliverException(m: Machine, first: GuestFault): void {
  let fault = first;
  const resume = m.nextRip;
  for (let depth = 0; ; depth++) {
    m.nextRip = resume;
    try {
      if (fault.vector === Vector.pf) copyFaultAddress(m);
      // The saved flags keep an instruction breakpoint from hitting a second time when the instruction is repeated.
      if (!TRAPS.has(fault.vector)) m.set32(State.flagsSystem, m.get32(State.flagsSystem) | Flag.rf);
      deliver(m, fault.vector, "exception", fault.errorCode);
      return;
    } catch (thrown) {
      if (!(thrown instanceof GuestFault)) throw thrown;
      if (fault.vector === Vector.df || depth > 3) throw new TripleFault();
      const firstContributes = CONTRIBUTORY.has(fault.vector);
      const secondContributes = CONTRIBUTORY.has(thrown.vector);
      const doubles =
        fault.vector === Vector.pf
          ? secondContributes || thrown.vector === Vector.pf
          : firstContributes && secondContributes;
      fault = doubles ? new GuestFault(Vector.df, 0) : thrown;
    }
  }
}

function copyFaultAddress(m: Machine): void {
  m.setPair(State.cr2, m.get32(State.faultAddress), m.get32(State.faultAddress + 4));
}

/** Delivers one event through the IDT. @throws GuestFault if that itself faults; state is then unchanged */
export function deliver(m: Machine, vector: number, kind: EventKind, errorCode?: number): void {
  m.deliveries++;
  if (!m.isProtected) return deliverReal(m, vector);
  if (m.isLong) return deliverLong(m, vector, kind, errorCode);
  deliverProtected(m, vector, kind, errorCode);
}

function deliverReal(m: Machine, vector: number): void {
  if (vector * 4 + 3 > m.get32(State.idtLimit) >>> 0) throw gp();
  const at = m.getAddress(State.idtBase) + vector * 4;
  const ip = m.read16(at);
  const cs = m.read16(at + 2);
  needTarget(m, ip);
  const stack = Stack.current(m, 2);
  stack.push(m.rflags & 0xffff);
  stack.push(m.get32(State.selector + Seg.cs * 4));
  stack.push(m.toIp(m.nextRip));
  stack.commit();
  m.set32(State.flagsSystem, m.get32(State.flagsSystem) & ~(Flag.if | Flag.tf | Flag.ac | Flag.rf));
  setSegment(m, Seg.cs, cs, cs * 16, 0xffff, 0x9b);
  m.updateMode();
  m.setIp(ip);
}

interface Gate {
  readonly selector: number;
  readonly offset: number;
  readonly ist: number;
  readonly type: number;
}

function readGate(m: Machine, vector: number, kind: EventKind, size: 8 | 16): Gate {
  const external = kind === "external" ? 1 : 0;
  const errorCode = vector * 8 + 2 + (kind === "software" ? 0 : external);
  if (vector * size + size - 1 > m.get32(State.idtLimit) >>> 0) throw gp(errorCode);
  const gate = m.asSupervisor(() => {
    const at = m.getAddress(State.idtBase) + vector * size;
    const lo = m.read32(at);
    const hi = m.read32(at + 4);
    const top = size === 16 ? m.read32(at + 8) : 0;
    const low = ((lo & 0xffff) | (hi & 0xffff0000)) >>> 0;
    return { selector: lo >>> 16, offset: top * 2 ** 32 + low, ist: hi & 7, type: (hi >> 8) & 0xff };
  });
  const type = gate.type & 0x1f;
  const known = size === 16 ? type === 0xe || type === 0xf : type === 0xe || type === 0xf || type === 6 || type === 7;
  if (!known) throw gp(errorCode);
  if (kind === "software" && ((gate.type >> 5) & 3) < m.cpl) throw gp(errorCode);
  if (!(gate.type & 0x80)) throw new GuestFault(Vector.np, errorCode);
  return gate;
}

/** Handler code segment and the privilege it runs at. */
function handlerSegment(m: Machine, selector: number): { code: ReturnType<typeof readDescriptor>; cpl: number } {
  if ((selector & ~3) === 0) throw gp();
  const code = readDescriptor(m, selector);
  const error = selector & ~3;
  if (!(code.attr & Attr.s) || !(code.attr & Attr.code) || dplOf(code.attr) > m.cpl) throw gp(error);
  if (!(code.attr & Attr.present)) throw new GuestFault(Vector.np, error);
  return { code, cpl: code.attr & Attr.conforming ? m.cpl : dplOf(code.attr) };
}

function flagsAtEntry(m: Machine, isInterruptGate: boolean): void {
  const drop = Flag.tf | Flag.nt | Flag.rf | Flag.vm | (isInterruptGate ? Flag.if : 0);
  m.set32(State.flagsSystem, m.get32(State.flagsSystem) & ~drop);
}

function deliverLong(m: Machine, vector: number, kind: EventKind, errorCode: number | undefined): void {
  const gate = readGate(m, vector, kind, 16);
  const { code, cpl } = handlerSegment(m, gate.selector);
  if (!(code.attr & Attr.l) || code.attr & Attr.db) throw gp(gate.selector & ~3);
  needTarget(m, gate.offset, code);
  const changes = cpl !== m.cpl;
  const returnIp = m.toIp(m.nextRip);
  const flags = m.rflags;
  const oldSs = m.get32(State.selector + Seg.ss * 4);
  const oldCs = m.get32(State.selector + Seg.cs * 4);
  const [spLo, spHi] = [m.gprLo(4), m.gprHi(4)];
  let sp = m.getAddress(4 * 8);
  if (gate.ist) sp = m.asSupervisor(() => m.readAddress(m.getAddress(State.trBase) + 28 + gate.ist * 8));
  else if (changes) sp = m.asSupervisor(() => m.readAddress(m.getAddress(State.trBase) + 4 + cpl * 8));
  sp = Math.floor(sp / 16) * 16;
  const push = () => {
    const stack = new Stack(m, sp, 8, 0, 0);
    stack.push(oldSs);
    stack.pushPair(spLo, spHi);
    stack.push(flags);
    stack.push(oldCs);
    stack.push(returnIp);
    if (errorCode !== undefined) stack.push(errorCode);
    sp = stack.pointer;
  };
  if (changes) m.asSupervisor(push);
  else push();
  if (changes) setSegment(m, Seg.ss, cpl, 0, 0, 0);
  flagsAtEntry(m, (gate.type & 0x1f) === 0xe);
  m.setAddress(4 * 8, sp);
  setCode(m, code, cpl);
  m.setIp(gate.offset);
}

function deliverProtected(m: Machine, vector: number, kind: EventKind, errorCode: number | undefined): void {
  const gate = readGate(m, vector, kind, 8);
  const { code, cpl } = handlerSegment(m, gate.selector);
  const wide = (gate.type & 8) !== 0;
  const target = wide ? gate.offset : gate.offset & 0xffff;
  needTarget(m, target, code);
  const width = wide ? 4 : 2;
  const returnIp = m.toIp(m.nextRip);
  const flags = m.rflags;
  const oldCs = m.get32(State.selector + Seg.cs * 4);
  let stack = Stack.current(m, width);
  let newStack: ReturnType<typeof readDescriptor> | undefined;
  if (cpl !== m.cpl) {
    const tss = m.getAddress(State.trBase) + 4 + cpl * 8;
    const [sp, ss] = m.asSupervisor(() => [m.read32(tss) >>> 0, m.read16(tss + 4)]);
    newStack = readDescriptor(m, ss, Vector.ts);
    stack = new Stack(m, sp, width, newStack.base, newStack.attr & Attr.db ? 2 ** 32 : 2 ** 16);
  }
  const oldSs = m.get32(State.selector + Seg.ss * 4);
  const oldSp = m.gprLo(4) >>> 0;
  m.asSupervisor(() => {
    if (newStack) {
      stack.push(oldSs);
      stack.push(oldSp);
    }
    stack.push(flags);
    stack.push(oldCs);
    stack.push(returnIp);
    if (errorCode !== undefined) stack.push(errorCode);
  });
  if (newStack) setDescriptor(m, Seg.ss, newStack);
  flagsAtEntry(m, !(gate.type & 1));
  setCode(m, code, cpl);
  stack.commit();
  m.setIp(target);
}

/** IRET in every mode. */
export function interruptReturn(m: Machine, width: number): void {
  m.set32(State.nmiBlocked, 0);
  if (!m.isProtected) return returnReal(m, width);
  if (m.get32(State.flagsSystem) & Flag.nt && !m.isLong) throw gp();
  if (m.isLong && m.get32(State.flagsSystem) & Flag.nt) throw gp();
  const stack = Stack.current(m, width);
  const ip = stack.pop();
  const selector = stack.pop() & 0xffff;
  const flags = stack.pop();
  const rpl = selector & 3;
  if (rpl < m.cpl) throw gp(selector & ~3);
  const code = codeSegment(m, selector, rpl);
  needTarget(m, ip, code);
  const outward = rpl > m.cpl;
  const oldCpl = m.cpl;
  const long = m.isLong;
  if (outward || m.is64) {
    const [spLo, spHi] = width === 8 ? stack.popPair() : [stack.pop(), 0];
    const ss = stack.pop() & 0xffff;
    const target = long && code.attr & Attr.l;
    const ssDescriptor = (ss & ~3) === 0 ? undefined : readDescriptor(m, ss);
    if (!ssDescriptor && !(target && rpl < 3)) throw gp();
    if (ssDescriptor && (!(ssDescriptor.attr & Attr.rw) || ssDescriptor.attr & Attr.code)) throw gp(ss & ~3);
    setCode(m, code, rpl);
    if (ssDescriptor) setDescriptor(m, Seg.ss, ssDescriptor);
    else setSegment(m, Seg.ss, ss, 0, 0, 0);
    if (width === 2 && !target) m.set32(4 * 8, (m.gprLo(4) & ~0xffff) | spLo);
    else m.setPair(4 * 8, spLo, spHi);
    if (outward) dropInnerSegments(m, rpl);
  } else {
    setCode(m, code, rpl);
    stack.commit();
  }
  restoreFlags(m, flags, width, oldCpl);
  m.updateMode();
  // RF lasts for one instruction; only stepping, which knows when that is over, may see it.
  if (!m.isStepping) m.set32(State.flagsSystem, m.get32(State.flagsSystem) & ~Flag.rf);
  m.setIp(ip);
}

function restoreFlags(m: Machine, flags: number, width: number, cpl: number): void {
  const old = m.rflags;
  let mask = 0x8d5 | Flag.tf | Flag.df | Flag.nt;
  if (width >= 4) mask |= Flag.rf | Flag.ac | Flag.id;
  if (cpl === 0) mask |= Flag.iopl | (width >= 4 ? Flag.vif | Flag.vip : 0);
  if (cpl <= ((old >> 12) & 3)) mask |= Flag.if;
  m.rflags = (old & ~mask) | (flags & mask);
}

/** Data segments that the outer level may not use become null. */
function dropInnerSegments(m: Machine, cpl: number): void {
  for (const segment of [Seg.es, Seg.ds, Seg.fs, Seg.gs]) {
    const attr = m.get32(State.segAttr + segment * 4);
    if (!(attr & Attr.present)) continue;
    const conforming = attr & Attr.code && attr & Attr.conforming;
    if (!conforming && dplOf(attr) < cpl) loadNull(m, segment, 0);
  }
}

function returnReal(m: Machine, width: number): void {
  const stack = Stack.current(m, width);
  const ip = stack.pop();
  const cs = stack.pop() & 0xffff;
  const flags = stack.pop();
  needTarget(m, ip);
  stack.commit();
  restoreFlags(m, flags, width, 0);
  setSegment(m, Seg.cs, cs, cs * 16, 0xffff, 0x9b);
  m.updateMode();
  m.setIp(ip);
}
