import type { Decoded } from "../decode/decoded.ts";
import { State } from "../state/layout.ts";
import type { Machine } from "./machine.ts";

/** Forgets what is cached of the translation of a linear address. */
export function invalidatePage(m: Machine, va: number): void {
  // A large page may have left many entries. The number of its bit is `largePageBit`'s of mmu/emit.ts.
  const gib = ((Math.floor(va / 2 ** 30) % 32) + 32) % 32;
  if ((m.get32(State.largePages + (va < 0 ? 4 : 0)) >>> gib) & 1) m.flushAll();
  else m.mmu.flushTlbPage(m.vb, BigInt(va));
}
/** INVLPG in every mode; the usual case is semantics/integer/invalidate.ts. */
export function invalidateOperand(m: Machine, d: Decoded): void {
  m.needCpl0();
  const va = m.address(d);
  if (va >= -(2 ** 47) && va < 2 ** 47) invalidatePage(m, va);
}
