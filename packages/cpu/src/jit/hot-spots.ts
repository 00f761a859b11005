import type { Decoder } from "../decode/decoder.ts";
import type { CodeCache } from "../interp/code-cache.ts";
import type { Interpreter } from "../interp/interpreter.ts";
import type { DomainMemory } from "../memory/domain-memory.ts";
import { findRegion, isWorthwhile, type Region } from "./region.ts";

/** Ticks at which an address must have been seen before its region is translated. */
const HOT_AFTER = 2;
/** Regions compiled into one module. */
const BATCH = 8;
/** Ticks after which a smaller batch is compiled too. */
const PATIENCE = 16;

/** Addresses counted at a time; code that is worth translating shows up again soon. */
const MAX_SEEN = 16384;

interface Spot {
  readonly frame: number;
  readonly offset: number;
}

/**
 * Finds what is worth translating by looking at where the vcpu is at each tick: an address that shows up repeatedly takes a
 * measurable share of the time. Counting costs running code nothing.
 */
export class HotSpots {
  private readonly memory: DomainMemory;
  private readonly cache: CodeCache;
  private readonly interpreter: Interpreter;
  private readonly decoder: Decoder;
  private readonly seen = new Map<number, number>();
  private waiting: Spot[] = [];
  private waited = 0;
  /** Regions translated so far. */
  translated = 0;

  constructor(memory: DomainMemory, cache: CodeCache, interpreter: Interpreter, decoder: Decoder) {
    this.memory = memory;
    this.cache = cache;
    this.interpreter = interpreter;
    this.decoder = decoder;
  }

  /** Notes that the vcpu was at an offset of a frame when a tick came. */
  sample(frame: number, offset: number): void {
    if (this.seen.size >= MAX_SEEN) this.seen.clear();
    const key = frame * 4096 + offset;
    const count = (this.seen.get(key) ?? 0) + 1;
    this.seen.set(key, count);
    if (count === HOT_AFTER) this.waiting.push({ frame, offset });
    if (this.waiting.length === 0) return;
    if (this.waiting.length >= BATCH || ++this.waited >= PATIENCE) this.compile();
  }

  /** Forgets everything; the code cache was emptied. */
  reset(): void {
    this.seen.clear();
    this.waiting = [];
    this.waited = 0;
    this.interpreter.forgetRegions();
  }

  private compile(): void {
    const spots = this.waiting;
    this.waiting = [];
    this.waited = 0;
    this.translate(spots);
  }

  /** Translates the regions that start at these places, in one module; those that promise no gain only if asked to. */
  translate(spots: readonly Spot[], always = false): void {
    const found: { spot: Spot; region: Region; record: number }[] = [];
    for (const spot of spots) {
      const record = this.cache.recordAt(spot.frame, spot.offset);
      if (record === 0 || this.cache.hasRegion(record)) continue;
      const at = this.memory.layout.framesOffset + spot.frame * 4096;
      const page = new Uint8Array(this.memory.memory.buffer, at, 4096);
      const region = findRegion(page, spot.offset, this.decoder);
      if (region && (always || isWorthwhile(region))) found.push({ spot, region, record });
    }
    if (found.length === 0) return;
    const places = this.interpreter.addRegions(found.map(({ region }) => region));
    if (!places) return this.cache.reset();
    found.forEach(({ spot, region, record }, k) => {
      const ranges = region.blocks.map((b) => [b.start, b.end] as const);
      this.cache.installRegion(spot.frame, record, spot.offset, ranges, places[k]);
      this.translated++;
    });
  }
}
