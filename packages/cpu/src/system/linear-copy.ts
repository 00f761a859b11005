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
    if (access) move(buffer, done, m.bytes, host, count);
    else move(m.bytes, host, buffer, done, count);
  }
  return true;
}

/** Most copies are of a hypercall's few words, for which an array to copy from takes longer than the bytes. */
const FEW_BYTES = 48;

function move(from: Uint8Array, at: number, to: Uint8Array, toAt: number, count: number): void {
  if (count > FEW_BYTES) to.set(from.subarray(at, at + count), toAt);
  else for (let n = 0; n < count; n++) to[toAt + n] = from[at + n];
}
