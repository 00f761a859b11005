/** Giving a domain's memory back to the host. */
import type { DomainMemory } from "@xenoserver/cpu";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import type { Discard } from "@xenoserver/xen";
import { Advice, hostMemory } from "@xenoserver/xen/host/madvise.ts";

/**
 * @returns undefined where it cannot be done: on other systems, on hosts with larger pages than the guest's, and where Node was
 *   built without it. V8 has nothing for it in shared memory; see docs/decisions/0020-memory-given-back.md
 */
export function discardOf(memory: DomainMemory): Discard | undefined {
  const host = hostMemory();
  if (host?.pageBytes !== PAGE_BYTES) return undefined;
  const { layout, frameCount } = memory;
  // The memory is never grown, so it stays where it is.
  const base = host.addressOf(memory.memory.buffer) + BigInt(layout.framesOffset);
  return (first, count) => {
    if (!(first >= 0 && count > 0 && first + count <= frameCount))
      throw new RangeError(`frames ${first} and ${count - 1} more, expected some of ${frameCount}`);
    const failed = host.madvise(base + BigInt(first * PAGE_BYTES), BigInt(count * PAGE_BYTES), Advice.dontneed);
    if (failed !== 0) throw new Error(`madvise of ${count} frames from ${first}: ${failed}, expected 0`);
  };
}

/** Gives all memory of a domain that has ended back to the host, without waiting until it is collected; where that can be done. */
export function discardAll(memory: DomainMemory): void {
  const host = hostMemory();
  const { buffer } = memory.memory;
  host?.madvise(host.addressOf(buffer), BigInt(buffer.byteLength), Advice.dontneed);
}
