import type { Decoded } from "../decode/decoded.ts";
import { Seg } from "../decode/decoded.ts";
import { defineSystem } from "../semantics/define.ts";
import { Flag } from "../semantics/flags.ts";
import { Slot, State } from "../state/layout.ts";
import { gp, ud } from "./faults.ts";
import type { Machine } from "./machine.ts";
import { TR } from "./registers.ts";

/** Port input and output, HLT and hypercalls: what a guest asks of the world outside. */

/** CPL ≤ IOPL, or the task's permission bitmap has all bits clear. @throws #GP */
function needPort(m: Machine, port: number, size: number): void {
  if (!m.isProtected || m.cpl <= ((m.get32(State.flagsSystem) >> 12) & 3)) return;
  const allowed = m.asSupervisor(() => {
    const tss = m.getAddress(State.trBase);
    const limit = m.get32(State.segLimit + TR * 4) >>> 0;
    if (limit < 0x67) return false;
    const at = m.read16(tss + 0x66) + (port >> 3);
    if (at + 1 > limit) return false;
    const mask = ((1 << size) - 1) << (port & 7);
    return (m.read16(tss + at) & mask) === 0;
  });
  if (!allowed) throw gp();
}

const portSize = (d: Decoded, byteForm: boolean): 1 | 2 | 4 => (byteForm ? 1 : d.operandSize === 2 ? 2 : 4);
function input(m: Machine, port: number, sizeBytes: 1 | 2 | 4): void {
  needPort(m, port, sizeBytes);
  m.exit = { kind: "pio-in", port, sizeBytes };
}
function output(m: Machine, port: number, sizeBytes: 1 | 2 | 4): void {
  needPort(m, port, sizeBytes);
  const value = m.gprLo(0) & (sizeBytes === 4 ? -1 : sizeBytes === 2 ? 0xffff : 0xff);
  m.exit = { kind: "pio-out", port, sizeBytes, value: value >>> 0 };
}
const dx = (m: Machine) => m.gprLo(2) & 0xffff;
defineSystem("IN", "e4 Ib", (m, d) => input(m, d.immLo & 0xff, 1));
defineSystem("IN", "e5 Ib", (m, d) => input(m, d.immLo & 0xff, portSize(d, false)));
defineSystem("IN", "ec", (m) => input(m, dx(m), 1));
defineSystem("IN", "ed", (m, d) => input(m, dx(m), portSize(d, false)));
defineSystem("OUT", "e6 Ib", (m, d) => output(m, d.immLo & 0xff, 1));
defineSystem("OUT", "e7 Ib", (m, d) => output(m, d.immLo & 0xff, portSize(d, false)));
defineSystem("OUT", "ee", (m) => output(m, dx(m), 1));
defineSystem("OUT", "ef", (m, d) => output(m, dx(m), portSize(d, false)));

/**
 * INS and OUTS, one element at a time: a repetition begins the instruction again. Ports read as all ones here, since no
 * string device exists on a PVH machine.
 */
function stringPort(m: Machine, d: Decoded, size: 1 | 2 | 4, isInput: boolean): void {
  const mask = d.addressSize === 8 ? Number.NaN : d.addressSize === 4 ? 2 ** 32 : 2 ** 16;
  const count = d.rep ? m.getAddress(8) : 1;
  if (d.rep && count === 0) return;
  needPort(m, dx(m), size);
  const reg = isInput ? 7 : 6;
  const segment = isInput ? Seg.es : d.segmentOverride < 0 ? Seg.ds : d.segmentOverride;
  const offset = Number.isNaN(mask) ? m.getAddress(reg * 8) : (m.gprLo(reg) >>> 0) % mask;
  const base = m.is64 && segment < Seg.fs ? 0 : m.getAddress(Slot.segBase + segment * 8);
  const at = offset + base;
  if (isInput) {
    if (size === 1) m.write8(at, 0xff);
    else if (size === 2) m.write16(at, 0xffff);
    else m.write32(at, -1);
  } else {
    const value = size === 1 ? m.read8(at) : size === 2 ? m.read16(at) : m.read32(at) >>> 0;
    m.exit = { kind: "pio-out", port: dx(m), sizeBytes: size, value };
  }
  const step = m.get32(State.flagsSystem) & Flag.df ? -size : size;
  m.setAddress(reg * 8, m.getAddress(reg * 8) + step);
  if (d.rep) {
    m.setAddress(8, count - 1);
    if (count > 1) m.nextRip = m.thisRip;
  }
}
defineSystem("INSB", "6c", (m, d) => stringPort(m, d, 1, true));
defineSystem("INS", "6d", (m, d) => stringPort(m, d, portSize(d, false), true));
defineSystem("OUTSB", "6e", (m, d) => stringPort(m, d, 1, false));
defineSystem("OUTS", "6f", (m, d) => stringPort(m, d, portSize(d, false), false));

defineSystem("HLT", "f4", (m) => {
  m.needCpl0();
  m.exit = m.interruptsEnabled ? { kind: "halt" } : { kind: "shutdown", reason: "halted-with-interrupts-off" };
});
function hypercall(m: Machine): void {
  m.needCpl0();
  m.exit = { kind: "hypercall" };
}
defineSystem("VMCALL", "0f 01 /0.1", hypercall);
defineSystem("VMMCALL", "0f 01 /3.1", hypercall);

/** PAUSE: a spin loop; other vcpus on this host may need the time, so it counts as a moment to look for work. */
defineSystem("UD", ["0f 0b", "0f b9", "0f ff"], () => {
  throw ud();
});
