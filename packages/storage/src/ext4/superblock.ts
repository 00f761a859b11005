/**
 * The records that describe the whole: superblock, group descriptors, and the journal's own superblock.
 * @see Linux's Documentation/filesystems/ext4, "Super Block", "Block Group Descriptors", "Journal (jbd2)"
 */
import {
  BLOCK_BYTES,
  BLOCKS_PER_GROUP,
  DESCRIPTOR_BYTES,
  FIRST_INODE,
  type Group,
  INODE_BYTES,
  type Layout,
} from "./layout.ts";

export const JOURNAL_INODE = 8;

const Compat = { hasJournal: 0x4, extAttr: 0x8, dirIndex: 0x20 } as const;
const Incompat = { filetype: 0x2, extents: 0x40 } as const;
const RoCompat = { sparseSuper: 0x1, largeFile: 0x2, hugeFile: 0x8, dirNlink: 0x20, extraIsize: 0x40 } as const;
/** Extended attributes of users and access lists, as mke2fs sets them. */
const DEFAULT_MOUNT_OPTIONS = 0xc;
const HASH_HALF_MD4 = 1;
const SIGNED_HASH = 1;
const RESERVED_PART = 0.01;

export interface SuperblockFields {
  readonly layout: Layout;
  readonly freeBlocks: number;
  readonly freeInodes: number;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  readonly label: string;
  /** Seconds since 1970. */
  readonly time: number;
  readonly journalInode: Uint8Array;
}

export const sum = (values: Readonly<Record<string, number>>): number => Object.values(values).reduce((a, b) => a + b);

/** The 1024 bytes of a superblock. @param group  in which this copy lies */
export function encodeSuperblock(fields: SuperblockFields, group: number): Uint8Array {
  const { layout, uuid, time } = fields;
  const bytes = Buffer.alloc(1024);
  const u32 = (at: number, value: number) => bytes.writeUInt32LE(value, at);
  const u16 = (at: number, value: number) => bytes.writeUInt16LE(value, at);
  u32(0, layout.inodesPerGroup * layout.groups.length);
  u32(4, layout.blockCount);
  u32(8, Math.floor(layout.blockCount * RESERVED_PART));
  u32(12, fields.freeBlocks);
  u32(16, fields.freeInodes);
  u32(24, Math.log2(BLOCK_BYTES / 1024));
  u32(28, Math.log2(BLOCK_BYTES / 1024));
  u32(32, BLOCKS_PER_GROUP);
  u32(36, BLOCKS_PER_GROUP);
  u32(40, layout.inodesPerGroup);
  u32(48, time);
  u16(54, 0xffff); // is not checked after a number of mounts
  u16(56, 0xef53);
  u16(58, 1); // clean
  u16(60, 1); // goes on after errors
  u32(64, time);
  u32(76, 1); // revision
  u32(84, FIRST_INODE);
  u16(88, INODE_BYTES);
  u16(90, group);
  u32(92, sum(Compat));
  u32(96, sum(Incompat));
  u32(100, sum(RoCompat));
  bytes.set(uuid, 104);
  bytes.write(fields.label.slice(0, 16), 120, "latin1");
  u32(224, JOURNAL_INODE);
  bytes.set(uuid, 236); // seed of the hashes in directories
  bytes.writeUInt8(HASH_HALF_MD4, 252);
  bytes.writeUInt8(1, 253); // a copy of the journal's inode follows
  u32(256, DEFAULT_MOUNT_OPTIONS);
  u32(264, time);
  bytes.set(fields.journalInode.subarray(40, 100), 268);
  bytes.set(fields.journalInode.subarray(108, 112), 328);
  bytes.set(fields.journalInode.subarray(4, 8), 332);
  u16(348, 32);
  u16(350, 32);
  u32(352, SIGNED_HASH);
  return bytes;
}

export interface GroupCounts {
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly directories: number;
}

export function encodeDescriptor(group: Group, counts: GroupCounts): Uint8Array {
  const bytes = Buffer.alloc(DESCRIPTOR_BYTES);
  bytes.writeUInt32LE(group.blockBitmapAt, 0);
  bytes.writeUInt32LE(group.inodeBitmapAt, 4);
  bytes.writeUInt32LE(group.inodeTableAt, 8);
  bytes.writeUInt16LE(counts.freeBlocks, 12);
  bytes.writeUInt16LE(counts.freeInodes, 14);
  bytes.writeUInt16LE(counts.directories, 16);
  return bytes;
}

/** The first block of an empty journal; numbers in journals have their high bytes first. */
export function encodeJournal(blockCount: number, uuid: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  bytes.writeUInt32BE(0xc03b3998, 0);
  bytes.writeUInt32BE(4, 4); // superblock, version 2
  bytes.writeUInt32BE(BLOCK_BYTES, 12);
  bytes.writeUInt32BE(blockCount, 16);
  bytes.writeUInt32BE(1, 20); // first block of the log
  bytes.writeUInt32BE(1, 24); // first transaction
  bytes.set(uuid, 48);
  bytes.writeUInt32BE(1, 64); // users
  return bytes;
}

/** As mke2fs has it: enough for a disk's size, and no more. */
export function journalBlocks({ blockCount }: Layout): number {
  if (blockCount < 32768) return 1024;
  return blockCount < 1 << 19 ? 4096 : 8192;
}
