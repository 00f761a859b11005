import { type Decoded, Seg } from "../decode/decoded.ts";
import { Flag } from "../semantics/flags.ts";
import { State } from "../state/layout.ts";
import { ud } from "./faults.ts";
import type { Machine } from "./machine.ts";
import { Attr, Efer } from "./registers.ts";
import { setSegment } from "./segments.ts";

export const FLAT_CODE64 = Attr.present | Attr.s | Attr.code | Attr.rw | Attr.accessed | Attr.l | Attr.g;
const FLAT_CODE32 = Attr.present | Attr.s | Attr.code | Attr.rw | Attr.accessed | Attr.db | Attr.g;
export const FLAT_DATA = Attr.present | Attr.s | Attr.rw | Attr.accessed | Attr.db | Attr.g;
export const dpl = (n: number) => n << Attr.dplShift;

export function flatCode(m: Machine, selector: number, cpl: number, wide: boolean): void {
  setSegment(m, Seg.cs, selector, 0, -1, (wide ? FLAT_CODE64 : FLAT_CODE32) | dpl(cpl));
  m.set32(State.cpl, cpl);
}
export function flatStack(m: Machine, selector: number, cpl: number): void {
  setSegment(m, Seg.ss, selector, 0, -1, FLAT_DATA | dpl(cpl));
}

function loadFlags(m: Machine, flags: number): void {
  m.rflags = flags;
  m.loadedTf = (flags & Flag.tf) !== 0;
}

/** SYSCALL in every mode. */
export function systemCall(m: Machine): void {
  if (!(m.efer & Efer.sce) || !m.isProtected) throw ud();
  const starHi = m.get32(State.star + 4);
  const selector = starHi & 0xfffc;
  const flags = m.rflags;
  if (m.isLong) {
    const from64 = m.is64;
    m.setAddress(1 * 8, from64 ? m.nextRip : m.nextRip >>> 0);
    m.setPair(11 * 8, flags & ~Flag.rf, 0);
    loadFlags(m, flags & ~m.get32(State.sfmask) & ~Flag.rf);
    flatCode(m, selector, 0, true);
    flatStack(m, (selector + 8) & 0xffff, 0);
    m.updateMode();
    m.nextRip = m.getAddress(from64 ? State.lstar : State.cstar);
    return;
  }
  m.setGpr32(1, m.toIp(m.nextRip));
  loadFlags(m, flags & ~(Flag.vm | Flag.if | Flag.rf));
  flatCode(m, selector, 0, false);
  flatStack(m, (selector + 8) & 0xffff, 0);
  m.updateMode();
  m.setIp(m.get32(State.star) >>> 0);
}

/** SYSRET in every mode. */
export function systemReturn(m: Machine, d: Decoded): void {
  if (!(m.efer & Efer.sce) || !m.isProtected) throw ud();
  m.needCpl0();
  const base = (m.get32(State.star + 4) >>> 16) & 0xffff;
  const wide = m.isLong && d.rexW;
  const target = m.getAddress(1 * 8);
  // AMD's manual: RF and VM are cleared; the rest comes from R11.
  loadFlags(m, m.isLong ? m.gprLo(11) & ~(Flag.rf | Flag.vm) : m.rflags | Flag.if);
  flatCode(m, ((wide ? base + 16 : base) | 3) & 0xffff, 3, wide);
  flatStack(m, ((base + 8) | 3) & 0xffff, 3);
  m.updateMode();
  m.nextRip = wide ? target : target >>> 0;
}
