import { Described, ENTRY_WORDS, listsOf } from "./described.ts";

/** What earlier runs had translated, as all threads of a process have it. */
export interface KnownIndex {
  /** Descriptions of all regions without their pieces' bytes, module by module from number 0 on. */
  readonly regions: SharedArrayBuffer;
  /** Where modules are, and where regions are entered. */
  readonly places: SharedArrayBuffer;
}

/** Words of `KnownIndex.places`: how many buckets there are, which follow, and where the parts behind them begin. */
const Head = { buckets: 0, modules: 1, entries: 2, words: 3 } as const;
/** Words of an entry: the place's hash, its region, which of that's entries it is, and the next in its bucket. */
const Entry = { hash: 0, region: 1, number: 2, next: 3, words: 4 } as const;
/** Words of a module, as many as of an address. */
const MODULE_WORDS = 2;

/** A region of an earlier run: where its description begins, of `words`. */
export type KnownRegion = number;

/** What earlier runs had translated, found by the code at a place. Any number of threads read it in one memory. */
export class KnownRegions {
  /** Of the regions. */
  readonly words: Int32Array;
  readonly #places: Int32Array;

  constructor({ regions, places }: KnownIndex) {
    this.words = new Int32Array(regions);
    this.#places = new Int32Array(places);
  }

  /**
   * Of modules that come later the regions are found first.
   * @param regions    as in `KnownIndex`
   * @param addresses  of each module whatever finds it again
   */
  static index(regions: SharedArrayBuffer, addresses: ArrayLike<number>): KnownIndex {
    const described = new Int32Array(regions);
    let count = 0;
    for (const region of regionsIn(described)) count += described[region + Described.entries];
    const buckets = 2 ** Math.ceil(Math.log2(Math.max(count, 16)));
    const modulesAt = Head.words + buckets;
    const entriesAt = modulesAt + addresses.length * MODULE_WORDS;
    const words = new Int32Array(new SharedArrayBuffer((entriesAt + count * Entry.words) * 4));
    words.set([buckets, modulesAt, entriesAt]);
    for (let module = 0; module < addresses.length; module++) {
      words[modulesAt + module * MODULE_WORDS] = addresses[module] | 0;
      words[modulesAt + module * MODULE_WORDS + 1] = Math.floor(addresses[module] / 2 ** 32);
    }
    let entry = entriesAt;
    for (const region of regionsIn(described)) {
      for (let number = 0; number < described[region + Described.entries]; number++, entry += Entry.words) {
        const hash = described[region + Described.lists + number * ENTRY_WORDS + 1];
        const bucket = Head.words + (hash & (buckets - 1));
        words[entry + Entry.hash] = hash;
        words[entry + Entry.region] = region;
        words[entry + Entry.number] = number;
        words[entry + Entry.next] = words[bucket];
        words[bucket] = entry;
      }
    }
    return { regions, places: words.buffer as SharedArrayBuffer };
  }

  /** @returns what may be entered at a place with this hash, to be given to `next`; 0 if nothing */
  first(hash: number): number {
    const places = this.#places;
    return this.#from(places[Head.words + (hash & (places[Head.buckets] - 1))], hash);
  }
  next(entry: number): number {
    return this.#from(this.#places[entry + Entry.next], this.#places[entry + Entry.hash]);
  }
  #from(entry: number, hash: number): number {
    let at = entry;
    while (at !== 0 && this.#places[at + Entry.hash] !== hash) at = this.#places[at + Entry.next];
    return at;
  }

  regionOf(entry: number): KnownRegion {
    return this.#places[entry + Entry.region];
  }
  numberOf(entry: number): number {
    return this.#places[entry + Entry.number];
  }
  moduleOf(region: KnownRegion): number {
    return this.words[region + Described.module];
  }
  /** What finds a module again. */
  addressOf(module: number): number {
    const at = this.#places[Head.modules] + module * MODULE_WORDS;
    return (this.#places[at] >>> 0) + this.#places[at + 1] * 2 ** 32;
  }
}

/** Where each region begins. */
function* regionsIn(words: Int32Array): Generator<KnownRegion> {
  for (let at = 0; words[at + Described.length] > 0; at += words[at + Described.length]) yield at;
}

/** Puts what an index has of modules' regions behind one another. */
export class RegionsWriter {
  readonly #words: Int32Array<SharedArrayBuffer>;
  #end = 0;
  #modules = 0;

  /** @param words  as many as their descriptions have */
  constructor(words: number) {
    this.#words = new Int32Array(new SharedArrayBuffer(words * 4));
  }

  /** @param regions  of the next module, as `describeRegions` gave them */
  add(regions: Int32Array): void {
    for (let at = 0; at < regions.length; at += regions[at + Described.length]) {
      const length = listsOf(regions, at).pieceEnd - at;
      this.#words.set(regions.subarray(at, at + length), this.#end);
      this.#words[this.#end + Described.length] = length;
      this.#words[this.#end + Described.module] = this.#modules;
      this.#end += length;
    }
    this.#modules++;
  }

  finish(): SharedArrayBuffer {
    // Not slice(): V8 takes two empty ones for the same, and throws.
    const words = new Int32Array(new SharedArrayBuffer(this.#end * 4));
    words.set(this.#words.subarray(0, this.#end));
    return words.buffer;
  }
}
