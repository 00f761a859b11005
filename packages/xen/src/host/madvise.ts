/** Linux's madvise, called through Node's own foreign functions: no code of ours is native. */
import { linuxFunctions } from "./foreign-functions.ts";

/** @see madvise(2) */
export const Advice = {
  /** Pages of private anonymous memory read as zeros afterwards. */
  dontneed: 4,
  hugepage: 14,
} as const;

export interface HostMemory {
  /** @returns 0, or -1 if the host will not */
  madvise(address: bigint, sizeBytes: bigint, advice: number): number;
  /** Where a buffer's first byte lies; it must neither be grown nor moved meanwhile. */
  addressOf(buffer: ArrayBufferLike): bigint;
  readonly pageBytes: number;
}

/** Of sysconf, in glibc and musl. */
const SC_PAGESIZE = 30;

let known: HostMemory | null | undefined;

/** Undefined on other systems, and where Node was built without foreign functions. */
export function hostMemory(): HostMemory | undefined {
  if (known === undefined) known = open() ?? null;
  return known ?? undefined;
}

function open(): HostMemory | undefined {
  const ffi = linuxFunctions();
  if (ffi === undefined) return undefined;
  const { madvise, sysconf } = ffi.dlopen(null, {
    madvise: { arguments: ["pointer", "u64", "i32"], return: "i32" },
    sysconf: { arguments: ["i32"], return: "i64" },
  }).functions;
  return {
    madvise,
    // Node's types do not know that shared buffers are taken too.
    addressOf: (buffer) => ffi.getRawPointer(buffer as ArrayBuffer),
    pageBytes: Number(sysconf(SC_PAGESIZE)),
  };
}
