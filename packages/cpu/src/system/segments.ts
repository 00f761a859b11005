import { Seg } from "../decode/decoded.ts";
import { Slot, State } from "../state/layout.ts";
import { GuestFault, gp, Vector } from "./faults.ts";
import type { Machine } from "./machine.ts";
import { Attr, LDTR, TR } from "./registers.ts";

export interface Descriptor {
  readonly selector: number;
  /** Linear address of the descriptor itself. */
  readonly at: number;
  readonly base: number;
  /** Unsigned, in bytes. */
  readonly limit: number;
  readonly attr: number;
}

export const dplOf = (attr: number): number => (attr >> Attr.dplShift) & 3;

/**
 * Reads a descriptor from the GDT or LDT. @throws fault `vector` with the selector as error code if it is outside the table
 */
export function readDescriptor(m: Machine, selector: number, vector: number = Vector.gp, wide = false): Descriptor {
  const local = (selector & 4) !== 0;
  const table = m.getAddress(local ? State.ldtrBase : State.gdtBase);
  const limit = local ? m.get32(State.segLimit + LDTR * 4) >>> 0 : m.get32(State.gdtLimit) >>> 0;
  const offset = selector & ~7;
  if (offset + (wide ? 15 : 7) > limit) throw new GuestFault(vector, selector & ~3);
  return m.asSupervisor(() => {
    const at = table + offset;
    const lo = m.read32(at);
    const hi = m.read32(at + 4);
    let base = ((lo >>> 16) | ((hi & 0xff) << 16) | (hi & 0xff000000)) >>> 0;
    if (wide) base += m.read32(at + 8) * 2 ** 32;
    const raw = (lo & 0xffff) | (hi & 0xf0000);
    const attr = ((hi >> 8) & 0xff) | ((hi >> 12) & 0xf00);
    const bytes = attr & Attr.g ? ((raw << 12) | 0xfff) >>> 0 : raw;
    return { selector, at, base, limit: bytes, attr };
  });
}

/** Marks a descriptor accessed in memory. */
export function setAccessed(m: Machine, d: Descriptor): Descriptor {
  if (d.attr & Attr.accessed) return d;
  m.asSupervisor(() => m.write8(d.at + 5, m.read8(d.at + 5) | Attr.accessed));
  return { ...d, attr: d.attr | Attr.accessed };
}

/** Fills the hidden part of a segment register. */
export function setSegment(
  m: Machine,
  segment: number,
  selector: number,
  base: number,
  limit: number,
  attr: number,
): void {
  m.set32(State.selector + segment * 4, selector);
  m.set32(State.segLimit + segment * 4, limit | 0);
  m.set32(State.segAttr + segment * 4, attr);
  if (segment === TR) m.setAddress(State.trBase, base);
  else if (segment === LDTR) m.setAddress(State.ldtrBase, base);
  else m.setAddress(Slot.segBase + segment * 8, base);
}

export function setDescriptor(m: Machine, segment: number, d: Descriptor): void {
  setSegment(m, segment, d.selector, d.base, d.limit, d.attr);
}

/** Real and virtual-8086 mode: base is the selector times 16. */
function loadReal(m: Machine, segment: number, selector: number): void {
  m.set32(State.selector + segment * 4, selector);
  m.setAddress(Slot.segBase + segment * 8, selector * 16);
}

/** MOV or POP to ES, SS, DS, FS, GS. @throws GuestFault */
export function loadSegment(m: Machine, segment: number, selector: number): void {
  if (!m.isProtected) {
    loadReal(m, segment, selector);
    return m.updateMode();
  }
  if ((selector & ~3) === 0) {
    // A null SS is allowed in 64-bit mode below CPL 3.
    if (segment === Seg.ss && !(m.is64 && m.cpl < 3 && (selector & 3) === m.cpl)) throw gp();
    loadNull(m, segment, selector);
    return m.updateMode();
  }
  const d = readDescriptor(m, selector);
  const code = selector & ~3;
  const isCode = d.attr & Attr.code;
  const rpl = selector & 3;
  if (!(d.attr & Attr.s)) throw gp(code);
  if (segment === Seg.ss) {
    if (isCode || !(d.attr & Attr.rw) || rpl !== m.cpl || dplOf(d.attr) !== m.cpl) throw gp(code);
    if (!(d.attr & Attr.present)) throw new GuestFault(Vector.ss, code);
  } else {
    if (isCode && !(d.attr & Attr.rw)) throw gp(code);
    const conforming = isCode && d.attr & Attr.conforming;
    if (!conforming && (rpl > dplOf(d.attr) || m.cpl > dplOf(d.attr))) throw gp(code);
    if (!(d.attr & Attr.present)) throw new GuestFault(Vector.np, code);
  }
  setDescriptor(m, segment, setAccessed(m, d));
  m.updateMode();
}

/** A null selector: on AMD processors base and limit stay, which 64-bit kernels that use FS and GS bases may rely on being 0 or not. */
export function loadNull(m: Machine, segment: number, selector: number): void {
  const keepBase = m.isLong;
  const base = keepBase && segment < Seg.fs ? 0 : 0;
  setSegment(m, segment, selector, base, 0, 0);
}

/** Checks a code segment for a far transfer that does not change privilege, and returns it. */
export function codeSegment(m: Machine, selector: number, cpl: number): Descriptor {
  if ((selector & ~3) === 0) throw gp();
  const d = readDescriptor(m, selector);
  const code = selector & ~3;
  if (!(d.attr & Attr.s) || !(d.attr & Attr.code)) throw gp(code);
  if (d.attr & Attr.conforming ? dplOf(d.attr) > cpl : dplOf(d.attr) !== cpl) throw gp(code);
  if (!(d.attr & Attr.present)) throw new GuestFault(Vector.np, code);
  if (m.isLong && d.attr & Attr.l && d.attr & Attr.db) throw gp(code);
  return d;
}

/**
 * Checks where control is about to go, before anything is changed.
 * @param code  the code segment that will be loaded; the present one if there is none
 * @throws #GP if the address is beyond the segment's limit, or not canonical in 64-bit mode
 */
export function needTarget(m: Machine, ip: number, code?: Descriptor): void {
  const attr = code?.attr ?? m.get32(State.segAttr + Seg.cs * 4);
  const is64 = m.isLong && (attr & Attr.l) !== 0;
  const limit = code?.limit ?? m.codeLimit;
  if (is64 ? ip < -(2 ** 47) || ip >= 2 ** 47 : ip > limit) throw gp();
}

/** Loads CS and sets CPL. */
export function setCode(m: Machine, d: Descriptor, cpl: number): void {
  setSegment(
    m,
    Seg.cs,
    (d.selector & ~3) | cpl,
    m.isLong && d.attr & Attr.l ? 0 : d.base,
    d.limit,
    setAccessed(m, d).attr,
  );
  m.set32(State.cpl, cpl);
  m.updateMode();
}
