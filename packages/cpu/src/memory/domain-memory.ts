import { type Gfn, type Gpa, PAGE_BYTES } from "../engine.ts";
import { layOutMemory, type MemoryLayout, P2M_DIRECTORY_ENTRIES, P2M_LEAF_ENTRIES } from "../state/layout.ts";
import { AbsentFrames } from "./absent-frames.ts";
import { CodeLog, HOST_AUTHOR } from "./code-log.ts";
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
  /** Shared words: next fresh frame, next p2m leaf, head of the free list. */
  readonly control: SharedArrayBuffer;
  readonly codeLog: SharedArrayBuffer;
}

const Control = { nextFrame: 0, nextLeaf: 1, freeHead: 2 } as const;
const WASM_PAGE_BYTES = 0x10000;

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
    this.absent = new AbsentFrames(this.bytes.subarray(this.layout.absentMap, this.layout.absentMap + this.frameCount));
  }

  /**
   * Reserves memory for a domain.
   * @param vcpuCount  how many vcpu areas to reserve, 1–8
   * @param frameCount RAM frames plus what the hypervisor will add
   * @throws RangeError if the host cannot reserve it, or it is more than 4 GiB
   */
  static create(vcpuCount: number, frameCount: number): DomainMemory {
    const layout = layOutMemory(vcpuCount, frameCount);
    const pages = layout.totalBytes / WASM_PAGE_BYTES;
    if (pages > 65536) {
      throw new RangeError(
        `domain memory of ${frameCount} frames needs ${pages} pages of 64 KiB, expected at most 65536`,
      );
    }
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    return new DomainMemory({ memory, layout, control: new SharedArrayBuffer(16), codeLog: new CodeLog().buffer });
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
  mapFrame(gfn: Gfn, frame: Frame): void {
    const word = this.leafWord(gfn, true);
    if (word < 0) throw new RangeError(`gfn 0x${gfn.toString(16)} is beyond the guest-physical address space`);
    this.words[word] = frame + 1;
  }
  unmapFrame(gfn: Gfn): void {
    const word = this.leafWord(gfn, false);
    if (word >= 0) this.words[word] = 0;
  }

  allocateFrame(): Frame {
    for (;;) {
      const head = Atomics.load(this.control, Control.freeHead);
      if (head === 0) break;
      this.fetch((head - 1) as Frame);
      const link = this.frameAddress((head - 1) as Frame) >>> 2;
      const next = this.words[link];
      if (Atomics.compareExchange(this.control, Control.freeHead, head, next) === head) {
        this.words[link] = 0;
        return (head - 1) as Frame;
      }
    }
    const fresh = Atomics.add(this.control, Control.nextFrame, 1);
    if (fresh >= this.frameCount) {
      Atomics.sub(this.control, Control.nextFrame, 1);
      throw new OutOfFrames(this.frameCount);
    }
    return fresh as Frame;
  }
  freeFrame(frame: Frame): void {
    this.frameBytes(frame).fill(0);
    this.markWritten(frame);
    const link = this.frameAddress(frame) >>> 2;
    for (;;) {
      const head = Atomics.load(this.control, Control.freeHead);
      this.words[link] = head;
      if (Atomics.compareExchange(this.control, Control.freeHead, head, frame + 1) === head) return;
    }
  }

  /** How many frames were ever handed out: those from 0 on. */
  get usedFrames(): number {
    return Math.min(Atomics.load(this.control, Control.nextFrame), this.frameCount);
  }
  /** True for a frame that holds nothing but zeros. */
  isZero(frame: Frame): boolean {
    this.fetch(frame);
    const first = this.frameAddress(frame) >>> 2;
    for (let at = first; at < first + PAGE_BYTES / 4; at++) if (this.words[at] !== 0) return false;
    return true;
  }
  /** Which frames are in use, and where the guest sees them, as words: how many were used, the first free one plus 1, then pairs of gfn and frame. */
  saveMap(): Int32Array<ArrayBuffer> {
    const pairs: number[] = [this.usedFrames, Atomics.load(this.control, Control.freeHead)];
    for (let slot = 0; slot < P2M_DIRECTORY_ENTRIES; slot++) {
      const leaf = this.words[(this.layout.p2mDirectory >>> 2) + slot] >>> 2;
      for (let n = 0; leaf !== 0 && n < P2M_LEAF_ENTRIES; n++)
        if (this.words[leaf + n] !== 0) pairs.push(slot * P2M_LEAF_ENTRIES + n, this.words[leaf + n] - 1);
    }
    return Int32Array.from(pairs);
  }
  /**
   * Takes up a saved map, in memory of which nothing is used yet.
   * @throws RangeError if it names frames or addresses that there are not
   */
  loadMap(saved: Int32Array): void {
    const [used = -1, freeHead = -1] = saved;
    const isFrame = (frame: number): boolean => frame >= 0 && frame < used;
    if (used < 0 || used > this.frameCount || freeHead < 0 || freeHead > used || saved.length % 2 !== 0)
      throw new RangeError(`memory map of ${used} frames, expected at most ${this.frameCount}`);
    Atomics.store(this.control, Control.nextFrame, used);
    Atomics.store(this.control, Control.freeHead, freeHead);
    for (let at = 2; at < saved.length; at += 2) {
      const [gfn, frame] = [saved[at], saved[at + 1]];
      if (!isFrame(frame)) throw new RangeError(`memory map: frame ${frame}, expected one of ${used}`);
      this.mapFrame(gfn as Gfn, frame as Frame);
    }
  }

  /**
   * Follows the list of free frames, which lies in the frames themselves, once their contents were loaded.
   * @throws RangeError if it leaves the frames that were used, or comes back to where it was
   */
  checkFreeList(): void {
    const { usedFrames } = this;
    let [link, steps] = [Atomics.load(this.control, Control.freeHead), 0];
    for (; link !== 0; steps++) {
      if (link < 0 || link > usedFrames || steps === usedFrames)
        throw new RangeError(
          `free frames: link ${link} after ${steps} frames, expected the end or one of ${usedFrames}`,
        );
      this.fetch((link - 1) as Frame);
      link = this.words[this.frameAddress((link - 1) as Frame) >>> 2];
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
