import type { Address, Fn, I32, I64 } from "@xenoserver/wasm";
import { i64 } from "@xenoserver/wasm";
import { TLB_ENTRIES, Tlb } from "../state/layout.ts";

/** What a lookup needs to know of whoever emits it. */
interface Emitter {
  readonly f: Fn;
  /** Address of the TLB in use. */
  tlbBase(): I32;
}

/**
 * Emits the inline TLB check. An access that leaves its page never matches: the page of its *last* byte is compared with
 * the entry chosen by its first, so one comparison covers both the tag and the crossing.
 * @param at    linear address; a local
 * @param size  bytes, 1–64
 * @param tag   `Tlb.read` or `Tlb.write`
 * @returns     `matches` and, only valid then, the host address; each may be used once
 */
export function emitTlbLookup(e: Emitter, at: I64, size: number, tag: number): { matches: I32; host: Address } {
  const { f } = e;
  const index = at
    .shrU(7)
    .wrap()
    .and((TLB_ENTRIES - 1) << 5);
  const entry = f.let(index.add(e.tlbBase()));
  const lastPage = at.add(size - 1).and(i64(-4096));
  const matches = f.load<"i64">("i64.load", entry, tag).eq(lastPage);
  const host = f.loadAddress(entry, Tlb.addend).add(f.address(at));
  return { matches, host };
}
