/** A set of a disk's blocks, a bit for each. */

/** Bytes of a block, of which a disk's last one may have fewer. */
export const SET_BLOCK_BYTES = 4096;

/** Blocks that lie behind one another. */
export interface BlockRun {
  readonly first: number;
  readonly count: number;
}

export class BlockSet {
  #bits: Uint32Array;
  #size = 0;

  /** @param sizeBytes  of the disk; one that grows meanwhile may have more blocks */
  constructor(sizeBytes: number) {
    this.#bits = new Uint32Array(Math.ceil(sizeBytes / SET_BLOCK_BYTES / 32));
  }

  /** How many there are. */
  get size(): number {
    return this.#size;
  }

  has(block: number): boolean {
    return ((this.#bits[block >>> 5] ?? 0) & (1 << (block & 31))) !== 0;
  }

  add(block: number): void {
    const word = block >>> 5;
    if (word >= this.#bits.length) this.#grow(word + 1);
    const bit = 1 << (block & 31);
    if ((this.#bits[word]! & bit) !== 0) return;
    this.#bits[word]! |= bit;
    this.#size++;
  }

  /** Adds every block that a range touches. */
  addBytes(offset: number, lengthBytes: number): void {
    const end = Math.ceil((offset + lengthBytes) / SET_BLOCK_BYTES);
    for (let block = Math.floor(offset / SET_BLOCK_BYTES); block < end; block++) this.add(block);
  }

  addAll(other: BlockSet): void {
    for (const { first, count } of other.runs(Number.POSITIVE_INFINITY))
      for (let block = first; block < first + count; block++) this.add(block);
  }

  /** In ascending order. @param most  blocks of a run */
  *runs(most: number): Generator<BlockRun> {
    const end = this.#bits.length * 32;
    for (let block = 0; block < end; ) {
      if (this.#bits[block >>> 5] === 0) {
        block = ((block >>> 5) + 1) * 32;
        continue;
      }
      if (!this.has(block)) {
        block++;
        continue;
      }
      const first = block;
      while (block - first < most && this.has(block)) block++;
      yield { first, count: block - first };
    }
  }

  #grow(words: number): void {
    const bits = new Uint32Array(Math.max(words, this.#bits.length * 2));
    bits.set(this.#bits);
    this.#bits = bits;
  }
}
