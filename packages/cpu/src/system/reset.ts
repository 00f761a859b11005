import type { VcpuStart } from "../engine.ts";
import { Slot, State } from "../state/layout.ts";
import { resetFpu } from "./fpu-state.ts";
import type { Machine } from "./machine.ts";
import { Attr, LDTR, TR } from "./registers.ts";
import { setSegment } from "./segments.ts";

const FLAT_CODE = Attr.present | Attr.s | Attr.code | Attr.rw | Attr.accessed;
const FLAT_DATA = Attr.present | Attr.s | Attr.rw | Attr.accessed;
const WIDE = Attr.db | Attr.g;
const BUSY_TSS32 = 0x8b;

/** Puts a vcpu into its first state: what PVH asks at entry, or what a processor has after a start-up IPI. */
export function startMachine(m: Machine, start: VcpuStart): void {
  const frameTables = m.get32(State.frameTables);
  m.bytes.fill(0, m.vb, m.vb + 0x1000);
  m.set32(State.frameTables, frameTables);
  const isReal = start.mode === "real";
  m.set32(State.cr0, isReal ? 0x10 : 0x11);
  m.setPair(State.flagRes, 1, 0);
  const limit = isReal ? 0xffff : -1;
  const width = isReal ? 0 : WIDE;
  for (let segment = 0; segment < 6; segment++) {
    const isCode = segment === 1;
    const base = isCode && isReal ? start.entry : 0;
    setSegment(
      m,
      segment,
      isCode && isReal ? start.entry >> 4 : 0,
      base,
      limit,
      (isCode ? FLAT_CODE : FLAT_DATA) | width,
    );
  }
  setSegment(m, TR, 0, 0, 0x67, BUSY_TSS32);
  setSegment(m, LDTR, 0, 0, 0xffff, 0x82);
  m.set32(State.gdtLimit, isReal ? 0xffff : 0);
  m.set32(State.idtLimit, isReal ? 0x3ff : 0);
  m.setPair(State.pat, 0x00070406, 0x00070406);
  m.set32(State.dr + 6 * 8, 0xffff0ff0 | 0);
  m.set32(State.dr + 7 * 8, 0x400);
  resetFpu(m);
  m.setAddress(Slot.gpr + 3 * 8, start.rbx);
  m.setAddress(Slot.rip, start.entry);
  m.updateMode();
  m.flushAll();
}
