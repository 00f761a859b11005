import { type Decoded, Seg } from "../decode/decoded.ts";
import { type Decoder, MAX_INSTRUCTION_BYTES } from "../decode/decoder.ts";
import { Slot, State } from "../state/layout.ts";
import { hiOf, type Machine } from "./machine.ts";

/** Instructions that reach memory through SS: by their base register, or by the nature of a stack. */
function usesStackSegment(d: Decoded): boolean {
  if (d.memory) return d.memory.segment === Seg.ss;
  return /^(PUSH|POP|CALL|RET|ENTER|LEAVE)/.test(d.def.name);
}

/** Decodes the instruction at RIP to learn whether its faulting access went through SS: then it is #SS rather than #GP. */
export function isStackAccess(m: Machine, decoder: Decoder): boolean {
  const rip = m.getAddress(Slot.rip);
  const bytes = new Uint8Array(MAX_INSTRUCTION_BYTES);
  let count = 0;
  while (count < bytes.length) {
    const at = m.mmu.hostAddress(m.vb, (rip + count) >>> 0, hiOf(rip + count), 1, 0);
    if (at === 0) break;
    bytes[count++] = m.bytes[at];
  }
  try {
    const d = decoder.decode(bytes, 0, count, m.get32(State.codeMode));
    return d !== undefined && usesStackSegment(d);
  } catch {
    return false;
  }
}
