/**
 * Guest memory as 32-bit words, for the few places that the guest and the hypervisor change at the same time.
 * Everything else goes through `GuestMemory.read` and `write`.
 */
import { type Frame, type GuestMemory, PAGE_BYTES } from "@xenoserver/cpu";

export class GuestWords {
  readonly memory: GuestMemory;
  readonly words: Int32Array;

  constructor(memory: GuestMemory) {
    this.memory = memory;
    this.words = new Int32Array(memory.memory.buffer);
  }

  /** Index in `words` of the first word of a frame. */
  wordOf(frame: Frame): number {
    return this.memory.frameBytes(frame).byteOffset / 4;
  }

  /** Sets a bit of a little-endian bit string that starts at word `base`; true if it was set before. */
  testAndSetBit(base: number, bit: number): boolean {
    const mask = 1 << (bit & 31);
    return (Atomics.or(this.words, base + (bit >>> 5), mask) & mask) !== 0;
  }

  /** As testAndSetBit, but clears. */
  testAndClearBit(base: number, bit: number): boolean {
    const mask = 1 << (bit & 31);
    return (Atomics.and(this.words, base + (bit >>> 5), ~mask) & mask) !== 0;
  }

  testBit(base: number, bit: number): boolean {
    return (Atomics.load(this.words, base + (bit >>> 5)) & (1 << (bit & 31))) !== 0;
  }
}

/** True if `bytes` bytes from `offset` stay inside one page and start on a multiple of `align`. */
export function fitsPage(offset: number, bytes: number, align: number): boolean {
  return offset % align === 0 && offset >= 0 && offset + bytes <= PAGE_BYTES;
}
