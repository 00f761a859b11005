import { type Fn, type I32, type I64, i32, i64 } from "@xenoserver/wasm";
import { ITLB_BYTES, ITLB_OFFSET, State, TLB_BYTES, TLB_ENTRIES, TLB_OFFSET } from "../state/layout.ts";
import { state32, state64 } from "./emit.ts";

/**
 * Each change of page tables drops what is cached of the old ones, at every switch between programs. A program has used a few dozen
 * pages by then, of tables with room for thousands: they are divided into 64 groups, and only those that were used are looked at.
 */
const GROUPS = 64;
const PAGE_BITS = 12;
export const TLB_GROUP_BYTES = TLB_BYTES / GROUPS;
export const ITLB_GROUP_BYTES = ITLB_BYTES / GROUPS;

/** Notes an entry's group: `number` modulo 64, of the table at address `table` among those of `bytes` that begin at `first`. */
function emitNote(f: Fn, vb: I32, used: number, table: I32, first: number, bytes: number, number: I64): void {
  const word = f.let(table.sub(first).sub(vb).shrU(Math.log2(bytes)).shl(3).add(vb));
  f.store("i64.store", word, f.load<"i64">("i64.load", word, used).or(i64(1).shl(number)), used);
}

/** Neighbouring pages lie in neighbouring entries, so the number of a group is a part of the address. */
export const emitNoteTlb = (f: Fn, vb: I32, va: I64): void =>
  emitNote(
    f,
    vb,
    State.tlbUsed,
    state32(f, vb, State.tlb),
    TLB_OFFSET,
    TLB_BYTES,
    va.shrU(PAGE_BITS + Math.log2(TLB_ENTRIES / GROUPS)),
  );
export const emitNoteItlb = (f: Fn, vb: I32, va: I64): void =>
  emitNote(f, vb, State.itlbUsed, state32(f, vb, State.itlb), ITLB_OFFSET, ITLB_BYTES, va.shrU(15));
/** The same for the host program, which has the ITLB's place within the vcpu's area. */
export function noteItlb(words: Int32Array, vb: number, itlb: number, page: number): void {
  const set = (itlb - ITLB_OFFSET) / ITLB_BYTES;
  const group = Math.floor(page / 2 ** 15) & (GROUPS - 1);
  words[(vb + State.itlbUsed + set * 8 + (group >> 5) * 4) >>> 2] |= 1 << (group & 31);
}
/** Emits the body for each group of a table that was used, with its address, and the note that none is any more. */
export function emitEachUsed(
  f: Fn,
  vb: I32,
  used: number,
  table: { readonly offset: number; readonly groupBytes: number },
  body: (group: I32) => void,
): void {
  const left = f.var("i64", state64(f, vb, used));
  f.store("i64.store", vb, i64(0), used);
  const size = i32(Math.log2(table.groupBytes));
  f.while(
    () => left.get().eqz().eqz(),
    () => {
      body(f.let(left.get().ctz().wrap().shl(size).add(vb.add(table.offset))));
      left.set(left.get().and(left.get().sub(1)));
    },
  );
}
