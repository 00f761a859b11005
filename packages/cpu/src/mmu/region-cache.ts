import { type Fn, type I32, type I64, i32 } from "@xenoserver/wasm";
import {
  REGION_CACHE_BITS,
  REGION_CACHE_HALF_BYTES,
  REGION_CACHE_OFFSET,
  RegionCache,
  RegionCacheHalf,
  State,
} from "../state/layout.ts";

/** Emits the address of the entry that a linear address can be in, less `REGION_CACHE_OFFSET`. */
function emitEntry(f: Fn, vb: I32, at: I64): I32 {
  const low = f.let(at.wrap());
  const hash = low
    .xor(low.shrU(REGION_CACHE_BITS))
    .and((1 << REGION_CACHE_BITS) - 1)
    .shl(4);
  const half = at.shrU(63).wrap().shl(Math.log2(REGION_CACHE_HALF_BYTES));
  return f.let(vb.add(hash.or(half)));
}

/** Emits the look-up of a linear address; `place` is valid if it matches. */
export function emitFindRegion(f: Fn, vb: I32, at: I64): { readonly matches: I32; readonly place: I32 } {
  const entry = emitEntry(f, vb, at);
  return {
    matches: f.load<"i64">("i64.load", entry, REGION_CACHE_OFFSET + RegionCache.address).eq(at),
    place: f.load<"i32">("i32.load", entry, REGION_CACHE_OFFSET + RegionCache.place),
  };
}

/** Emits the making of an entry. */
export function emitEnterRegion(f: Fn, vb: I32, at: I64, place: I32): void {
  const entry = emitEntry(f, vb, at);
  f.store("i64.store", entry, at, REGION_CACHE_OFFSET + RegionCache.address);
  f.store("i32.store", entry, place, REGION_CACHE_OFFSET + RegionCache.place);
  const half = f.select(at.ltS(0), i32(RegionCacheHalf.kernel), i32(RegionCacheHalf.user));
  const used = f.load<"i32">("i32.load", vb, State.regionCacheUsed);
  f.store("i32.store", vb, used.or(half), State.regionCacheUsed);
}

/** Emits the emptying of those halves (bits of `RegionCacheHalf`) that have entries. */
export function emitEmptyRegionCache(f: Fn, vb: I32, halves: I32): void {
  const used = f.let(f.load<"i32">("i32.load", vb, State.regionCacheUsed));
  const now = f.let(used.and(halves));
  f.if(now, () => {
    // No code starts at address −1.
    const empty = (offset: number) => f.memoryFill(vb.add(offset), i32(0xff), i32(REGION_CACHE_HALF_BYTES));
    f.if(now.and(RegionCacheHalf.user), () => empty(REGION_CACHE_OFFSET));
    f.if(now.and(RegionCacheHalf.kernel), () => empty(REGION_CACHE_OFFSET + REGION_CACHE_HALF_BYTES));
    f.store("i32.store", vb, used.and(now.not()), State.regionCacheUsed);
  });
}
