import { type Gfn, type Gpa, PAGE_BYTES } from "../engine.ts";
import { layOutMemory, type MemoryLayout, P2M_DIRECTORY_ENTRIES, P2M_LEAF_ENTRIES } from "../state/layout.ts";
import { AbsentFrames } from "./absent-frames.ts";
import { CodeLog, HOST_AUTHOR } from "./code-log.ts";
import { FREE_FRAMES_WORDS, FreeFrames } from "./free-frames.ts";
import type { Frame, GuestMemory } from "./guest-memory.ts";

export class OutOfFrames extends Error {
  constructor(frameCount: number) {
    super(`no frame is left of the domain's ${frameCount}`);
    this.name = "OutOfFrames";
  }
}

/** What another thread needs to see the same domain memory. */
export interface DomainMemoryHandle {
  readonly memory: WebAssembly.Memory;
  readonly layout: MemoryLayout;
  /** Shared words: next fresh frame, next p2m leaf, the lists of free frames. */
  readonly control: SharedArrayBuffer;
  readonly codeLog: SharedArrayBuffer;
}

const Control = { nextFrame: 0, nextLeaf: 1, free: 2, words: 2 + FREE_FRAMES_WORDS } as const;
const WASM_PAGE_BYTES = 0x10000;
const P2M_LEAF_BITS = Math.log2(P2M_LEAF_ENTRIES);
/** What V8 allows: 16 GiB, if addresses have 64 bits. */
export const MAX_PAGES = 0x40000;

/** @throws RangeError  the host cannot reserve it */
function newMemory(pages: number, addressType: MemoryLayout["addressType"]): WebAssembly.Memory {
  if (addressType === "i32") return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  // TypeScript's declarations do not know of them yet.
  const limits = { address: "i64", initial: BigInt(pages), maximum: BigInt(pages), shared: true } as unknown;
  return new WebAssembly.Memory(limits as WebAssembly.MemoryDescriptor);
}

/**
 * `GuestMemory` over one shared WebAssembly.Memory.
 *
 * Frames are handed out from a counter and a free list; untouched ones cost the host nothing, since the memory is
 * reserved and only committed by the first access.
 */
export class DomainMemory implements GuestMemory {
  readonly memory: WebAssembly.Memory;
  readonly layout: MemoryLayout;
  readonly frameCount: number;
  /** This thread's view of the changes to code. */
  readonly codeLog: CodeLog;
  /** Frames that were given back. */
  readonly free: FreeFrames;
  /** Frames that are still to be fetched, and from where this thread does. */
  readonly absent: AbsentFrames;
  private readonly control: Int32Array;
  private readonly handleControl: SharedArrayBuffer;
  private readonly bytes: Uint8Array;
  private readonly words: Int32Array;

  private constructor(handle: DomainMemoryHandle) {
    this.memory = handle.memory;
    this.layout = handle.layout;
    this.frameCount = handle.layout.frameCount;
    this.handleControl = handle.control;
    this.codeLog = new CodeLog(handle.codeLog);
    this.control = new Int32Array(handle.control);
    this.bytes = new Uint8Array(handle.memory.buffer);
    this.words = new Int32Array(handle.memory.buffer);
    const links = this.words.subarray(this.layout.freeLinks >>> 2, (this.layout.freeLinks >>> 2) + this.frameCount);
    this.free = new FreeFrames(this.control, Control.free, links);
    this.absent = new AbsentFrames(this.bytes.subarray(this.layout.absentMap, this.layout.absentMap + this.frameCount));
  }

  /**
   * Reserves memory for a domain.
   * @param vcpuCount  how many vcpu areas to reserve, 1–8
   * @param frameCount RAM frames plus what the hypervisor will add
   * @param forceWide  has the frames lie beyond 4 GiB even if there is room for them below
   * @throws RangeError if the host cannot reserve it, or it is more than V8 allows
   */
  static create(vcpuCount: number, frameCount: number, forceWide = false): DomainMemory {
    const layout = layOutMemory(vcpuCount, frameCount, forceWide);
    const pages = layout.totalBytes / WASM_PAGE_BYTES;
    if (pages > MAX_PAGES) {
      throw new RangeError(
        `domain memory of ${frameCount} frames needs ${pages} pages of 64 KiB, expected at most ${MAX_PAGES}`,
      );
    }
    const memory = newMemory(pages, layout.addressType);
    return new DomainMemory({
      memory,
      layout,
      control: new SharedArrayBuffer(Control.words * 4),
      codeLog: new CodeLog().buffer,
    });
  }

  /** The same memory seen from another thread. */
  static attach(handle: DomainMemoryHandle): DomainMemory {
    return new DomainMemory(handle);
  }
  get handle(): DomainMemoryHandle {
    return { memory: this.memory, layout: this.layout, control: this.handleControl, codeLog: this.codeLog.buffer };
  }

  private leafWord(gfn: number, create: boolean): number {
    if (gfn < 0 || gfn >= P2M_DIRECTORY_ENTRIES * P2M_LEAF_ENTRIES) return -1;
    const slot = (this.layout.p2mDirectory >>> 2) + Math.floor(gfn / P2M_LEAF_ENTRIES);
    let leaf = this.words[slot];
    if (leaf === 0) {
      if (!create) return -1;
      const next = Atomics.add(this.control, Control.nextLeaf, 1);
      if (next >= this.layout.p2mLeafCount) throw new OutOfFrames(this.frameCount);
      leaf = this.layout.p2mLeaves + next * P2M_LEAF_ENTRIES * 4;
      this.words[slot] = leaf;
    }
    return (leaf >>> 2) + (gfn % P2M_LEAF_ENTRIES);
  }

  frameAt(gfn: Gfn): Frame | -1 {
    const word = this.leafWord(gfn, false);
    const frame = word < 0 ? -1 : ((this.words[word] - 1) as Frame | -1);
    if (frame >= 0) this.fetch(frame as Frame);
    return frame;
  }
  /** Settles that a frame's contents are there. @throws Error  they cannot be had */
  fetch(frame: Frame): void {
    if (this.bytes[this.layout.absentMap + frame] === 0) return;
    const at = this.frameAddress(frame);
    this.absent.fetch(frame, this.bytes.subarray(at, at + PAGE_BYTES));
  }
  /** Puts in an absent frame's contents; see `AbsentFrames.supply`. @returns false if it is not absent */
  supply(frame: Frame, contents: Uint8Array): boolean {
    const at = this.frameAddress(frame);
    return this.absent.supply(frame, contents, this.bytes.subarray(at, at + PAGE_BYTES));
  }
  mapFrame(gfn: Gfn, frame: Frame): void {
    const word = this.leafWord(gfn, true);
    if (word < 0) throw new RangeError(`gfn 0x${gfn.toString(16)} is beyond the guest-physical address space`);
    this.words[word] = frame + 1;
  }
  mapFresh(gfn: Gfn, count: number): void {
    const first = this.takeFresh(count);
    for (let done = 0; done < count; ) {
      const from = gfn + done;
      const word = this.leafWord(from, true);
      if (word < 0) throw new RangeError(`gfn 0x${from.toString(16)} is beyond the guest-physical address space`);
      const part = Math.min(count - done, P2M_LEAF_ENTRIES - (from % P2M_LEAF_ENTRIES));
      for (let n = 0; n < part; n++) this.words[word + n] = first + done + n + 1;
      done += part;
    }
  }
  unmapFrame(gfn: Gfn): void {
    const word = this.leafWord(gfn, false);
    if (word >= 0) this.words[word] = 0;
  }

  allocateFrame(): Frame {
    const free = this.free.take();
    if (free !== undefined) {
      this.clear(free);
      return free;
    }
    return this.takeFresh(1);
  }
  /** @returns the first of frames that nobody had yet */
  private takeFresh(count: number): Frame {
    const first = Atomics.add(this.control, Control.nextFrame, count);
    if (first + count <= this.frameCount) return first as Frame;
    Atomics.sub(this.control, Control.nextFrame, count);
    throw new OutOfFrames(this.frameCount);
  }
  freeFrame(frame: Frame): void {
    this.markWritten(frame);
    this.free.give(frame);
  }
  get hasFreed(): boolean {
    return this.free.hasGiven;
  }
  /** Looks first: a frame that nobody wrote to has no memory of the host, and shall not get any by this. */
  private clear(frame: Frame): void {
    if (this.isZero(frame)) return;
    this.frameBytes(frame).fill(0);
    this.markWritten(frame);
  }

  /** How many frames were ever handed out: those from 0 on. */
  get usedFrames(): number {
    return Math.min(Atomics.load(this.control, Control.nextFrame), this.frameCount);
  }
  /** True for a frame that holds nothing but zeros. */
  isZero(frame: Frame): boolean {
    this.fetch(frame);
    const { words } = this;
    const first = this.frameAddress(frame) / 4;
    // All of a domain's memory is looked at when it is copied: by one word at a time that takes twice as long.
    for (let at = first; at < first + PAGE_BYTES / 4; at += 8) {
      const low = words[at] | words[at + 1] | words[at + 2] | words[at + 3];
      if ((low | words[at + 4] | words[at + 5] | words[at + 6] | words[at + 7]) !== 0) return false;
    }
    return true;
  }
  /** Which frames are in use, and where the guest sees them, as words: how many were used, how many of them are free, those, then pairs of gfn and frame. */
  saveMap(): Int32Array<ArrayBuffer> {
    const free = this.free.list();
    const leaves = this.leaves();
    const map = new Int32Array(2 + free.length + leaves.length * P2M_LEAF_ENTRIES * 2);
    map.set([this.usedFrames, free.length]);
    map.set(free, 2);
    let at = 2 + free.length;
    for (const { slot, leaf } of leaves)
      for (let n = 0; n < P2M_LEAF_ENTRIES; n++) {
        const frame = this.words[leaf + n] - 1;
        if (frame < 0) continue;
        map[at++] = slot * P2M_LEAF_ENTRIES + n;
        map[at++] = frame;
      }
    return map.slice(0, at);
  }
  /** The parts of the physical map that there are, as words. */
  private leaves(): { readonly slot: number; readonly leaf: number }[] {
    const leaves: { readonly slot: number; readonly leaf: number }[] = [];
    const { words } = this;
    const directory = this.layout.p2mDirectory >>> 2;
    for (let slot = 0; slot < P2M_DIRECTORY_ENTRIES; slot++) {
      const leaf = words[directory + slot];
      if (leaf !== 0) leaves.push({ slot, leaf: leaf >>> 2 });
    }
    return leaves;
  }
  /**
   * Takes up a saved map, in memory of which nothing is used yet, but perhaps another map was loaded.
   * @throws RangeError if it names frames or addresses that there are not, or one frame as free twice
   */
  loadMap(saved: Int32Array | Uint32Array): void {
    const [used = -1, freeCount = -1] = [saved[0], saved[1]];
    const isWhole = freeCount >= 0 && freeCount <= used && (saved.length - freeCount) % 2 === 0;
    if (used < 0 || used > this.frameCount || !isWhole || saved.length < 2 + freeCount)
      throw new RangeError(`memory map of ${used} frames, ${freeCount} free, expected at most ${this.frameCount}`);
    const check = (frame: number): Frame => {
      if (frame < 0 || frame >= used) throw new RangeError(`memory map: frame ${frame}, expected one of ${used}`);
      return frame as Frame;
    };
    Atomics.store(this.control, Control.nextFrame, used);
    this.free.forget();
    for (const { leaf } of this.leaves()) this.words.fill(0, leaf, leaf + P2M_LEAF_ENTRIES);
    const seen = new Uint8Array(used);
    // The first one is to be used again first.
    for (let at = 1 + freeCount; at >= 2; at--) {
      const frame = check(saved[at]);
      if (seen[frame] === 1) throw new RangeError(`memory map: frame ${frame} is free twice`);
      seen[frame] = 1;
      this.free.give(frame);
    }
    const { words } = this;
    let [slot, leaf] = [-1, 0];
    // There are as many as the domain has frames.
    for (let at = 2 + freeCount; at < saved.length; at += 2) {
      const gfn = saved[at];
      const frame = saved[at + 1];
      if (frame >>> 0 >= used) check(frame);
      if (gfn >>> P2M_LEAF_BITS !== slot) {
        this.mapFrame(gfn as Gfn, frame as Frame);
        slot = gfn >>> P2M_LEAF_BITS;
        leaf = this.leafWord(slot << P2M_LEAF_BITS, false);
      } else words[leaf + (gfn & (P2M_LEAF_ENTRIES - 1))] = frame + 1;
    }
  }

  private frameAddress(frame: Frame): number {
    return this.layout.framesOffset + frame * PAGE_BYTES;
  }
  frameBytes(frame: Frame): Uint8Array {
    this.fetch(frame);
    const at = this.frameAddress(frame);
    return this.bytes.subarray(at, at + PAGE_BYTES);
  }
  markWritten(frame: Frame): void {
    this.bytes[this.layout.dirtyMap + frame] = 1;
    if (this.bytes[this.layout.frameFlags + frame] !== 0) this.codeLog.modified(frame, 0, PAGE_BYTES, HOST_AUTHOR);
  }

  private copy(at: Gpa, buffer: Uint8Array, toGuest: boolean): boolean {
    let done = 0;
    while (done < buffer.length) {
      const gpa = at + done;
      const inPage = gpa % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - inPage, buffer.length - done);
      const frame = this.frameAt(Math.floor(gpa / PAGE_BYTES) as Gfn);
      if (frame < 0) return false;
      const host = this.frameAddress(frame as Frame) + inPage;
      if (toGuest) {
        this.bytes.set(buffer.subarray(done, done + count), host);
        this.markWritten(frame as Frame);
      } else buffer.set(this.bytes.subarray(host, host + count), done);
      done += count;
    }
    return true;
  }
  read(at: Gpa, into: Uint8Array): boolean {
    return this.copy(at, into, false);
  }
  write(at: Gpa, from: Uint8Array): boolean {
    return this.copy(at, from, true);
  }
}
