/** Blocks that say which they are and when they were written. */

export const BLOCKS = 1024;
/** Blocks behind those that are only discarded. */
export const SPARE_BLOCKS = 64;
const BLOCKS_PER_ROUND = 24;

/** Which blocks round `seq` writes: some together, some apart. */
export function blocksOf(seq: number): number[] {
  const start = (seq * 131) % (BLOCKS - 8);
  const together = Array.from({ length: 8 }, (_, n) => start + n);
  const apart = Array.from({ length: BLOCKS_PER_ROUND - 8 }, (_, n) => (seq * 17 + n * 97) % BLOCKS);
  return [...new Set([...together, ...apart])];
}

export function blockOf(block: number, seq: number): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: 1024 }, (_, n) => (n % 2 === 0 ? block : seq)).buffer);
}

/** The round that wrote this block; 0 for a block of zeros; undefined if it is no block of ours, or parts of two. */
export function roundOf(bytes: Uint8Array, block: number): number | undefined {
  const words = new Uint32Array(bytes.slice().buffer);
  const seq = words[1]!;
  return words.every((word, n) => word === (n % 2 === 0 ? (seq === 0 ? 0 : block) : seq)) ? seq : undefined;
}
