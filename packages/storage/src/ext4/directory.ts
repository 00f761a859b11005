/**
 * Directories: blocks of entries, each of which reaches to the next; the last one reaches to the block's end.
 * @see Linux's Documentation/filesystems/ext4, "Linear (Classic) Directories"
 */
import type { FileNode } from "../files/file-tree.ts";
import { BLOCK_BYTES } from "./layout.ts";

const FILE_TYPES: Readonly<Record<FileNode["type"], number>> = {
  file: 1,
  directory: 2,
  "char-device": 3,
  "block-device": 4,
  fifo: 5,
  socket: 6,
  symlink: 7,
};

export interface DirectoryEntry {
  readonly name: string;
  readonly inode: number;
  readonly type: FileNode["type"];
}

const entryBytes = (nameBytes: number): number => (8 + nameBytes + 3) & ~3;

/** The blocks of a directory; "." and ".." come first among the entries. */
export function encodeDirectory(entries: readonly DirectoryEntry[], minBlocks = 1): Uint8Array[] {
  const blocks: Buffer[] = [];
  let block = Buffer.alloc(0);
  let at = BLOCK_BYTES;
  let last = 0;
  const finish = (): void => {
    if (block.length > 0) block.writeUInt16LE(BLOCK_BYTES - last, last + 4);
  };
  for (const { name, inode, type } of entries) {
    const nameBytes = Buffer.from(name);
    const needed = entryBytes(nameBytes.length);
    if (at + needed > BLOCK_BYTES) {
      finish();
      block = Buffer.alloc(BLOCK_BYTES);
      blocks.push(block);
      at = 0;
    }
    block.writeUInt32LE(inode, at);
    block.writeUInt16LE(needed, at + 4);
    block.writeUInt8(nameBytes.length, at + 6);
    block.writeUInt8(FILE_TYPES[type], at + 7);
    block.set(nameBytes, at + 8);
    last = at;
    at += needed;
  }
  finish();
  while (blocks.length < minBlocks) {
    const empty = Buffer.alloc(BLOCK_BYTES);
    empty.writeUInt16LE(BLOCK_BYTES, 4);
    blocks.push(empty);
  }
  return blocks;
}
