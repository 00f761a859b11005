import { type AddressType, ModuleBuilder } from "@xenoserver/wasm";
import { Decoder } from "../decode/decoder.ts";
import type { Gfn } from "../engine.ts";
import { findRecord, type Heads } from "../interp/code-index.ts";
import { Builtin } from "../interp/record.ts";
import { hashPlace } from "../kept/place-hash.ts";
import type { KnownModules } from "../kept/recall.ts";
import type { DomainMemory } from "../memory/domain-memory.ts";
import { importedHelpers } from "../semantics/helpers.ts";
import type { Helpers } from "../semantics/ops.ts";
import { CodeMode, State, vcpuArea } from "../state/layout.ts";
import { CompiledBefore } from "./compiled-before.ts";
import { type CodeSource, findRegion, type Place, type Region } from "./region.ts";
import { keyOf, type Spot } from "./spot.ts";
import { translateRegion } from "./translate.ts";

/** Spots of a vcpu whose regions are wanted, in one module. */
export interface RegionJob {
  readonly vcpuId: number;
  readonly spots: readonly Spot[];
  /** Physical address of the vcpu's page tables. */
  readonly pageTables: number;
  readonly reach: Reach;
}
/**
 * How far regions reach. `rest`: where others have the code, control goes on in those. `own`: they have that code too, once more, so
 * that control stays in one. `unseen`: also what control never came to, as far as it can be seen.
 */
export type Reach = "rest" | "own" | "unseen";

/** A range of a frame's bytes, and what they were when the region was made. */
export interface RegionPiece {
  /** Of its page from the one that places count from. */
  readonly distance: number;
  readonly frame: number;
  readonly start: number;
  readonly bytes: Uint8Array;
}
/** A page that a region has code from, by its distance from the entry's. */
export interface RegionPage {
  readonly distance: number;
  readonly frame: number;
}
/** Where a region may be entered. */
export interface RegionEntry {
  /** Of its page from the one that places count from. */
  readonly distance: number;
  readonly frame: number;
  readonly offset: number;
  /** `hashPlace` of the place. */
  readonly hash: number;
}
export interface CompiledRegion {
  /** By their numbers; the first is the spot that was asked for. */
  readonly entries: readonly RegionEntry[];
  readonly reach: Reach;
  readonly pieces: readonly RegionPiece[];
  readonly pages: readonly RegionPage[];
}
/** What became of a job. */
export interface CompiledRegions {
  /** Puts its regions' functions into the table, in order, from its import `env.base` on; undefined if there are none. */
  readonly module: WebAssembly.Module | undefined;
  readonly regions: readonly CompiledRegion[];
  /** Spots that lie within the other regions: they are worth one of their own only if they stay hot beside those. */
  readonly covered: readonly Spot[];
}

/**
 * Whoever compiles a vcpu's regions. What is asked for may come at once, later, or never; what was compiled may be out of date,
 * so that its bytes are compared before it is installed.
 */
export interface RegionService {
  request(job: RegionJob): void;
  /** Regions that were finished since the last call. */
  finished(): CompiledRegions[];
  /** What earlier runs had translated, once that was looked up; asked for after `finished`. */
  known?(): KnownModules | undefined;
}

/** The guest's code around a spot, as it is read for one region. */
class SpotCode implements CodeSource {
  private readonly memory: DomainMemory;
  private readonly words: Int32Array;
  private readonly job: RegionJob;
  private readonly spot: Spot;
  private readonly pages = new Map<number, { readonly frame: number; readonly bytes: Uint8Array } | undefined>();

  constructor(memory: DomainMemory, words: Int32Array, job: RegionJob, spot: Spot) {
    this.memory = memory;
    this.words = words;
    this.job = job;
    this.spot = spot;
  }

  private at(distance: number) {
    if (this.pages.has(distance)) return this.pages.get(distance);
    const frame = distance === 0 ? this.spot.frame : this.frameOf(this.spot.page + distance * 4096);
    // A copy: the guest may go on writing.
    const page = frame < 0 ? undefined : { frame, bytes: this.memory.frameBytes(frame as never).slice() };
    this.pages.set(distance, page);
    return page;
  }
  page(distance: number): Uint8Array | undefined {
    return this.at(distance)?.bytes;
  }

  /** Walks the guest's page tables; −1 if a page is not there. Whether it may be executed is checked when it is entered. */
  private frameOf(page: number): number {
    const index = (shift: number) => {
      const shifted = Math.floor(page / 2 ** shift);
      return ((shifted % 512) + 512) % 512;
    };
    let table = this.job.pageTables;
    for (const shift of [39, 30, 21, 12]) {
      const at = this.physical(table + index(shift) * 8);
      if (at < 0) return -1;
      const [low, high] = [this.words[at / 4], this.words[at / 4 + 1] & 0xfffff];
      if ((low & 1) === 0) return -1;
      const next = high * 2 ** 32 + ((low & ~0xfff) >>> 0);
      if (shift === 12 || (shift < 39 && low & 0x80)) {
        const size = 2 ** shift;
        const base = Math.floor(next / size) * size;
        const within = ((page % size) + size) % size;
        return this.memory.frameAt(((base + within) / 4096) as Gfn);
      }
      table = next;
    }
    return -1;
  }
  /** Host address of a guest-physical one, −1 where no memory is. */
  private physical(gpa: number): number {
    const frame = this.memory.frameAt(Math.floor(gpa / 4096) as Gfn);
    return frame < 0 ? -1 : this.memory.layout.framesOffset + frame * 4096 + (gpa % 4096);
  }

  /** The vcpu's record of a trace that starts there, 0 if there is none. */
  private recordAt(place: Place): number {
    const distance = Math.floor(place / 4096);
    const page = this.at(distance);
    if (page === undefined) return 0;
    const vb = vcpuArea(this.job.vcpuId);
    const heads = this.words[(this.words[(vb + State.frameTables) >>> 2] >>> 2) + page.frame] as Heads;
    return heads === 0 ? 0 : findRecord(this.words, vb, heads, place - distance * 4096);
  }
  wasReached(place: Place): boolean {
    return this.job.reach === "unseen" || this.recordAt(place) !== 0;
  }
  isTaken(place: Place): boolean {
    if (this.job.reach !== "rest") return false;
    const record = this.recordAt(place);
    return record !== 0 && (this.words[record >>> 2] & 0xffff) === Builtin.region;
  }

  /** A place of a region as `keyOf` numbers spots. */
  keyOf(place: Place): number {
    const distance = Math.floor(place / 4096);
    return this.pages.get(distance)!.frame * 4096 + place - distance * 4096;
  }

  /** What a region was made from, page by page. */
  describe(region: Region): CompiledRegion {
    const pieces: RegionPiece[] = [];
    const used = new Set<number>();
    for (const { start, end } of region.blocks) {
      for (let at = start; at < end; ) {
        const distance = Math.floor(at / 4096);
        const base = distance * 4096;
        const until = Math.min(end, base + 4096);
        const page = this.pages.get(distance)!;
        pieces.push({
          distance,
          frame: page.frame,
          start: at - base,
          bytes: page.bytes.slice(at - base, until - base),
        });
        used.add(distance);
        at = until;
      }
    }
    const pages = [...used].map((distance) => ({ distance, frame: this.pages.get(distance)!.frame }));
    const entries = region.entries.map((place): RegionEntry => {
      const distance = Math.floor(place / 4096);
      const { frame, bytes } = this.pages.get(distance)!;
      const offset = place - distance * 4096;
      return { distance, frame, offset, hash: hashPlace(bytes, 0, offset) };
    });
    return { entries, reach: this.job.reach, pieces, pages };
  }
}

/** Most regions in a module. */
export const MAX_REGIONS_PER_MODULE = 32;

export type OnCompiled = (module: WebAssembly.Module, bytes: Uint8Array, regions: readonly CompiledRegion[]) => void;

/** Finds, translates and compiles regions; on whichever thread has the domain's memory. */
export class RegionCompiler {
  private readonly memory: DomainMemory;
  private readonly words: Int32Array;
  private readonly decoder = new Decoder();
  private readonly recent: RecentPlaces[] = [];
  private readonly before: CompiledBefore;

  private readonly onCompiled: OnCompiled;

  /** @param onCompiled  told each module that is made */
  constructor(memory: DomainMemory, onCompiled: OnCompiled = () => {}) {
    this.memory = memory;
    this.onCompiled = onCompiled;
    this.words = new Int32Array(memory.memory.buffer);
    this.before = new CompiledBefore(memory);
  }

  /** @returns what other vcpus have of what is asked for, then the rest */
  compile(job: RegionJob): CompiledRegions[] {
    const known: CompiledRegions[] = [];
    const spots = job.spots.filter((spot) => {
      const found = this.before.find(spot, job.reach, job.vcpuId);
      if (found) known.push(found);
      return (
        !found &&
        !known.some(({ regions }) => regions.some(({ entries }) => entries.some((e) => keyOf(e) === keyOf(spot))))
      );
    });
    if (spots.length === 0) return known;
    const compiled = this.compileAnew({ ...job, spots });
    this.before.note(compiled, job.vcpuId);
    return [...known, compiled];
  }

  private compileAnew(job: RegionJob): CompiledRegions {
    const recent = (this.recent[job.vcpuId] ??= new RecentPlaces());
    const candidates = job.spots.slice(0, MAX_REGIONS_PER_MODULE).flatMap((spot): Candidate[] => {
      const code = new SpotCode(this.memory, this.words, job, spot);
      const region = findRegion(code, spot.offset, this.decoder);
      if (!region) return [];
      return [{ spot, code, region, starts: new Set(region.blocks.map(({ start }) => code.keyOf(start))) }];
    });
    const isRecent = (c: Candidate) => job.reach === "rest" && recent.has(keyOf(c.spot));
    const isCovered = (c: Candidate) => job.reach !== "unseen" && (isRecent(c) || isWithin(c, candidates));
    const chosen = candidates.filter((c) => !isCovered(c));
    const covered = candidates.filter((c) => !chosen.includes(c)).map(({ spot }) => spot);
    recent.note(chosen);
    if (chosen.length === 0) return { module: undefined, regions: [], covered };
    const m = newRegionModule(this.memory);
    const base = m.importGlobal("env", "base", "i32");
    const helpers = importHelpers(m);
    m.elementAt(
      base,
      chosen.map(({ region }) => translateRegion(m, helpers, region)),
    );
    const bytes = m.finish();
    const module = new WebAssembly.Module(bytes);
    const regions = chosen.map(({ region, code }) => code.describe(region));
    this.onCompiled(module, bytes, regions);
    return { module, regions, covered };
  }
}

/** A region that could be made for a spot. */
interface Candidate {
  readonly spot: Spot;
  readonly code: SpotCode;
  readonly region: Region;
  /** Where its blocks start, by `keyOf`. */
  readonly starts: ReadonlySet<number>;
}

/**
 * Whether another candidate has the spot's code. The places of a function become hot all at once, and a region from each on would be
 * much the same code many times over. Of two that hold one another, as in a loop, the first is taken.
 */
function isWithin(candidate: Candidate, all: readonly Candidate[]): boolean {
  const own = all.indexOf(candidate);
  return all.some((other, k) => {
    if (k === own || !other.starts.has(keyOf(candidate.spot))) return false;
    return k < own || !candidate.starts.has(keyOf(other.spot));
  });
}

/** Places that got a region lately, which the vcpu may not run yet. */
class RecentPlaces {
  private readonly made = new Map<number, number>();

  has(key: number): boolean {
    const at = this.made.get(key);
    return at !== undefined && performance.now() - at < RECENT_MS;
  }
  note(candidates: readonly Candidate[]): void {
    if (this.made.size > MAX_RECENT) this.made.clear();
    const now = performance.now();
    for (const { starts } of candidates) for (const key of starts) this.made.set(key, now);
  }
}
/** Compilation takes some tens of milliseconds, and then it shows whether the places stay hot. */
const RECENT_MS = 100;
const MAX_RECENT = 32768;

/** Compiles when asked, on the vcpu's own thread. */
export class LocalRegionService implements RegionService {
  private readonly compiler: RegionCompiler;
  private done: CompiledRegions[] = [];

  /** @param onCompiled  told each module that is made */
  constructor(memory: DomainMemory, onCompiled?: OnCompiled) {
    this.compiler = new RegionCompiler(memory, onCompiled);
  }
  request(job: RegionJob): void {
    this.done.push(...this.compiler.compile(job));
  }
  finished(): CompiledRegions[] {
    return this.done.splice(0);
  }
}

/** A module over a domain's memory and a vcpu's table of handlers and regions. */
export function newGuestModule({ layout }: DomainMemory): ModuleBuilder {
  const pages = layout.totalBytes / 0x10000;
  return newModule(layout.addressType, pages, pages);
}
/**
 * The same for regions, which fits domains of any size: what was made for one can be kept for others. Where addresses are wide, V8 checks them
 * against what it is told of the memory, and by that decides how.
 */
function newRegionModule(memory: DomainMemory): ModuleBuilder {
  return memory.layout.addressType === "i64" ? newGuestModule(memory) : newModule("i32", 1, MAX_PAGES);
}
/** Of 64 KiB, in memory whose addresses have 32 bits. */
const MAX_PAGES = 65536;

function newModule(addressType: AddressType, minPages: number, maxPages: number): ModuleBuilder {
  const m = new ModuleBuilder(addressType);
  m.importMemory("env", "memory", { minPages, maxPages });
  m.importTable("env", "table", TABLE_ENTRIES);
  return m;
}
/** Handlers and regions that a vcpu's table has room for. */
export const MAX_HANDLERS = 8192;
const MAX_REGIONS = 16384;
export const TABLE_ENTRIES = MAX_HANDLERS + MAX_REGIONS;

/** Imports what regions call in the engine's own module. */
function importHelpers(m: ModuleBuilder): Helpers {
  return {
    readTime: m.importFunc("engine", "readTime", { params: ["i32"], results: [] }),
    named: importedHelpers(m, "engine"),
  };
}

/** The decoding mode of translated regions. */
export const REGION_MODE = CodeMode.code64 | CodeMode.stack32 | CodeMode.flat;
