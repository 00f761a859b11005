/** The bytes of a kernel or a ramdisk, which are in memory, or in a file and read where they are wanted. */
export interface ImageBytes {
  readonly length: number;
  /** @returns a part, which lies within; not to be changed */
  read(from: number, length: number): Uint8Array;
  /** Copies what begins at `from`, as much as `target` takes, which is there. */
  copyTo(target: Uint8Array, from: number): void;
  /** Gives back what they hold; nothing can be read any more. */
  release(): void;
}

/** A smaller array may share a pool with others' bytes. */
const FREED_FROM_BYTES = 1 << 20;

/** Gives an array's memory back at once, which the garbage collector would let lie for long. */
export function freeBytes({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached && buffer.byteLength >= FREED_FROM_BYTES) buffer.transfer(0);
}

export const bytesInMemory = (bytes: Uint8Array): ImageBytes => ({
  length: bytes.length,
  read: (from, length) => bytes.subarray(from, from + length),
  copyTo: (target, from) => target.set(bytes.subarray(from, from + target.length)),
  release: () => freeBytes(bytes),
});
