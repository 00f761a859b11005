import type { CodeCache } from "../interp/code-cache.ts";
import type { Interpreter } from "../interp/interpreter.ts";
import { type CompiledRegions, MAX_REGIONS_PER_MODULE, type RegionService, type Spot } from "./region-compiler.ts";

/** Ticks at which an address must have been seen before its region is translated. */
const HOT_AFTER = 16;
/** Regions asked for at a time. */
const BATCH = 8;
/** Ticks after which fewer are asked for too. */
const PATIENCE = 40;
/** Addresses counted at a time; code that is worth translating shows up again soon. */
const MAX_SEEN = 16384;
/** Ticks for which a spot is not asked for again, whatever became of it. */
const ASKED = -1000;

/**
 * Finds what is worth translating by looking at where the vcpu is at each tick: an address that shows up repeatedly takes a
 * measurable share of the time. Counting costs running code nothing.
 */
export class HotSpots {
  private readonly cache: CodeCache;
  private readonly interpreter: Interpreter;
  private readonly service: RegionService;
  private readonly vcpuId: number;
  /** Physical address of the page tables in use. */
  private readonly pageTables: () => number;
  private readonly seen = new Map<number, number>();
  private waiting: Spot[] = [];
  private waited = 0;
  /** Regions installed so far. */
  installed = 0;

  constructor(
    cache: CodeCache,
    interpreter: Interpreter,
    service: RegionService,
    vcpuId: number,
    pageTables: () => number,
  ) {
    this.cache = cache;
    this.interpreter = interpreter;
    this.service = service;
    this.vcpuId = vcpuId;
    this.pageTables = pageTables;
  }

  /** Notes that the vcpu was at a spot when a tick came. */
  sample(spot: Spot): void {
    if (this.seen.size >= MAX_SEEN) this.seen.clear();
    const key = spot.frame * 4096 + spot.offset;
    const count = (this.seen.get(key) ?? 0) + 1;
    this.seen.set(key, count);
    if (count === HOT_AFTER) {
      this.seen.set(key, ASKED);
      this.waiting.push(spot);
    }
    if (this.waiting.length >= BATCH || (this.waiting.length > 0 && ++this.waited >= PATIENCE)) this.ask();
  }

  /** Forgets everything; the code cache was emptied. */
  reset(): void {
    this.seen.clear();
    this.waiting = [];
    this.waited = 0;
    this.interpreter.forgetRegions();
  }

  private ask(): void {
    const spots = this.waiting;
    this.waiting = [];
    this.waited = 0;
    this.request(spots, false);
  }
  private request(wanted: readonly Spot[], everything: boolean): void {
    const spots = wanted.filter(({ frame, offset }) => {
      const record = this.cache.recordAt(frame, offset);
      return record !== 0 && !this.cache.hasRegion(record);
    });
    if (spots.length === 0) return;
    const job = { vcpuId: this.vcpuId, pageTables: this.pageTables(), everything };
    for (let at = 0; at < spots.length; at += MAX_REGIONS_PER_MODULE)
      this.service.request({ ...job, spots: spots.slice(at, at + MAX_REGIONS_PER_MODULE) });
  }

  /** Translates the region that starts at a spot, now if the service can, and all that can be reached from it. */
  translate(spot: Spot): void {
    this.request([spot], true);
    this.install();
  }

  /** Installs what was finished since the last call. */
  install(): void {
    for (const compiled of this.service.finished()) this.installAll(compiled);
  }
  private installAll({ module, regions, covered }: CompiledRegions): void {
    for (const { frame, offset } of covered) this.seen.set(frame * 4096 + offset, 0);
    if (!module) return;
    const base = this.interpreter.addRegions(module, regions.length);
    if (base === undefined) return this.cache.reset();
    const { resets } = this.cache;
    regions.forEach((region, k) => {
      if (this.cache.resets === resets && this.cache.installRegion(region, base + k)) this.installed++;
    });
  }
}
