/** Giving a domain's memory back to the host: Linux's madvise, called through Node's own foreign functions. */
import type { DomainMemory } from "@xenoserver/cpu";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import type { Discard } from "@xenoserver/xen";

/** Pages of private anonymous memory read as zeros afterwards. @see madvise(2) */
const MADV_DONTNEED = 4;
/** Of sysconf, in glibc and musl. */
const SC_PAGESIZE = 30;

/**
 * @returns undefined where it cannot be done: on other systems, on hosts with larger pages than the guest's, and where Node was
 *   built without it. V8 has nothing for it in shared memory; see docs/decisions/0020-memory-given-back.md
 */
export function discardOf(memory: DomainMemory): Discard | undefined {
  const ffi = process.platform === "linux" ? process.getBuiltinModule("node:ffi") : undefined;
  if (ffi === undefined) return undefined;
  const { madvise, sysconf } = ffi.dlopen(null, {
    madvise: { arguments: ["pointer", "u64", "i32"], return: "i32" },
    sysconf: { arguments: ["i32"], return: "i64" },
  }).functions;
  if (Number(sysconf(SC_PAGESIZE)) !== PAGE_BYTES) return undefined;
  const { layout, frameCount } = memory;
  // The memory is never grown, so it stays where it is. Node's types do not know that shared buffers are taken too.
  const base = ffi.getRawPointer(memory.memory.buffer as unknown as ArrayBuffer) + BigInt(layout.framesOffset);
  return (first, count) => {
    if (!(first >= 0 && count > 0 && first + count <= frameCount))
      throw new RangeError(`frames ${first} and ${count - 1} more, expected some of ${frameCount}`);
    const failed = madvise(base + BigInt(first * PAGE_BYTES), BigInt(count * PAGE_BYTES), MADV_DONTNEED);
    if (failed !== 0) throw new Error(`madvise of ${count} frames from ${first}: ${failed}, expected 0`);
  };
}
