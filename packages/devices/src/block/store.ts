/** What a disk's backend reads from and writes to: a file, an image, anything that keeps bytes at offsets. */

export interface BlockInfo {
  /** A multiple of 512. May grow while the store is open. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** The store gives back space for ranges that start and end on multiples of this; undefined if it never does. */
  readonly discardGranularityBytes?: number;
}

/**
 * Offsets and lengths are in bytes, multiples of 512 inside the store; the caller has checked them. Operations may overlap in
 * time, in any number. Two that overlap in place have no order unless one was settled before the other was called.
 *
 * Buffers are pages of a guest, which may change them at any time: a store that looks at bytes twice, to hash and to keep
 * them, works on a copy.
 *
 * All promises reject with an Error whose message says what failed. The store stays usable after that.
 */
export interface BlockStore {
  readonly info: BlockInfo;
  /** Fills the buffers, one after the other, from `offset` on. */
  read(offset: number, into: readonly Uint8Array[]): Promise<void>;
  /** Once settled, reads see the bytes; they need not survive a crash before a flush. */
  write(offset: number, from: readonly Uint8Array[]): Promise<void>;
  /** Once settled, everything whose write was settled before the call survives the end of this process and of the machine. */
  flush(): Promise<void>;
  /** Says that nobody needs these bytes; they may read as anything until they are written, but never as another file's. */
  discard(offset: number, lengthBytes: number): Promise<void>;
  /** Flushes and gives everything back. Called once, when nothing is in flight. Never rejects: what fails is logged. */
  close(): Promise<void>;
}

/** The sum of the buffers' lengths. */
export function totalBytes(buffers: readonly Uint8Array[]): number {
  let total = 0;
  for (const { length } of buffers) total += length;
  return total;
}
