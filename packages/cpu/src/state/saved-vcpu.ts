/**
 * A vcpu's architectural state as bytes: what makes it the same vcpu in another process, with another engine. What an engine keeps
 * beside it (TLBs, decoded and translated code) is made anew.
 */
import type { Machine } from "../system/machine.ts";
import { Slot, State, vcpuArea } from "./layout.ts";

/** Parts of the vcpu's area, from and up to: registers, flags, privilege, a load from a device, control and segments, x87 and SSE. */
const RANGES: readonly (readonly [from: number, to: number])[] = [
  [Slot.gpr, Slot.zero],
  [Slot.segBase, Slot.rip + 8],
  [State.flagRes, State.instructions],
  [State.cpl, State.cpl + 4],
  [State.pending, State.mmioReady + 4],
  [State.cr0, State.cr8 + 8],
  [State.mxcsr, State.fpuDp + 8],
  [State.nmiBlocked, State.nmiBlocked + 4],
  [State.fpr, State.fpr + 8 * 16],
  [State.xmm, State.xmm + 16 * 16],
];
export const SAVED_VCPU_BYTES = RANGES.reduce((sum, [from, to]) => sum + to - from, 0);

/** @param memory  the domain's; the vcpu must stand still */
export function saveVcpu(memory: WebAssembly.Memory, id: number): Uint8Array<ArrayBuffer> {
  const area = new Uint8Array(memory.buffer, vcpuArea(id));
  const saved = new Uint8Array(SAVED_VCPU_BYTES);
  let at = 0;
  for (const [from, to] of RANGES) {
    saved.set(area.subarray(from, to), at);
    at += to - from;
  }
  return saved;
}

/** @throws RangeError for bytes of another length */
export function loadVcpu(m: Machine, saved: Uint8Array): void {
  if (saved.length !== SAVED_VCPU_BYTES)
    throw new RangeError(`a vcpu's state of ${saved.length} bytes, expected ${SAVED_VCPU_BYTES}`);
  let at = 0;
  for (const [from, to] of RANGES) {
    m.bytes.set(saved.subarray(at, at + to - from), m.vb + from);
    at += to - from;
  }
  m.updateMode();
  m.flushAll();
}
