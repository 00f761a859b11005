/**
 * Inodes: what belongs to a file beside its names and bytes.
 * @see Linux's Documentation/filesystems/ext4, "Index Nodes", "Extent Tree", "Extended Attributes"
 */
import { StorageError } from "../error.ts";
import type { FileNode, FileOwner } from "../files/file-tree.ts";
import { BLOCK_BYTES, INODE_BYTES, type Run } from "./layout.ts";

const FILE_TYPE_BITS: Readonly<Record<FileNode["type"], number>> = {
  fifo: 0o010000,
  "char-device": 0o020000,
  directory: 0o040000,
  "block-device": 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
};

const EXTENTS_FLAG = 0x80000;
const BLOCK_AREA_AT = 40;
const BLOCK_AREA_BYTES = 60;
const EXTRA_BYTES = 32;
const XATTRS_AT = 128 + EXTRA_BYTES;
const EXTENT_MAGIC = 0xf30a;
/** Longer ones would mean blocks that are allocated and not initialised. */
const MAX_EXTENT_BLOCKS = 32768;
const EXTENTS_IN_INODE = 4;
const EXTENTS_IN_BLOCK = Math.floor((BLOCK_BYTES - 12) / 12);

/** What the 60 bytes for a file's blocks hold. */
export type BlockArea =
  | { readonly kind: "extents"; readonly area: Uint8Array; readonly blockCount: number }
  | { readonly kind: "inline"; readonly area: Uint8Array };

export interface InodeFields {
  readonly type: FileNode["type"];
  readonly owner: FileOwner;
  readonly links: number;
  readonly sizeBytes: number;
  readonly blocks: BlockArea;
}

export function encodeInode({ type, owner, links, sizeBytes, blocks }: InodeFields, name: string): Uint8Array {
  const bytes = Buffer.alloc(INODE_BYTES);
  const time = Math.max(0, Math.min(owner.mtime, 0x7fffffff));
  bytes.writeUInt16LE(FILE_TYPE_BITS[type] | owner.mode, 0);
  bytes.writeUInt16LE(owner.uid & 0xffff, 2);
  bytes.writeUInt32LE(sizeBytes % 2 ** 32, 4);
  for (const at of [8, 12, 16]) bytes.writeUInt32LE(time, at);
  bytes.writeUInt16LE(owner.gid & 0xffff, 24);
  bytes.writeUInt16LE(links, 26);
  const sectors = blocks.kind === "extents" ? (blocks.blockCount * BLOCK_BYTES) / 512 : 0;
  bytes.writeUInt32LE(sectors % 2 ** 32, 28);
  bytes.writeUInt32LE(blocks.kind === "extents" ? EXTENTS_FLAG : 0, 32);
  bytes.set(blocks.area, BLOCK_AREA_AT);
  bytes.writeUInt32LE(Math.floor(sizeBytes / 2 ** 32), 108);
  bytes.writeUInt16LE(Math.floor(sectors / 2 ** 32), 116);
  bytes.writeUInt16LE((owner.uid >>> 16) & 0xffff, 120);
  bytes.writeUInt16LE((owner.gid >>> 16) & 0xffff, 122);
  bytes.writeUInt16LE(EXTRA_BYTES, 128);
  bytes.writeUInt32LE(time, 144);
  if (owner.xattrs !== undefined) bytes.set(encodeXattrs(owner.xattrs, name), XATTRS_AT);
  return bytes;
}

export function inlineArea(bytes: Uint8Array): BlockArea {
  const area = new Uint8Array(BLOCK_AREA_BYTES);
  area.set(bytes);
  return { kind: "inline", area };
}

/** Whether a link's target lies in the inode itself. */
export const isInlineTarget = (targetBytes: number): boolean => targetBytes < BLOCK_AREA_BYTES;

/** @see Linux, new_encode_dev and old_encode_dev */
export function deviceArea(major: number, minor: number): BlockArea {
  const area = Buffer.alloc(BLOCK_AREA_BYTES);
  if (major < 256 && minor < 256) area.writeUInt32LE((major << 8) | minor, 0);
  else area.writeUInt32LE(((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0, 4);
  return inlineArea(area);
}

/**
 * The tree that finds a file's blocks: extents in the inode, or in blocks that the inode names.
 * @param allocate  gives a block for the tree itself
 * @returns         the inode's area, and the tree's own blocks with their numbers
 */
export function extentArea(
  runs: readonly Run[],
  allocate: () => number,
): { blocks: BlockArea; treeBlocks: ReadonlyMap<number, Uint8Array> } {
  const extents = splitRuns(runs);
  const dataBlocks = runs.reduce((sum, run) => sum + run.blockCount, 0);
  const treeBlocks = new Map<number, Uint8Array>();
  if (extents.length <= EXTENTS_IN_INODE) {
    const area = node(0, EXTENTS_IN_INODE, BLOCK_AREA_BYTES, extents.map(encodeExtent));
    return { blocks: { kind: "extents", area, blockCount: dataBlocks }, treeBlocks };
  }
  const entries: Uint8Array[] = [];
  for (let n = 0; n < extents.length; n += EXTENTS_IN_BLOCK) {
    const leaf = extents.slice(n, n + EXTENTS_IN_BLOCK);
    const at = allocate();
    treeBlocks.set(at, node(0, EXTENTS_IN_BLOCK, BLOCK_BYTES, leaf.map(encodeExtent)));
    const entry = Buffer.alloc(12);
    entry.writeUInt32LE(leaf[0]!.logical, 0);
    entry.writeUInt32LE(at, 4);
    entries.push(entry);
  }
  if (entries.length > EXTENTS_IN_INODE) throw new StorageError("file system: a file has too many pieces");
  const area = node(1, EXTENTS_IN_INODE, BLOCK_AREA_BYTES, entries);
  return { blocks: { kind: "extents", area, blockCount: dataBlocks + treeBlocks.size }, treeBlocks };
}

interface Extent extends Run {
  /** Its first block's number in the file. */
  readonly logical: number;
}

function splitRuns(runs: readonly Run[]): Extent[] {
  const extents: Extent[] = [];
  let logical = 0;
  for (const { firstBlock, blockCount } of runs) {
    for (let done = 0; done < blockCount; ) {
      const count = Math.min(blockCount - done, MAX_EXTENT_BLOCKS);
      extents.push({ logical, firstBlock: firstBlock + done, blockCount: count });
      done += count;
      logical += count;
    }
  }
  return extents;
}

function encodeExtent({ logical, firstBlock, blockCount }: Extent): Uint8Array {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32LE(logical, 0);
  bytes.writeUInt16LE(blockCount, 4);
  bytes.writeUInt32LE(firstBlock, 8);
  return bytes;
}

function node(depth: number, room: number, sizeBytes: number, entries: readonly Uint8Array[]): Uint8Array {
  const bytes = Buffer.alloc(sizeBytes);
  bytes.writeUInt16LE(EXTENT_MAGIC, 0);
  bytes.writeUInt16LE(entries.length, 2);
  bytes.writeUInt16LE(room, 4);
  bytes.writeUInt16LE(depth, 6);
  entries.forEach((entry, n) => bytes.set(entry, 12 + n * 12));
  return bytes;
}

const XATTR_MAGIC = 0xea020000;
const XATTR_PREFIXES: readonly (readonly [prefix: string, index: number])[] = [
  ["user.", 1],
  ["trusted.", 4],
  ["security.", 6],
];

/** Attributes of other kinds, such as those of access lists, are left out: they are kept in another form than archives have. */
function encodeXattrs(xattrs: ReadonlyMap<string, Uint8Array>, file: string): Uint8Array {
  const area = Buffer.alloc(INODE_BYTES - XATTRS_AT);
  const known = [...xattrs].flatMap(([name, value]) => {
    const prefix = XATTR_PREFIXES.find(([text]) => name.startsWith(text));
    return prefix === undefined ? [] : [{ index: prefix[1], suffix: name.slice(prefix[0].length), value }];
  });
  // In the order in which the kernel looks for them.
  known.sort((a, b) => a.index - b.index || a.suffix.length - b.suffix.length || (a.suffix < b.suffix ? -1 : 1));
  if (known.length === 0) return area;
  area.writeUInt32LE(XATTR_MAGIC, 0);
  let at = 4;
  let valueEnd = area.length;
  for (const { index, suffix, value } of known) {
    const entryBytes = (16 + Buffer.byteLength(suffix) + 3) & ~3;
    const valueAt = valueEnd - ((value.length + 3) & ~3);
    // Four zeros end the list.
    if (at + entryBytes + 4 > valueAt)
      throw new StorageError(`${file}: has extended attributes of more bytes than an inode has room for`);
    area.writeUInt8(Buffer.byteLength(suffix), at);
    area.writeUInt8(index, at + 1);
    area.writeUInt16LE(valueAt - 4, at + 2);
    area.writeUInt32LE(value.length, at + 8);
    area.write(suffix, at + 16);
    area.set(value, valueAt);
    at += entryBytes;
    valueEnd = valueAt;
  }
  return area;
}
