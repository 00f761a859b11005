import { type Fn, type I32, type I64, i32 } from "@xenoserver/wasm";
import {
  REGION_CACHE_BITS,
  REGION_CACHE_HALF_BYTES,
  REGION_CACHE_OFFSET,
  RegionCache,
  RegionCacheUse,
  State,
} from "../state/layout.ts";

const state = (f: Fn, vb: I32, offset: number): I32 => f.load<"i32">("i32.load", vb, offset);

/** Emits the address of the entry that a linear address can be in. */
function emitEntry(f: Fn, vb: I32, at: I64): I32 {
  const low = f.let(at.wrap());
  const hash = low
    .xor(low.shrU(REGION_CACHE_BITS))
    .and((1 << REGION_CACHE_BITS) - 1)
    .shl(4);
  return f.let(hash.add(state(f, vb, State.regionCache)));
}

/** Emits the look-up of a linear address; `place` is valid if it matches. */
export function emitFindRegion(f: Fn, vb: I32, at: I64): { readonly matches: I32; readonly place: I32 } {
  const entry = emitEntry(f, vb, at);
  return {
    matches: f.load<"i64">("i64.load", entry, RegionCache.address).eq(at),
    place: f.load<"i32">("i32.load", entry, RegionCache.place),
  };
}

/**
 * Emits the making of an entry in the cache in use.
 * @param isGlobal whether all of the region's pages are global
 */
export function emitEnterRegion(f: Fn, vb: I32, at: I64, place: I32, isGlobal: I32): void {
  const entry = emitEntry(f, vb, at);
  f.store("i64.store", entry, at, RegionCache.address);
  f.store("i32.store", entry, place, RegionCache.place);
  const isUser = state(f, vb, State.regionCache).eq(vb.add(REGION_CACHE_OFFSET));
  const kernel = f.select(
    isGlobal,
    i32(RegionCacheUse.kernel),
    i32(RegionCacheUse.kernel | RegionCacheUse.kernelLocal),
  );
  const use = f.select(isUser, i32(RegionCacheUse.user), kernel);
  f.store("i32.store", vb, state(f, vb, State.regionCacheUsed).or(use), State.regionCacheUsed);
}

/** Emits the emptying of those caches (bits of `RegionCacheUse`) that have entries. */
export function emitEmptyRegionCaches(f: Fn, vb: I32, which: I32): void {
  const used = f.let(state(f, vb, State.regionCacheUsed));
  const now = f.let(used.and(which));
  f.if(now, () => {
    // No code starts at address −1.
    const empty = (offset: number) => f.memoryFill(vb.add(offset), i32(0xff), i32(REGION_CACHE_HALF_BYTES));
    const { user, kernel, kernelLocal } = RegionCacheUse;
    f.if(now.and(user), () => empty(REGION_CACHE_OFFSET));
    f.if(now.and(kernel | kernelLocal), () => empty(REGION_CACHE_OFFSET + REGION_CACHE_HALF_BYTES));
    const left = used.and(f.select(now.and(kernel | kernelLocal), i32(user), i32(-1)));
    f.store("i32.store", vb, left.and(f.select(now.and(user), i32(~user), i32(-1))), State.regionCacheUsed);
  });
}
