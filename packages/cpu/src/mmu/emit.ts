import type { Address, Fn, I32, I64 } from "@xenoserver/wasm";
import { ITLB_ENTRIES, ITLB_ENTRY_BYTES, type MemoryLayout, State } from "../state/layout.ts";

/** Kinds of access, also the argument of `translate`. */
export const Access = { read: 0, write: 1, execute: 2 } as const;

export const state32 = (f: Fn, vb: I32, offset: number) => f.load<"i32">("i32.load", vb, offset);
export const state64 = (f: Fn, vb: I32, offset: number) => f.load<"i64">("i64.load", vb, offset);

/** Emits where the ITLB in use has a page, if it has it. */
export function emitItlbEntry(f: Fn, vb: I32, page: I64): I32 {
  const index = page
    .shrU(12 - Math.log2(ITLB_ENTRY_BYTES))
    .wrap()
    .and((ITLB_ENTRIES - 1) * ITLB_ENTRY_BYTES);
  return f.let(index.add(state32(f, vb, State.itlb)));
}

/** Emits "frame number of a host address". */
export const frameOf = (host: Address, layout: MemoryLayout): I32 => host.sub(layout.framesOffset).shrU(12).wrap();

/**
 * Number of an address's bit in `State.largePages`: by its GiB, the kernel's half apart from that of programs. Otherwise programs, which
 * have small pages, would share bits with the kernel's direct map, which begins at a multiple of 64 GiB too.
 */
export const largePageBit = (va: I64): I64 => va.shrU(30).and(31).or(va.shrU(58).and(32));
