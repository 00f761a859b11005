/**
 * Reading what the host has in its page cache, at once and on the caller's thread: a read on one of libuv's threads takes four
 * switches between threads, which is three quarters of what 128 KiB cost. Linux's preadv2, called through Node's own foreign
 * functions: no code of ours is native.
 */

/** @see preadv2(2): fail where the caller would wait for the disk. */
const RWF_NOWAIT = 8;
/** Vectors in one call, 16 bytes each: address and length. */
const MAX_VECTORS = 1024;
/** After reads that had to wait, so many are not tried; it doubles up to this. */
const MAX_SKIPPED = 64;

type Preadv2 = (fd: number, vectors: bigint, count: number, offset: bigint, flags: number) => bigint | number;

interface Calls {
  preadv2: Preadv2;
  addressOf(buffer: ArrayBufferLike): bigint;
}

let known: Calls | null | undefined;

/** Undefined on other systems, in C libraries without the call, and where Node was built without foreign functions. */
function calls(): Calls | undefined {
  if (known === undefined) known = open() ?? null;
  return known ?? undefined;
}

function open(): Calls | undefined {
  const ffi = process.platform === "linux" ? process.getBuiltinModule("node:ffi") : undefined;
  if (ffi === undefined) return undefined;
  try {
    const signature = { arguments: ["i32", "pointer", "i32", "i64", "i32"], return: "i64" } as const;
    const { preadv2 } = ffi.dlopen(null, { preadv2: signature }).functions;
    // Node's types do not know that shared buffers are taken too.
    return { preadv2, addressOf: (buffer) => ffi.getRawPointer(buffer as ArrayBuffer) };
  } catch {
    return undefined;
  }
}

/** One call at a time uses it. */
const VECTORS = new BigUint64Array(2 * MAX_VECTORS);

export const canReadCached = (): boolean => calls() !== undefined;

/** Of one file. */
export class CachedReader {
  readonly #fd: number;
  /** The memory that was read into last: nearly always the domain's. */
  #memory: ArrayBufferLike | undefined;
  #memoryAt = 0n;
  #toSkip = 0;
  #lastSkipped = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Fills buffers of shared memory, if that takes no waiting.
   * @returns bytes that were read, from the first on; 0 if there are none at once, or the read fails, which one that waits will tell
   */
  read(offset: number, into: readonly Uint8Array[]): number {
    if (this.#toSkip > 0) {
      this.#toSkip--;
      return 0;
    }
    const host = calls();
    if (host === undefined || into.length > MAX_VECTORS || !this.#fill(host, into)) return 0;
    const vectorsAt = host.addressOf(VECTORS.buffer);
    const count = Number(host.preadv2(this.#fd, vectorsAt, into.length, BigInt(offset), RWF_NOWAIT));
    this.#lastSkipped = count > 0 ? 0 : Math.min(this.#lastSkipped * 2 + 1, MAX_SKIPPED);
    this.#toSkip = this.#lastSkipped;
    return Math.max(count, 0);
  }

  /** Only shared memory stays where it is for as long as it is referred to. */
  #fill(host: Calls, into: readonly Uint8Array[]): boolean {
    for (let n = 0; n < into.length; n++) {
      const { buffer, byteOffset, length } = into[n]!;
      if (buffer !== this.#memory) {
        if (!(buffer instanceof SharedArrayBuffer)) return false;
        this.#memory = buffer;
        this.#memoryAt = host.addressOf(buffer);
      }
      VECTORS[2 * n] = this.#memoryAt + BigInt(byteOffset);
      VECTORS[2 * n + 1] = BigInt(length);
    }
    return true;
  }
}
