import { Flag } from "../semantics/flags.ts";
import { State } from "../state/layout.ts";
import { hiOf, type Machine } from "./machine.ts";

/**
 * Copies between guest-linear memory and a buffer with the rights of the kernel, which hands over its own pointers: SMAP does not
 * stand between it and the hypervisor.
 * @returns false if any byte is not mapped as needed; nothing is copied then
 */
export function copyLinear(m: Machine, at: number, buffer: Uint8Array, access: 0 | 1): boolean {
  const flags = m.get32(State.flagsSystem);
  m.set32(State.flagsSystem, flags | Flag.ac);
  m.updateMode();
  try {
    return m.asSupervisor(() => copyPieces(m, at, buffer, access));
  } finally {
    m.set32(State.flagsSystem, flags);
    m.updateMode();
  }
}

function copyPieces(m: Machine, at: number, buffer: Uint8Array, access: 0 | 1): boolean {
  const pieces: [number, number, number][] = [];
  for (let done = 0; done < buffer.length; ) {
    const va = at + done;
    const count = Math.min(buffer.length - done, 4096 - (((va % 4096) + 4096) % 4096));
    const host = m.mmu.hostAddress(m.vb, va >>> 0, hiOf(va), count, access);
    if (host === 0) {
      m.set32(State.pending, 0);
      return false;
    }
    pieces.push([done, count, host]);
    done += count;
  }
  for (const [done, count, host] of pieces) {
    if (access) m.bytes.set(buffer.subarray(done, done + count), host);
    else buffer.set(m.bytes.subarray(host, host + count), done);
  }
  return true;
}
