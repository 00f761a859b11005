import type { Address, Fn, I32, I64 } from "@xenoserver/wasm";
import { i32, i64 } from "@xenoserver/wasm";
import { EmptyTlbTag, TLB_ENTRIES, TLB_ENTRY_BYTES, Tlb } from "../state/layout.ts";

const PAGE_BITS = 12;

/** What a lookup needs to know of whoever emits it. */
export interface TlbEmitter {
  readonly f: Fn;
  /** Address of the TLB in use. */
  tlbBase(): I32;
}

/** Emits the distance of an address's entry from the start of its set. */
export const tlbEntryOffset = (at: I64): I32 =>
  at
    .wrap()
    .shrU(PAGE_BITS - Math.log2(TLB_ENTRY_BYTES))
    .and((TLB_ENTRIES - 1) * TLB_ENTRY_BYTES);

/** Emits the tag of the page that begins at an address. */
export const tlbTag = (page: I64): I64 => page.sub(1);
/** Emits the page that a tag belongs to. */
export const pageOfTlbTag = (tag: I64): I64 => tag.add(1);
/** Emits a tag for an empty entry at a distance from the start of its set or of all: that of a page which has the entry behind it. */
export const emptyTlbTag = (offset: I32): I64 =>
  tlbTag(
    offset
      .add(TLB_ENTRY_BYTES)
      .extU()
      .shl(PAGE_BITS - Math.log2(TLB_ENTRY_BYTES)),
  );

/** Emits the emptying of a set, or of a group of its entries; the first of any has the tag that is right for the set's first. */
export function emitEmptyTlb(f: Fn, from: I32, bytes: number): void {
  f.memoryFill(from, i32(0xff), i32(bytes));
  for (const tag of [Tlb.read, Tlb.write]) f.store("i64.store", from, i64(EmptyTlbTag.first), tag);
}

/** What a TLB check tells. */
interface TlbLookup {
  readonly matches: I32;
  /** In its place, for whoever branches where it does not. */
  misses(): I32;
  /** Valid only if it matches. */
  readonly host: Address;
}
/** The entry that an address can be in. */
export interface TlbEntry {
  /** Its address; a local. */
  readonly entry: I32;
  /** How far its tag lies below the address; may be used once. */
  readonly distance: I64;
}
/**
 * Emits the look at an address's entry. The tag comes first in the difference since V8 would load it twice as the second operand, or as one of a
 * comparison.
 * @param at    linear address; a local
 * @param tag   `Tlb.read` or `Tlb.write`
 */
export function emitTlbEntry(e: TlbEmitter, at: I64, tag: number): TlbEntry {
  const entry = e.f.let(tlbEntryOffset(at).add(e.tlbBase()));
  return { entry, distance: e.f.load<"i64">("i64.load", entry, tag).sub(at) };
}
/**
 * Emits whether so many bytes (1 to 4096) at an address are in its entry's page. One comparison tells both whether the address is there and whether the
 * access stays there: tags are one less than their page's address, so that the distance is −1 at its first byte.
 */
export const isInPage = (distance: I64, size: number): I32 => distance.geU(size - 4097);
/** Emits the opposite, for whoever branches on that. */
export const leavesPage = (distance: I64, size: number): I32 => distance.ltU(size - 4097);
/** Emits the host address of a linear address that is in an entry's page. */
export const hostOfEntry = (f: Fn, entry: I32, at: I64): Address => f.loadAddress(entry, Tlb.addend).add(f.address(at));

/**
 * Emits the inline TLB check.
 * @param at    linear address; a local
 * @param size  bytes, 1–4096
 * @param tag   `Tlb.read` or `Tlb.write`
 * @returns     what may be used once each
 */
export function emitTlbLookup(e: TlbEmitter, at: I64, size: number, tag: number): TlbLookup {
  const { entry, distance } = emitTlbEntry(e, at, tag);
  return {
    matches: isInPage(distance, size),
    misses: () => leavesPage(distance, size),
    host: hostOfEntry(e.f, entry, at),
  };
}
