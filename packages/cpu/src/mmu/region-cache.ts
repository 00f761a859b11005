import { type Fn, type Func, type I32, type I64, i32, i64, type ModuleBuilder } from "@xenoserver/wasm";
import {
  MAX_REGION_NOTES,
  REGION_CACHE_BITS,
  REGION_CACHE_HALF_BYTES,
  REGION_CACHE_OFFSET,
  REGION_NOTES_BYTES,
  REGION_NOTES_OFFSET,
  REGION_PAGES_BYTES,
  REGION_PAGES_OFFSET,
  RegionCache,
  RegionCacheUse,
  State,
} from "../state/layout.ts";

const state = (f: Fn, vb: I32, offset: number): I32 => f.load<"i32">("i32.load", vb, offset);

/** Address of an entry that is none: no code starts there. */
const NO_ADDRESS = -1;

/** Emits the number of the entry that a linear address can be in. */
function emitHash(f: Fn, at: I64): I32 {
  const low = f.let(at.wrap());
  return low.xor(low.shrU(REGION_CACHE_BITS)).and((1 << REGION_CACHE_BITS) - 1);
}
/** Emits the address of that entry. */
const emitEntry = (f: Fn, vb: I32, hash: I32): I32 => f.let(hash.shl(4).add(state(f, vb, State.regionCache)));

/** What an entry says, valid if it is of the address that was looked for. */
export interface FoundRegion {
  /** The address that the entry is of. */
  readonly address: I64;
  readonly place: I32;
  /** What the region's function is told. */
  readonly arrival: I32;
}
/** Emits the look-up of a linear address. */
export function emitFindRegion(f: Fn, vb: I32, at: I64): FoundRegion {
  const found = emitEntry(f, vb, emitHash(f, at));
  return {
    address: f.load<"i64">("i64.load", found, RegionCache.address),
    place: f.load<"i32">("i32.load", found, RegionCache.place),
    arrival: f.load<"i32">("i32.load", found, RegionCache.arrival),
  };
}

/** A region's function by its place in the table, and what it is told of the entry that is meant. */
export interface EnteredRegion {
  readonly place: I32;
  readonly arrival: I32;
}
/**
 * Emits the making of an entry in the cache in use.
 * @param isGlobal whether all of the region's pages are global
 */
export function emitEnterRegion(f: Fn, vb: I32, at: I64, region: EnteredRegion, isGlobal: I32): void {
  const hash = f.let(emitHash(f, at));
  const made = emitEntry(f, vb, hash);
  f.if(f.load<"i64">("i64.load", made, RegionCache.address).eq(i64(NO_ADDRESS)), () => emitNoteEntry(f, vb, hash));
  f.store("i64.store", made, at, RegionCache.address);
  f.store("i32.store", made, region.place, RegionCache.place);
  f.store("i32.store", made, region.arrival, RegionCache.arrival);
  const kernel = f.select(
    isGlobal,
    i32(RegionCacheUse.kernel),
    i32(RegionCacheUse.kernel | RegionCacheUse.kernelLocal),
  );
  const use = f.select(inKernel(f, vb), kernel, i32(RegionCacheUse.user));
  f.store("i32.store", vb, state(f, vb, State.regionCacheUsed).or(use), State.regionCacheUsed);
}

/** Emits 1 if the kernel's cache is in use. */
const inKernel = (f: Fn, vb: I32): I32 => state(f, vb, State.regionCache).ne(vb.add(REGION_CACHE_OFFSET));

/**
 * Emits a note that an entry of the cache in use is no longer empty. Each change of page tables empties a cache, at every switch between programs,
 * and most have used a few dozen of its entries by then.
 */
function emitNoteEntry(f: Fn, vb: I32, hash: I32): void {
  const kernel = f.let(inKernel(f, vb));
  const used = f.let(kernel.shl(3).add(vb));
  const count = f.let(state(f, used, State.regionsUsed));
  f.if(count.ltU(MAX_REGION_NOTES), () => {
    f.store("i32.store", kernel.mul(i32(REGION_NOTES_BYTES)).add(count.shl(2)).add(vb), hash, REGION_NOTES_OFFSET);
    f.store("i32.store", used, count.add(1), State.regionsUsed);
  });
}

/** Emits the emptying of the entries that are noted, or of all if they may be more. */
function emitEmptyEntries(f: Fn, vb: I32, half: 0 | 1): void {
  const used = State.regionsUsed + half * 8;
  const cache = f.let(vb.add(REGION_CACHE_OFFSET + half * REGION_CACHE_HALF_BYTES));
  const count = f.let(state(f, vb, used));
  f.if(
    count.ltU(MAX_REGION_NOTES),
    () => {
      const note = f.var("i32", vb.add(REGION_NOTES_OFFSET + half * REGION_NOTES_BYTES));
      const end = f.let(note.get().add(count.shl(2)));
      f.while(
        () => note.get().ltU(end),
        () => {
          const entry = cache.add(f.load<"i32">("i32.load", note.get(), 0).shl(4));
          f.store("i64.store", entry, i64(NO_ADDRESS), RegionCache.address);
          note.set(note.get().add(4));
        },
      );
    },
    () => f.memoryFill(cache, i32(0xff), i32(REGION_CACHE_HALF_BYTES)),
  );
  f.store("i32.store", vb, i32(0), used);
}

/** Address of the byte, less `REGION_PAGES_OFFSET`, and number of the bit for a page in a cache's map of pages. */
const pageByte = (page: I64): I32 =>
  page
    .shrU(15)
    .wrap()
    .and(REGION_PAGES_BYTES - 1);
const pageBit = (page: I64): I32 => page.shrU(12).wrap().and(7);

/** Emits a note that a region in the cache in use has code from a page. */
export function emitNoteRegionPage(f: Fn, vb: I32, page: I64): void {
  const at = f.let(vb.add(pageByte(page)).add(inKernel(f, vb).mul(i32(REGION_PAGES_BYTES))));
  const noted = f.load<"i32">("i32.load8_u", at, REGION_PAGES_OFFSET).or(i32(1).shl(pageBit(page)));
  f.store("i32.store8", at, noted, REGION_PAGES_OFFSET);
}
/** Emits which caches (bits of `RegionCacheUse`) may have regions with code from a page. */
export function emitCachesOfPage(f: Fn, vb: I32, page: I64): I32 {
  const at = f.let(vb.add(pageByte(page)));
  const bit = f.let(pageBit(page));
  const noted = (offset: number) =>
    f
      .load<"i32">("i32.load8_u", at, REGION_PAGES_OFFSET + offset)
      .shrU(bit)
      .and(1);
  const { user, kernel, kernelLocal } = RegionCacheUse;
  return noted(0)
    .mul(i32(user))
    .or(noted(REGION_PAGES_BYTES).mul(i32(kernel | kernelLocal)));
}

/** Emits the emptying of both caches, whatever was in their memory. */
export function emitClearRegionCaches(f: Fn, vb: I32): void {
  f.memoryFill(vb.add(REGION_CACHE_OFFSET), i32(0xff), i32(2 * REGION_CACHE_HALF_BYTES));
  f.memoryFill(vb.add(REGION_PAGES_OFFSET), i32(0), i32(2 * REGION_PAGES_BYTES));
  f.store("i32.store", vb, i32(0), State.regionCacheUsed);
  for (const half of [0, 8]) f.store("i64.store", vb, i64(0), State.regionsUsed + half);
}

/** Emits the emptying of those caches (bits of `RegionCacheUse`) that have entries. */
export function emitEmptyRegionCaches(f: Fn, vb: I32, which: I32): void {
  const used = f.let(state(f, vb, State.regionCacheUsed));
  const now = f.let(used.and(which));
  f.if(now, () => {
    const empty = (half: 0 | 1) => {
      emitEmptyEntries(f, vb, half);
      f.memoryFill(vb.add(REGION_PAGES_OFFSET + half * REGION_PAGES_BYTES), i32(0), i32(REGION_PAGES_BYTES));
    };
    const { user, kernel, kernelLocal } = RegionCacheUse;
    f.if(now.and(user), () => empty(0));
    f.if(now.and(kernel | kernelLocal), () => empty(1));
    const left = used.and(f.select(now.and(kernel | kernelLocal), i32(user), i32(-1)));
    f.store("i32.store", vb, left.and(f.select(now.and(user), i32(~user), i32(-1))), State.regionCacheUsed);
  });
}

/** (vb): empties both caches. */
export function defineEmptyRegionCaches(m: ModuleBuilder): Func {
  const func = m.func(["i32"], [], "emptyRegionCaches");
  const { user, kernel, kernelLocal } = RegionCacheUse;
  emitEmptyRegionCaches(func.fn, func.fn.param(0), i32(user | kernel | kernelLocal));
  return func;
}
