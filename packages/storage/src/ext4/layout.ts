/**
 * How an ext4 file system divides its blocks: groups of 32,768 blocks, each with its own bitmaps and inodes in front of its data.
 * @see Linux's Documentation/filesystems/ext4, "Layout" and "Block Groups"
 */
import { StorageError } from "../error.ts";

export const BLOCK_BYTES = 4096;
export const BLOCKS_PER_GROUP = 8 * BLOCK_BYTES;
export const INODE_BYTES = 256;
export const DESCRIPTOR_BYTES = 32;
/** Numbers up to here are the file system's own; this one is lost+found's. */
export const FIRST_INODE = 11;

const BYTES_PER_INODE = 16384;
const INODES_PER_BLOCK = BLOCK_BYTES / INODE_BYTES;
/** A last group with less room than this behind its own tables is not worth having. */
const MIN_GROUP_DATA_BLOCKS = 64;
/** Blocks have 32-bit numbers without the feature "64bit". */
const MAX_BLOCKS = 2 ** 32 - 1;

export interface Group {
  readonly firstBlock: number;
  readonly blockCount: number;
  /** Has a copy of the superblock and of the group descriptors. */
  readonly hasSuperblock: boolean;
  readonly blockBitmapAt: number;
  readonly inodeBitmapAt: number;
  readonly inodeTableAt: number;
  readonly dataAt: number;
}

export interface Layout {
  readonly blockCount: number;
  readonly inodesPerGroup: number;
  readonly inodeTableBlocks: number;
  readonly descriptorBlocks: number;
  readonly groups: readonly Group[];
}

/**
 * @param sizeBytes   of the disk
 * @param inodeCount  how many files there will be at the least
 * @throws StorageError  the disk is too small or too large
 */
export function layOut(sizeBytes: number, inodeCount: number): Layout {
  const available = Math.floor(sizeBytes / BLOCK_BYTES);
  if (available > MAX_BLOCKS)
    throw new StorageError(`file system: size is ${sizeBytes} bytes, expected ≤ ${MAX_BLOCKS * BLOCK_BYTES}`);
  const groupCount = Math.ceil(available / BLOCKS_PER_GROUP);
  const inodes = Math.max(sizeBytes / BYTES_PER_INODE, inodeCount + FIRST_INODE);
  const perGroup = Math.ceil(inodes / groupCount / INODES_PER_BLOCK) * INODES_PER_BLOCK;
  // A bitmap of one block has to do for a group's inodes.
  const inodesPerGroup = Math.min(perGroup, 8 * BLOCK_BYTES);
  if (inodesPerGroup * groupCount < inodeCount + FIRST_INODE)
    throw new StorageError(`file system: has ${inodeCount} files, expected fewer for ${sizeBytes} bytes`);
  const inodeTableBlocks = inodesPerGroup / INODES_PER_BLOCK;
  const descriptorBlocks = Math.ceil((groupCount * DESCRIPTOR_BYTES) / BLOCK_BYTES);
  const groups: Group[] = [];
  for (let n = 0; n < groupCount; n++) {
    const firstBlock = n * BLOCKS_PER_GROUP;
    const blockCount = Math.min(BLOCKS_PER_GROUP, available - firstBlock);
    const hasSuperblock = isSparse(n);
    const blockBitmapAt = firstBlock + (hasSuperblock ? 1 + descriptorBlocks : 0);
    const dataAt = blockBitmapAt + 2 + inodeTableBlocks;
    if (dataAt + MIN_GROUP_DATA_BLOCKS > firstBlock + blockCount) {
      if (n === 0) throw new StorageError(`file system: size is ${sizeBytes} bytes, expected more`);
      break;
    }
    const tables = { blockBitmapAt, inodeBitmapAt: blockBitmapAt + 1, inodeTableAt: blockBitmapAt + 2 };
    groups.push({ firstBlock, blockCount, hasSuperblock, ...tables, dataAt });
  }
  const last = groups.at(-1)!;
  return { blockCount: last.firstBlock + last.blockCount, inodesPerGroup, inodeTableBlocks, descriptorBlocks, groups };
}

/** Superblocks are kept in groups 0, 1 and the powers of 3, 5 and 7. */
function isSparse(group: number): boolean {
  if (group <= 1) return true;
  return [3, 5, 7].some((base) => {
    let power = base;
    while (power < group) power *= base;
    return power === group;
  });
}

export interface Run {
  readonly firstBlock: number;
  readonly blockCount: number;
}

/** Hands out blocks in ascending order. */
export class BlockAllocator {
  readonly #layout: Layout;
  #group = 0;
  #next: number;

  constructor(layout: Layout) {
    this.#layout = layout;
    this.#next = layout.groups[0]!.dataAt;
  }

  /** @throws StorageError  there are not so many left */
  allocate(blockCount: number): Run[] {
    const runs: Run[] = [];
    for (let left = blockCount; left > 0; ) {
      const group = this.#layout.groups[this.#group];
      if (group === undefined) {
        const bytes = this.#layout.blockCount * BLOCK_BYTES;
        throw new StorageError(`file system: the files do not fit into ${bytes} bytes, expected a larger size`);
      }
      const room = group.firstBlock + group.blockCount - this.#next;
      const count = Math.min(left, room);
      if (count > 0) runs.push({ firstBlock: this.#next, blockCount: count });
      this.#next += count;
      left -= count;
      if (count === room) this.#next = this.#layout.groups[++this.#group]?.dataAt ?? 0;
    }
    return runs;
  }

  /** Where the group's used blocks end; what is behind is free. */
  usedEnd(group: number): number {
    const { dataAt, firstBlock, blockCount } = this.#layout.groups[group]!;
    if (group < this.#group) return firstBlock + blockCount;
    return group === this.#group ? this.#next : dataAt;
  }
}
