import {
  type CompiledRegion,
  REGION_MODE,
  type Reach,
  type RegionEntry,
  type RegionPage,
  type RegionPiece,
} from "../jit/region-compiler.ts";
import type { DomainMemory } from "../memory/domain-memory.ts";
import { EntryInfo, RegionPages } from "../mmu/link.ts";
import { noteItlb } from "../mmu/used-groups.ts";
import { CodeMode, ITLB_ENTRIES, Itlb, RECORD_BYTES, RECORDS, RECORDS_OFFSET, State } from "../state/layout.ts";
import { type DecodeView, viewKey } from "../system/code-window.ts";
import { CodeIndex, type CodeKey, codeKey, type Heads, isSamePage } from "./code-index.ts";
import { CodePage, type InstalledRegion, type Trace } from "./code-page.ts";
import { type Crossing, Crossings, NEXT_BYTES } from "./crossings.ts";
import { ARRIVAL_BITS, Builtin, Field, OFFSET_MASK } from "./record.ts";
import type { TraceWriter } from "./trace.ts";
import { WatchedFrames } from "./watched-frames.ts";

/** A frame that so often was code and then data goes on being watched: to begin with that anew is not free. */
const MAX_EMPTIED = 8;

const recordsOfPages = (count: number): number =>
  Math.ceil((RegionPages.first + count * RegionPages.pageBytes) / RECORD_BYTES);
/** Records that a region takes. */
const roomOf = (entries: number, pages: number): number =>
  recordsOfPages(pages) + (entries * EntryInfo.bytes) / RECORD_BYTES;

/** An instruction that goes on in the next page: the check, up to two prefix records, itself, and the end of its trace. */
const CROSSING_RECORDS = 5;

/**
 * What one vcpu has decoded: traces by page, the index that the dispatch loop finds them by, and their records.
 * When any of these runs out everything is dropped and decoding begins anew.
 */
export class CodeCache {
  private readonly memory: DomainMemory;
  private readonly vb: number;
  private readonly words: Int32Array;
  private readonly halves: Uint16Array;
  private readonly bytes: Uint8Array;
  private readonly writer: TraceWriter;
  private readonly watched: WatchedFrames;
  private readonly pages = new Map<number, CodePage>();
  private readonly crossings = new Crossings();
  private readonly index: CodeIndex;
  /** Regions by the records that enter them. */
  private readonly installed = new Map<number, InstalledRegion>();
  private nextRecord = 0;
  private lastBytes: Uint8Array = new Uint8Array();
  /** Whole-cache resets so far. */
  resets = 0;
  onReset: () => void = () => {};
  /** Tells that the region in a place is not to be run again. */
  onDropped: (place: number) => void = () => {};
  /** Tells that addresses of entries lead to other regions than before. */
  onReplaced: () => void = () => {};

  constructor(
    memory: DomainMemory,
    vb: number,
    writer: TraceWriter,
    dropWriteEntries: (vb: number, frame: number) => number,
    vcpuId: number,
  ) {
    this.memory = memory;
    this.vb = vb;
    this.words = new Int32Array(memory.memory.buffer);
    this.index = new CodeIndex(this.words, vb);
    this.halves = new Uint16Array(memory.memory.buffer);
    this.bytes = new Uint8Array(memory.memory.buffer);
    this.writer = writer;
    this.watched = new WatchedFrames(memory, vcpuId, (frame) => dropWriteEntries(vb, frame), {
      modified: (frame, offset, sizeBytes) => this.invalidate(frame, offset, sizeBytes),
      overflowed: () => this.reset(),
    });
  }

  private get recordsAt(): number {
    return this.vb + RECORDS_OFFSET;
  }
  private frameAddress(frame: number): number {
    return this.memory.layout.framesOffset + frame * 4096;
  }

  /** Most traces that follow one another are of one page. */
  private bytesOf(frame: number): Uint8Array {
    const at = this.frameAddress(frame);
    if (this.lastBytes.byteOffset !== at) this.lastBytes = this.bytes.subarray(at, at + 4096);
    return this.lastBytes;
  }

  /**
   * Makes sure that a trace starts at an offset of a frame, and that the page can be found through the ITLB.
   * @param page linear address of the page
   * @returns false if the instruction there goes on in the next page
   */
  provide(page: number, frame: number, offset: number, view: DecodeView): boolean {
    if (this.nextRecord + 2 * 256 + CROSSING_RECORDS > RECORDS || !this.index.hasRoom) this.reset();
    const heads = this.headsOf(frame, viewKey(view));
    this.fillItlb(page, heads, frame);
    // A crossing instruction is there but its next page may not be: the caller sees to that.
    if (this.crossings.at(frame, offset) !== undefined) return false;
    if (this.index.find(heads, offset) !== 0) return true;
    if (this.enterWithin(frame, heads, offset)) return true;
    const record = this.recordsAt + this.nextRecord * RECORD_BYTES;
    const known = (place: number): number => this.index.find(heads, place);
    const result = this.writer.write(this.bytesOf(frame), offset, view, record, 257, known);
    if (result.kind === "crossing") return false;
    this.nextRecord = (result.recordEnd - this.recordsAt) / RECORD_BYTES;
    this.index.enter(heads, offset, record);
    this.pages.get(frame)!.traces.push({
      start: offset,
      end: result.endOffset,
      record,
      recordEnd: result.recordEnd,
      key: codeKey(heads, offset),
    });
    this.watched.mark(frame, offset, result.endOffset);
    return true;
  }

  /** Lets control arrive in the middle of a trace, if an instruction of it starts there. */
  private enterWithin(frame: number, heads: Heads, offset: number): boolean {
    const { traces } = this.pages.get(frame)!;
    const key = codeKey(heads, offset);
    for (let n = 0; n < traces.length; n++) {
      const { start, end, record, recordEnd, key: other } = traces[n];
      if (start > offset || offset >= end || !isSamePage(key, other)) continue;
      for (let at = record; at < recordEnd; at += RECORD_BYTES) {
        // Of an instruction with a prefix record, that comes first.
        if ((this.halves[(at + Field.place) >>> 1] & OFFSET_MASK) !== offset) continue;
        // What looks for its own address must not be what is found there.
        if (this.halves[at >>> 1] === Builtin.relook) break;
        this.index.enter(heads, offset, at);
        traces.push({ start: offset, end, record: at, recordEnd, key });
        return true;
      }
    }
    return false;
  }

  /**
   * Makes the trace of the one instruction at an offset that goes on in the next page, and shows that page to the ITLB: the
   * trace begins with a check that it is still the same.
   * @param views  of the page and of the next
   */
  provideCrossing(
    page: number,
    frame: number,
    offset: number,
    nextFrame: number,
    views: readonly [DecodeView, DecodeView],
  ): void {
    if (!this.index.hasRoom) this.reset();
    // Making the second page's may drop everything, and the first's with it.
    const next = this.headsOf(nextFrame, viewKey(views[1]));
    const resets = this.resets;
    const view = viewKey(views[0]);
    const heads = this.headsOf(frame, view);
    if (this.resets !== resets) return this.provideCrossing(page, frame, offset, nextFrame, views);
    this.fillItlb(page, heads, frame);
    this.fillItlb(page + 4096, next, nextFrame);
    const key = codeKey(heads, offset);
    const known = this.crossings.at(frame, offset);
    const isThere = known?.nextFrame === nextFrame && known.view === view;
    if (isThere && this.index.find(heads, offset) === known.record) return;
    const both = new Uint8Array(4096 + NEXT_BYTES);
    both.set(this.bytes.subarray(this.frameAddress(frame), this.frameAddress(frame) + 4096));
    both.set(this.bytes.subarray(this.frameAddress(nextFrame), this.frameAddress(nextFrame) + NEXT_BYTES), 4096);
    if (known) this.poisonCrossing(known);
    const record = this.recordsAt + this.nextRecord * RECORD_BYTES;
    this.writer.writeCrossing(both, offset, views[0], record, nextFrame);
    this.nextRecord += CROSSING_RECORDS;
    this.crossings.put({ frame, nextFrame, offset, view, record, key });
    this.index.remove(key);
    this.index.enter(heads, offset, record);
    this.watched.mark(frame, offset, 4096);
    this.watched.mark(nextFrame, 0, NEXT_BYTES);
  }

  /** The record at which control arrives at an offset of a frame, or 0; 64-bit code only. */
  recordAt(frame: number, offset: number): number {
    const heads = this.pages.get(frame)?.views.get(REGION_MODE);
    return heads === undefined ? 0 : this.index.find(heads, offset);
  }
  /** How far the region reaches that control enters at an offset of a frame; undefined if there is none. */
  reachAt(frame: number, offset: number): Reach | undefined {
    return this.installed.get(this.recordAt(frame, offset))?.reach;
  }

  /**
   * Lets the records at a region's entries call it, those that have none yet or one that reaches less far. What they were goes to shadows,
   * from which the interpreter can still run on.
   * @param place  the region's function in the table
   * @returns undefined if the region is out of date, or not wanted any more
   */
  installRegion({ entries, reach, pieces, pages }: CompiledRegion, place: number): InstalledRegion | undefined {
    const { resets } = this;
    // From here on stores into the region's frames are seen, so that what is compared now stays true.
    for (const { frame } of pages) this.headsOf(frame, REGION_MODE);
    if (this.resets !== resets || !pieces.every((piece) => this.isCurrent(piece))) return undefined;
    const isWanted = (entry: RegionEntry): boolean => this.isWanted(entry, reach);
    if (!entries.some(isWanted) || this.nextRecord + roomOf(entries.length, pages.length) > RECORDS) return undefined;
    const region: InstalledRegion = {
      place,
      reach,
      list: this.writePages(pages),
      entries: new Map(),
      isDropped: false,
    };
    entries.forEach((entry, number) => {
      if (isWanted(entry)) this.enterRegion(region, entry, number);
    });
    for (const { frame, start, bytes } of pieces) {
      const end = start + bytes.length;
      this.pages.get(frame)!.pieces.push({ start, end, region });
      this.watched.mark(frame, start, end);
    }
    return region;
  }
  /** Lets control enter a region that is in use at another of its entries. @returns whether it does */
  enterAlso(region: InstalledRegion, entry: RegionEntry, number: number): boolean {
    if (!this.isWanted(entry, region.reach) || this.nextRecord + roomOf(1, 0) > RECORDS) return false;
    this.enterRegion(region, entry, number);
    return true;
  }
  private isWanted({ frame, offset }: RegionEntry, reach: Reach): boolean {
    const before = this.reachAt(frame, offset);
    return this.recordAt(frame, offset) !== 0 && (before === undefined || (before === "rest" && reach === "own"));
  }
  private isCurrent({ frame, start, bytes }: RegionPiece): boolean {
    const at = this.frameAddress(frame) + start;
    return bytes.every((byte, k) => this.bytes[at + k] === byte);
  }

  /** Writes the list of a region's pages; see `RegionPages`. */
  private writePages(pages: readonly RegionPage[]): number {
    const list = this.recordsAt + this.nextRecord * RECORD_BYTES;
    this.words[(list + RegionPages.count) >>> 2] = pages.length;
    pages.forEach(({ distance, frame }, k) => {
      const at = list + RegionPages.first + k * RegionPages.pageBytes;
      this.words[(at + RegionPages.distance) >>> 2] = distance;
      this.words[(at + RegionPages.frame) >>> 2] = frame;
    });
    this.nextRecord += recordsOfPages(pages.length);
    return list;
  }

  /** Makes a record one that enters a region; see `EntryInfo`. */
  private enterRegion(region: InstalledRegion, entry: RegionEntry, number: number): void {
    const record = this.recordAt(entry.frame, entry.offset);
    const before = this.installed.get(record);
    const info = this.recordsAt + this.nextRecord * RECORD_BYTES;
    // The record behind one tells where the next instruction is: a call pushes that.
    const original = before ? this.words[(record + Field.disp) >>> 2] : record;
    this.bytes.copyWithin(info, original, original + 2 * RECORD_BYTES);
    this.halves[(info + RECORD_BYTES) >>> 1] = Builtin.link;
    this.words[(info + RECORD_BYTES + Field.imm) >>> 2] = record + RECORD_BYTES;
    this.words[(info + EntryInfo.pages) >>> 2] = region.list;
    this.words[(info + EntryInfo.arrival) >>> 2] = number | (entry.distance << ARRIVAL_BITS);
    this.nextRecord += EntryInfo.bytes / RECORD_BYTES;
    this.words[(record + Field.disp) >>> 2] = info;
    this.words[(record + Field.imm) >>> 2] = region.place;
    this.halves[record >>> 1] = Builtin.region;
    region.entries.set(record, codeKey(this.pages.get(entry.frame)!.views.get(REGION_MODE)!, entry.offset));
    this.installed.set(record, region);
    if (before) this.leave(before, record);
  }
  /** A region is not entered from a record any more. */
  private leave(region: InstalledRegion, record: number): void {
    region.entries.delete(record);
    if (region.entries.size === 0) this.dropRegion(region);
    this.onReplaced();
  }

  /** @param view  see `viewKey` */
  private headsOf(frame: number, view: number): Heads {
    let page = this.pages.get(frame);
    if (page && !page.isWatched) {
      page.isWatched = true;
      this.watched.watch(frame);
    }
    const known = page?.views.get(view);
    if (known !== undefined) return known;
    let heads = this.index.addPage();
    if (heads === undefined) {
      this.reset();
      page = undefined;
      heads = this.index.addPage()!;
    }
    if (!page) {
      page = new CodePage();
      this.pages.set(frame, page);
      this.watched.watch(frame);
    }
    page.views.set(view, heads);
    if ((view & (CodeMode.sizeMask | CodeMode.singleStep)) === CodeMode.code64)
      this.words[this.frameTable(frame)] = heads;
    return heads;
  }

  private frameTable(frame: number): number {
    return (this.words[(this.vb + State.frameTables) >>> 2] >>> 2) + frame;
  }

  /** Bytes of a frame are about to change by this vcpu's own store. */
  storedInto(frame: number, offset: number, sizeBytes: number): void {
    const isOthers = this.watched.isOthers(frame);
    this.invalidate(frame, offset, sizeBytes);
    if (isOthers) this.watched.tellOthers(frame, offset, sizeBytes);
  }

  /** Takes in what others changed since the last call. */
  catchUp(): void {
    this.watched.catchUp();
  }

  private fillItlb(page: number, heads: Heads, frame: number): void {
    const index = Math.floor(page / 4096) & (ITLB_ENTRIES - 1);
    const at = (this.words[(this.vb + State.itlb) >>> 2] + index * 16) >>> 2;
    this.words[at + Itlb.tag / 4] = page >>> 0;
    this.words[at + Itlb.tag / 4 + 1] = Math.floor(page / 2 ** 32);
    this.words[at + Itlb.heads / 4] = heads;
    this.words[at + Itlb.frame / 4] = frame;
    noteItlb(this.words, this.vb, this.words[(this.vb + State.itlb) >>> 2] - this.vb, page);
  }

  /** Drops the traces and regions that hold any of these bytes. Records of a running trace become look-ups of their own address. */
  invalidate(frame: number, offset: number, sizeBytes: number): void {
    const page = this.pages.get(frame);
    if (!page) return;
    const end = offset + sizeBytes;
    const crossings = this.crossings.take(frame, offset, end);
    for (let n = 0; n < crossings.length; n++) this.poisonCrossing(crossings[n]);
    let isChanged = crossings.length > 0;
    const { pieces } = page;
    for (let n = 0; n < pieces.length; n++) {
      const piece = pieces[n];
      if (piece.region.isDropped || piece.start >= end || offset >= piece.end) continue;
      this.dropRegion(piece.region);
      isChanged = true;
    }
    const traces = page.takeTraces(offset, end);
    this.dropTraces(traces);
    if (!isChanged && traces.length === 0) return;
    page.forgetDropped();
    this.mapAgain(frame, page);
    if (page.traces.length + pieces.length === 0 && !this.crossings.has(frame)) this.unwatch(frame, page);
  }
  /** Where control arrives in the middle of such a trace, or a region is entered there, the records are gone too. */
  private dropTraces(traces: readonly Trace[]): void {
    for (let n = 0; n < traces.length; n++) {
      const { key, record, recordEnd } = traces[n];
      for (let at = record; at < recordEnd; at += RECORD_BYTES) {
        const region = this.halves[at >>> 1] === Builtin.region ? this.installed.get(at) : undefined;
        if (region) this.dropRegion(region);
      }
      this.poison(key, record, recordEnd);
    }
  }
  private mapAgain(frame: number, { traces, pieces }: CodePage): void {
    if (!this.watched.unmark(frame)) return;
    for (let n = 0; n < traces.length; n++) this.watched.mark(frame, traces[n].start, traces[n].end);
    for (let n = 0; n < pieces.length; n++) this.watched.mark(frame, pieces[n].start, pieces[n].end);
    for (const { start, end } of this.crossings.rangesOf(frame)) this.watched.mark(frame, start, end);
  }
  /** A frame has no code any more: until it has some again stores into it go directly. */
  private unwatch(frame: number, page: CodePage): void {
    if (++page.timesEmptied > MAX_EMPTIED) return;
    page.isWatched = false;
    this.watched.unwatch(frame);
  }

  private dropRegion(region: InstalledRegion): void {
    if (region.isDropped) return;
    region.isDropped = true;
    for (const [record, key] of region.entries) {
      this.installed.delete(record);
      this.poison(key, record, record + RECORD_BYTES);
    }
    this.onDropped(region.place);
  }

  private poisonCrossing({ key, record }: Crossing): void {
    this.poison(key, record, record + CROSSING_RECORDS * RECORD_BYTES);
  }
  private poison(key: CodeKey, record: number, recordEnd: number): void {
    this.index.remove(key);
    for (let at = record; at < recordEnd; at += RECORD_BYTES) this.halves[(at + Field.handler) >>> 1] = Builtin.relook;
  }

  /** Forgets everything. */
  reset(): void {
    for (const frame of this.pages.keys()) {
      this.watched.forget(frame);
      this.words[this.frameTable(frame)] = 0;
    }
    this.index.reset();
    this.pages.clear();
    this.crossings.clear();
    this.installed.clear();
    this.nextRecord = 0;
    this.resets++;
    this.onReset();
  }
}
