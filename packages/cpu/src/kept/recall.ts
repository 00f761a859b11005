import type { CodeCache } from "../interp/code-cache.ts";
import type { InstalledRegion } from "../interp/code-page.ts";
import type { Interpreter } from "../interp/interpreter.ts";
import type { CompiledRegion, RegionEntry, RegionPage, RegionPiece } from "../jit/region-compiler.ts";
import type { Spot } from "../jit/spot.ts";
import type { DomainMemory } from "../memory/domain-memory.ts";
import { Described, ENTRY_WORDS, listsOf, PIECE_WORDS, reachOf } from "./described.ts";
import type { KnownRegion, KnownRegions } from "./known-regions.ts";
import { hashBytes, hashPlace } from "./place-hash.ts";

/** Modules of earlier runs, by their number in the index. */
export interface KnownModules {
  readonly regions: KnownRegions;
  /** Reads a module with its machine code; undefined if that cannot be had. */
  read(module: number): WebAssembly.Module | undefined;
  /** What `describeRegions` gave for a module, until the next is asked for; undefined if it cannot be had. */
  describe(module: number): Int32Array | undefined;
}

/** A module whose regions are in the table. */
interface Placed {
  readonly module: WebAssembly.Module;
  /** Its first region's place; undefined while it is in none. */
  base: number | undefined;
  /** How often it was put there. */
  times: number;
}
/** A region that was found, and its module's base then. Its many pieces and entries are known elsewhere, and are not kept once more. */
interface Found {
  readonly region: InstalledRegion;
  readonly pages: readonly RegionPage[];
  readonly base: number;
}
/** Others' guests may have left any number of regions that begin alike. */
const MAX_CANDIDATES = 16;
/** How often a module is put into the table anew, for code that changes or lies in several frames. */
const MAX_TIMES = 8;

/** Finds what an earlier run translated when control arrives at a place, so that the code there is not interpreted even once. */
export class Recall {
  readonly #known: KnownModules;
  readonly #memory: DomainMemory;
  readonly #cache: CodeCache;
  readonly #interpreter: Interpreter;
  /** The frame that code at a linear address comes from, undefined if there is none. */
  readonly #frameOf: (page: number) => number | undefined;
  readonly #bytes: Uint8Array;
  readonly #placed = new Map<number, Placed | undefined>();
  /** What became of regions that were found last time. */
  readonly #installed = new Map<KnownRegion, Found>();
  /** Regions that control entered so far, each once for each time that it was put there. */
  recalled = 0;

  constructor(
    known: KnownModules,
    memory: DomainMemory,
    cache: CodeCache,
    interpreter: Interpreter,
    frameOf: (page: number) => number | undefined,
  ) {
    this.#known = known;
    this.#memory = memory;
    this.#cache = cache;
    this.#interpreter = interpreter;
    this.#frameOf = frameOf;
    this.#bytes = new Uint8Array(memory.memory.buffer);
  }

  /** Forgets what is in the table; that was emptied. */
  reset(): void {
    this.#installed.clear();
    for (const placed of this.#placed.values()) if (placed) placed.base = undefined;
  }

  /** Lets control enter a known region at a spot where there is none. @returns whether it now does */
  at(spot: Spot): boolean {
    const { regions } = this.#known;
    const hash = hashPlace(this.#bytes, this.#frameAddress(spot.frame), spot.offset);
    let left = MAX_CANDIDATES;
    for (let entry = regions.first(hash); entry !== 0 && left > 0; entry = regions.next(entry), left--) {
      const number = regions.numberOf(entry);
      if (this.#enter(regions.regionOf(entry), number, spot)) return true;
    }
    return false;
  }

  #enter(region: KnownRegion, number: number, spot: Spot): boolean {
    const entry = this.#placeOf(region, number);
    if ((entry & 4095) !== spot.offset) return false;
    const origin = spot.page - (entry >> 12) * 4096;
    const before = this.#installed.get(region);
    if (before && !before.region.isDropped && this.#areThere(before.pages, origin)) {
      const { words } = this.#known.regions;
      const again = entryAt(words, listsOf(words, region).entryList + number * ENTRY_WORDS, spot.frame);
      return this.#cache.enterAlso(before.region, again, number);
    }
    if (!this.#lies(region, origin)) return false;
    const code = this.#read(region, origin);
    if (code === undefined) return false;
    const base = this.#place(region, before?.base);
    if (base === undefined) return false;
    const place = base + this.#known.regions.words[region + Described.number];
    const installed = this.#cache.installRegion(code, place);
    if (installed === undefined) return false;
    this.#installed.set(region, { region: installed, pages: code.pages, base });
    this.recalled++;
    return true;
  }

  /** Whether a region that is in use is the one at a spot: the same code may lie in other frames too. */
  #areThere(pages: readonly RegionPage[], origin: number): boolean {
    return pages.every(({ distance, frame }) => this.#frameOf(origin + distance * 4096) === frame);
  }

  /** Whether the guest's memory may hold a region's bytes. Most candidates are others': nothing is made for them, nor read. @param origin  linear address that places count from */
  #lies(region: KnownRegion, origin: number): boolean {
    const { words } = this.#known.regions;
    const { pageList, pieceList, pieceEnd } = listsOf(words, region);
    for (let at = pageList; at < pieceList; at++)
      if (this.#frameOf(origin + words[at] * 4096) === undefined) return false;
    let hash = 0;
    for (let at = pieceList; at < pieceEnd; at += PIECE_WORDS) {
      const [place, size] = [words[at], words[at + 1]];
      const frame = this.#frameOf(origin + (place >> 12) * 4096);
      if (frame === undefined) return false;
      hash = hashBytes(this.#bytes, this.#frameAddress(frame) + (place & 4095), size, hash);
    }
    return hash === words[region + Described.hash];
  }

  /**
   * A region as it was, where it would lie in the guest's memory now. Whether it does is for whoever installs it to see.
   * @returns undefined if it cannot be read, or another vcpu has just taken a page of it away
   */
  #read(known: KnownRegion, origin: number): CompiledRegion | undefined {
    const index = this.#known.regions;
    const words = this.#known.describe(index.moduleOf(known));
    if (words === undefined) return undefined;
    const region = regionAt(words, index.words[known + Described.number]);
    const { entryList, pageList, pieceList, pieceEnd } = listsOf(words, region);
    const pages: RegionPage[] = [];
    for (let at = pageList; at < pieceList; at++) {
      const frame = this.#frameOf(origin + words[at] * 4096);
      if (frame === undefined) return undefined;
      pages.push({ distance: words[at], frame });
    }
    const frameAt = (place: number): number => pages.find(({ distance }) => distance === place >> 12)!.frame;
    const pieces: RegionPiece[] = [];
    let from = words.byteOffset + pieceEnd * 4;
    for (let at = pieceList; at < pieceEnd; at += PIECE_WORDS) {
      const [place, size] = [words[at], words[at + 1]];
      const piece = { distance: place >> 12, frame: frameAt(place), start: place & 4095 };
      pieces.push({ ...piece, bytes: new Uint8Array(words.buffer, from, size) });
      from += size;
    }
    const entries: RegionEntry[] = [];
    for (let at = entryList; at < pageList; at += ENTRY_WORDS) entries.push(entryAt(words, at, frameAt(words[at])));
    return { entries, reach: reachOf(words[region + Described.reach]), pieces, pages };
  }

  /**
   * Puts a region's module into the table. Of the same code in several frames each has a function of its own there: when one is dropped nothing is
   * left in its place.
   * @param taken  the base where the region is already, or was
   * @returns      where its module's first region is, undefined if it cannot be had
   */
  #place(region: KnownRegion, taken: number | undefined): number | undefined {
    const number = this.#known.regions.moduleOf(region);
    if (!this.#placed.has(number)) {
      const module = this.#known.read(number);
      this.#placed.set(number, module && { module, base: undefined, times: 0 });
    }
    const placed = this.#placed.get(number);
    if (placed === undefined) return undefined;
    if (placed.base !== undefined && placed.base !== taken) return placed.base;
    if (placed.times++ >= MAX_TIMES) return undefined;
    placed.base = this.#interpreter.addRegions(placed.module, this.#regionsOf(number, region));
    return placed.base;
  }

  /** How many regions a module has. */
  #regionsOf(module: number, region: KnownRegion): number {
    const { words } = this.#known.regions;
    let count = words[region + Described.number] + 1;
    for (let at = region + words[region + Described.length]; ; at += words[at + Described.length]) {
      if (!(words[at + Described.length] > 0 && words[at + Described.module] === module)) return count;
      count++;
    }
  }

  #placeOf(region: KnownRegion, number: number): number {
    return this.#known.regions.words[region + Described.lists + number * ENTRY_WORDS];
  }
  #frameAddress(frame: number): number {
    return this.#memory.layout.framesOffset + frame * 4096;
  }
}

/** @param at  of its words in a description */
const entryAt = (words: Int32Array, at: number, frame: number): RegionEntry => ({
  distance: words[at] >> 12,
  frame,
  offset: words[at] & 4095,
  hash: words[at + 1],
});

/** Where the region of a module with this number begins. */
function regionAt(words: Int32Array, number: number): number {
  let at = 0;
  for (let before = 0; before < number; before++) at += words[at + Described.length];
  return at;
}
