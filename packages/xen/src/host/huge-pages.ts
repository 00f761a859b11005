/**
 * Large pages of the host for what is filled from one end to the other. Linux gives memory page by page as it is touched, which takes
 * some microseconds each (eleven, where its hypervisor shadows page tables): a sixth of a second for a kernel's 50 MB.
 */
import { Advice, hostMemory } from "./madvise.ts";

const HUGE_BYTES = 2 << 20;

/** Asks for large pages in a part of a buffer; nothing happens where there are none. All of it should be used: what is not takes memory too. */
export function preferHugePages(buffer: ArrayBufferLike, from: number, sizeBytes: number): void {
  if (sizeBytes < 2 * HUGE_BYTES) return;
  const host = hostMemory();
  if (host === undefined) return;
  const base = host.addressOf(buffer);
  const mask = BigInt(HUGE_BYTES - 1);
  const start = (base + BigInt(from) + mask) & ~mask;
  const end = (base + BigInt(from + sizeBytes)) & ~mask;
  // Refused where the kernel has no such pages, which is as well.
  if (start < end) host.madvise(start, end - start, Advice.hugepage);
}

/** A zeroed array that will be filled. */
export function arrayToFill(sizeBytes: number): Uint8Array<ArrayBuffer> {
  const array = new Uint8Array(sizeBytes);
  preferHugePages(array.buffer, 0, sizeBytes);
  return array;
}
