import type { CodeCache } from "../interp/code-cache.ts";
import type { Interpreter } from "../interp/interpreter.ts";
import { Recall } from "../kept/recall.ts";
import type { DomainMemory } from "../memory/domain-memory.ts";
import { type CompiledRegions, MAX_REGIONS_PER_MODULE, type Reach, type RegionService } from "./region-compiler.ts";
import { keyOf, type Spot } from "./spot.ts";

/** Ticks at which an address must have been seen before its region is translated. */
const HOT_AFTER = 16;
/** Ticks at which an entry of a region must have been seen before that place gets one of its own. */
const OWN_AFTER = 200;
/** Regions asked for at a time. */
const BATCH = 8;
/** Ticks after which fewer are asked for too. */
const PATIENCE = 40;
/** Addresses counted at a time; code that is worth translating shows up again soon. */
const MAX_SEEN = 16384;
/** Ticks for which a spot is not asked for again, whatever became of it. */
const ASKED = -1000;

/** How a vcpu sees its guest's memory. */
export interface GuestPages {
  /** Physical address of the page tables in use. */
  readonly pageTables: () => number;
  /** The frame that code at a linear address comes from, undefined if there is none. */
  readonly frameOf: (page: number) => number | undefined;
}

/**
 * Finds what is worth translating by looking at where the vcpu is at each tick: an address that shows up repeatedly takes a
 * measurable share of the time. Counting costs running code nothing.
 */
export class HotSpots {
  private readonly cache: CodeCache;
  private readonly interpreter: Interpreter;
  private readonly service: RegionService;
  private readonly vcpuId: number;
  private readonly memory: DomainMemory;
  /** Physical address of the page tables in use. */
  private readonly pageTables: () => number;
  private readonly frameOf: (page: number) => number | undefined;
  private readonly seen = new Map<number, number>();
  /** The same of places with a region. */
  private readonly stayed = new Map<number, number>();
  private waiting: Spot[] = [];
  private waited = 0;
  /** Regions installed so far. */
  installed = 0;
  private recall: Recall | undefined;

  constructor(
    cache: CodeCache,
    interpreter: Interpreter,
    service: RegionService,
    vcpuId: number,
    memory: DomainMemory,
    guest: GuestPages,
  ) {
    this.cache = cache;
    this.interpreter = interpreter;
    this.service = service;
    this.vcpuId = vcpuId;
    this.memory = memory;
    this.pageTables = guest.pageTables;
    this.frameOf = guest.frameOf;
    this.lookUp();
  }

  /** Notes that the vcpu was at a spot when a tick came. */
  sample(spot: Spot): void {
    const reach = this.cache.reachAt(spot.frame, spot.offset);
    if (reach === undefined) {
      if (counted(this.seen, spot) === HOT_AFTER) this.wait(spot);
    } else if (reach === "rest" && counted(this.stayed, spot) === OWN_AFTER) {
      this.stayed.set(keyOf(spot), ASKED);
      this.request([spot], "own");
    }
    if (this.waiting.length >= BATCH || (this.waiting.length > 0 && ++this.waited >= PATIENCE)) this.ask();
  }
  private wait(spot: Spot): void {
    this.seen.set(keyOf(spot), ASKED);
    this.waiting.push(spot);
  }

  /** Forgets everything; the code cache was emptied. */
  reset(): void {
    this.seen.clear();
    this.stayed.clear();
    this.waiting = [];
    this.waited = 0;
    this.interpreter.forgetRegions();
    this.recall?.reset();
  }

  /** Control arrives at a spot that was just decoded: an earlier run may have translated it. */
  arrive(spot: Spot): void {
    this.recall?.at(spot);
  }

  private ask(): void {
    const spots = this.waiting;
    this.waiting = [];
    this.waited = 0;
    const isFree = (spot: Spot) => this.cache.reachAt(spot.frame, spot.offset) === undefined && !this.recall?.at(spot);
    this.request(spots.filter(isFree), "rest");
  }
  private request(spots: readonly Spot[], reach: Reach): void {
    const job = { vcpuId: this.vcpuId, pageTables: this.pageTables(), reach };
    for (let at = 0; at < spots.length; at += MAX_REGIONS_PER_MODULE)
      this.service.request({ ...job, spots: spots.slice(at, at + MAX_REGIONS_PER_MODULE) });
  }

  /** Translates the region that starts at a spot, now if the service can, and all that can be reached from it. */
  translate(spot: Spot): void {
    if (this.cache.reachAt(spot.frame, spot.offset) === undefined) this.request([spot], "unseen");
    this.install();
  }

  /** Installs what was finished since the last call. */
  install(): void {
    for (const compiled of this.service.finished()) this.installAll(compiled);
    // What was decoded before is looked up as well.
    if (!this.recall && this.lookUp()) this.cache.reset();
  }
  /** @returns whether there is something to recall */
  private lookUp(): boolean {
    const known = this.service.known?.();
    if (known) this.recall = new Recall(known, this.memory, this.cache, this.interpreter, this.frameOf);
    return known !== undefined;
  }
  /** Regions of earlier runs that were entered so far. */
  get recalled(): number {
    return this.recall?.recalled ?? 0;
  }
  private installAll({ module, regions, covered }: CompiledRegions): void {
    for (const spot of covered) this.seen.set(keyOf(spot), 0);
    if (!module) return;
    const base = this.interpreter.addRegions(module, regions.length);
    if (base === undefined) return this.cache.reset();
    const { resets } = this.cache;
    regions.forEach((region, k) => {
      if (this.cache.resets === resets && this.cache.installRegion(region, base + k) !== undefined) this.installed++;
    });
  }
}

/** @returns how often the spot was seen, with this time */
function counted(counts: Map<number, number>, spot: Spot): number {
  if (counts.size >= MAX_SEEN) counts.clear();
  const count = (counts.get(keyOf(spot)) ?? 0) + 1;
  counts.set(keyOf(spot), count);
  return count;
}
