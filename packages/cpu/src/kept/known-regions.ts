import { Described, ENTRY_WORDS } from "./described.ts";

/** What is known of a module of an earlier run. */
export interface KnownModule {
  /** `describeRegions` of its regions. */
  readonly regions: Int32Array;
  /** Whatever finds it again. */
  readonly at: number;
}

/** Words of the index: how many buckets there are, then where in it the parts begin. */
const Head = { buckets: 0, modules: 1, entries: 2, words: 3 } as const;
/** Words of an entry: the place's hash, its region, which of that's entries it is, and the next in its bucket. */
const Entry = { hash: 0, region: 1, number: 2, next: 3, words: 4 } as const;
/** Words of a module, as many as of an address. */
const MODULE_WORDS = 2;

/** A region of an earlier run: where its description begins, of `words`. */
export type KnownRegion = number;

/** What earlier runs had translated, found by the code at a place. Any number of threads read it in one memory. */
export class KnownRegions {
  readonly words: Int32Array;

  /** @param index  what `build` gave */
  constructor(index: SharedArrayBuffer) {
    this.words = new Int32Array(index);
  }

  /** Of modules that come later the regions are found first. */
  static build(modules: readonly KnownModule[]): SharedArrayBuffer {
    let regionWords = 0;
    let count = 0;
    for (const { regions } of modules) {
      for (let at = 0; at < regions.length; at += regions[at + Described.length])
        count += regions[at + Described.entries];
      regionWords += regions.length + regionsIn(regions);
    }
    const buckets = 2 ** Math.ceil(Math.log2(Math.max(count, 16)));
    const modulesAt = Head.words + buckets + 1;
    const entriesAt = modulesAt + modules.length * MODULE_WORDS;
    const regionsAt = entriesAt + count * Entry.words;
    const index = new SharedArrayBuffer((regionsAt + regionWords) * 4);
    const words = new Int32Array(index);
    words[Head.buckets] = buckets;
    words[Head.modules] = modulesAt;
    words[Head.entries] = entriesAt;
    let to = regionsAt;
    let entry = entriesAt;
    modules.forEach(({ regions, at }, module) => {
      words[modulesAt + module * MODULE_WORDS] = at | 0;
      words[modulesAt + module * MODULE_WORDS + 1] = Math.floor(at / 2 ** 32);
      for (let from = 0; from < regions.length; ) {
        const region = regions.subarray(from, from + regions[from + Described.length]);
        // In front of each stands whose it is.
        words[to++] = module;
        words.set(region, to);
        for (let number = 0; number < region[Described.entries]; number++) {
          const hash = region[Described.lists + number * ENTRY_WORDS + 1];
          const bucket = Head.words + (hash & (buckets - 1));
          words[entry + Entry.hash] = hash;
          words[entry + Entry.region] = to;
          words[entry + Entry.number] = number;
          words[entry + Entry.next] = words[bucket];
          words[bucket] = entry;
          entry += Entry.words;
        }
        to += region.length;
        from += region.length;
      }
    });
    return index;
  }

  /** @returns what may be entered at a place with this hash, to be given to `next`; 0 if nothing */
  first(hash: number): number {
    const { words } = this;
    return this.#from(words[Head.words + (hash & (words[Head.buckets] - 1))], hash);
  }
  next(entry: number): number {
    return this.#from(this.words[entry + Entry.next], this.words[entry + Entry.hash]);
  }
  #from(entry: number, hash: number): number {
    let at = entry;
    while (at !== 0 && this.words[at + Entry.hash] !== hash) at = this.words[at + Entry.next];
    return at;
  }

  regionOf(entry: number): KnownRegion {
    return this.words[entry + Entry.region];
  }
  numberOf(entry: number): number {
    return this.words[entry + Entry.number];
  }
  /** The number of a region's module in what the index was built from. */
  moduleOf(region: KnownRegion): number {
    return this.words[region - 1];
  }
  /** `KnownModule.at` of a module. */
  addressOf(module: number): number {
    const at = this.words[Head.modules] + module * MODULE_WORDS;
    return (this.words[at] >>> 0) + this.words[at + 1] * 2 ** 32;
  }
}

function regionsIn(regions: Int32Array): number {
  let count = 0;
  for (let at = 0; at < regions.length; at += regions[at + Described.length]) count++;
  return count;
}
