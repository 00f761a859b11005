/**
 * A tree of files as a disk with an ext4 file system on it, made without root, a mount or a program: owners, devices and
 * attributes are what the tree says, whoever runs this. The disk is never whole anywhere; each block is made when it is read.
 */
import type { BlockInfo } from "@xenoserver/devices/block/store.ts";
import { StorageError } from "../error.ts";
import type { Content } from "../files/content.ts";
import { contentOf } from "../files/content.ts";
import type { DirectoryNode, FileNode, FileTree } from "../files/file-tree.ts";
import type { DiskSource } from "../images/attached.ts";
import { type DirectoryEntry, encodeDirectory } from "./directory.ts";
import { type BlockArea, deviceArea, encodeInode, extentArea, inlineArea, isInlineTarget } from "./inode.ts";
import { BLOCK_BYTES, BlockAllocator, FIRST_INODE, INODE_BYTES, type Layout, layOut, type Run } from "./layout.ts";
import {
  encodeDescriptor,
  encodeJournal,
  encodeSuperblock,
  type GroupCounts,
  JOURNAL_INODE,
  journalBlocks,
} from "./superblock.ts";

export interface Ext4Options {
  readonly sizeBytes: number;
  /** 16 bytes; equal trees with equal options give equal disks. */
  readonly uuid: Uint8Array;
  /** Up to 16 characters. */
  readonly label?: string;
  /** Of the file system's making, in seconds since 1970. */
  readonly time?: number;
}

const ROOT_INODE = 2;
const MAX_LINKS = 65000;
const LOST_FOUND_BLOCKS = 4;

/** A file's bytes at their place on the disk. */
interface Placed extends Run {
  readonly content: Content;
  /** Of the run's first byte in the content. */
  readonly offset: number;
}

interface Numbered {
  readonly node: FileNode;
  readonly inode: number;
  /** A name of it, for messages. */
  readonly path: string;
  links: number;
}

export class Ext4Image implements DiskSource {
  readonly info: BlockInfo;
  readonly #blocks: ReadonlyMap<number, Uint8Array>;
  /** In ascending order. */
  readonly #placed: readonly Placed[];

  private constructor(sizeBytes: number, blocks: ReadonlyMap<number, Uint8Array>, placed: readonly Placed[]) {
    this.info = { sizeBytes, readOnly: true };
    this.#blocks = blocks;
    this.#placed = placed;
  }

  /** @throws StorageError  the files do not fit */
  static make(tree: FileTree, options: Ext4Options): Ext4Image {
    if (options.sizeBytes % 512 !== 0)
      throw new StorageError(`file system: size is ${options.sizeBytes} bytes, expected a multiple of 512`);
    const { blocks, placed } = new Builder(tree, options).build();
    return new Ext4Image(options.sizeBytes, blocks, placed);
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    for (const part of into) {
      await this.#readPart(offset, part);
      offset += part.length;
    }
  }

  isHole(offset: number, lengthBytes: number): boolean {
    const end = offset + lengthBytes;
    for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < end; block++)
      if (this.#blocks.has(block)) return false;
    const next = this.#placed[this.#firstFrom(offset)];
    return next === undefined || next.firstBlock * BLOCK_BYTES >= end;
  }

  async #readPart(offset: number, into: Uint8Array): Promise<void> {
    into.fill(0);
    const end = offset + into.length;
    for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < end; block++) {
      const known = this.#blocks.get(block);
      if (known === undefined) continue;
      const from = Math.max(offset, block * BLOCK_BYTES);
      const to = Math.min(end, (block + 1) * BLOCK_BYTES, block * BLOCK_BYTES + known.length);
      if (from < to) into.set(known.subarray(from - block * BLOCK_BYTES, to - block * BLOCK_BYTES), from - offset);
    }
    for (let n = this.#firstFrom(offset); n < this.#placed.length; n++) {
      const { firstBlock, blockCount, content, offset: contentOffset } = this.#placed[n]!;
      const start = firstBlock * BLOCK_BYTES;
      if (start >= end) break;
      const from = Math.max(offset, start);
      const bytes = Math.min(blockCount * BLOCK_BYTES, content.sizeBytes - contentOffset);
      const to = Math.min(end, start + bytes);
      if (from < to) await content.read(contentOffset + from - start, into.subarray(from - offset, to - offset));
    }
  }

  /** The first run that reaches beyond an offset. */
  #firstFrom(offset: number): number {
    let [low, high] = [0, this.#placed.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { firstBlock, blockCount } = this.#placed[middle]!;
      if ((firstBlock + blockCount) * BLOCK_BYTES <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

class Builder {
  readonly #options: Ext4Options;
  readonly #layout: Layout;
  readonly #allocator: BlockAllocator;
  readonly #numbered: readonly Numbered[];
  readonly #numbers: ReadonlyMap<FileNode, Numbered>;
  readonly #parents = new Map<DirectoryNode, DirectoryNode>();
  readonly #blocks = new Map<number, Uint8Array>();
  readonly #placed: Placed[] = [];
  readonly #inodes = new Map<number, Uint8Array>();
  readonly #directories = new Set<number>();
  readonly #lostFound: DirectoryNode;

  constructor(tree: FileTree, options: Ext4Options) {
    this.#options = options;
    this.#lostFound = lostFoundOf(tree);
    this.#numbers = this.#number(tree);
    this.#numbered = [...this.#numbers.values()];
    this.#layout = layOut(options.sizeBytes, this.#numbered.length);
    this.#allocator = new BlockAllocator(this.#layout);
  }

  build(): { blocks: ReadonlyMap<number, Uint8Array>; placed: readonly Placed[] } {
    const journal = this.#addJournal();
    for (const numbered of this.#numbered) this.#addNode(numbered);
    this.#addInodeTables();
    this.#addGroups(journal);
    return { blocks: this.#blocks, placed: this.#placed };
  }

  /** Gives every file a number, and counts its names. */
  #number(tree: FileTree): Map<FileNode, Numbered> {
    const numbers = new Map<FileNode, Numbered>();
    numbers.set(tree.root, { node: tree.root, inode: ROOT_INODE, path: "/", links: 2 });
    numbers.set(this.#lostFound, { node: this.#lostFound, inode: FIRST_INODE, path: "lost+found", links: 2 });
    let next = FIRST_INODE + 1;
    const visit = (directory: DirectoryNode, prefix: string): void => {
      for (const [name, node] of directory.entries) {
        const known = numbers.get(node);
        if (known !== undefined && node.type !== "directory") {
          if (++known.links > MAX_LINKS)
            throw new StorageError(`${known.path}: has more than ${MAX_LINKS} names, expected fewer`);
          continue;
        }
        if (known === undefined)
          numbers.set(node, {
            node,
            inode: next++,
            path: `${prefix}${name}`,
            links: node.type === "directory" ? 2 : 1,
          });
        if (node.type !== "directory") continue;
        numbers.get(directory)!.links++;
        this.#parents.set(node, directory);
        visit(node, `${prefix}${name}/`);
      }
    };
    visit(tree.root, "");
    return numbers;
  }

  #place(content: Content): Run[] {
    const runs = this.#allocator.allocate(Math.ceil(content.sizeBytes / BLOCK_BYTES));
    let offset = 0;
    for (const run of runs) {
      this.#placed.push({ ...run, content, offset });
      offset += run.blockCount * BLOCK_BYTES;
    }
    return runs;
  }

  #extents(runs: readonly Run[]): BlockArea {
    const { blocks, treeBlocks } = extentArea(runs, () => this.#allocator.allocate(1)[0]!.firstBlock);
    for (const [at, bytes] of treeBlocks) this.#blocks.set(at, bytes);
    return blocks;
  }

  #addJournal(): Uint8Array {
    const blockCount = journalBlocks(this.#layout);
    const runs = this.#allocator.allocate(blockCount);
    this.#blocks.set(runs[0]!.firstBlock, encodeJournal(blockCount, this.#options.uuid));
    const inode = encodeInode(
      {
        type: "file",
        owner: { mode: 0o600, uid: 0, gid: 0, mtime: this.#options.time ?? 0 },
        links: 1,
        sizeBytes: blockCount * BLOCK_BYTES,
        blocks: this.#extents(runs),
      },
      "journal",
    );
    this.#inodes.set(JOURNAL_INODE, inode);
    return inode;
  }

  #addNode({ node, inode, path, links }: Numbered): void {
    const { sizeBytes, blocks } = this.#bodyOf(node, inode);
    // A directory with more folders than can be counted says that it has one.
    const counted = node.type === "directory" && links > MAX_LINKS ? 1 : links;
    this.#inodes.set(
      inode,
      encodeInode({ type: node.type, owner: node.owner, links: counted, sizeBytes, blocks }, path),
    );
  }

  #bodyOf(node: FileNode, inode: number): { sizeBytes: number; blocks: BlockArea } {
    switch (node.type) {
      case "file":
        return { sizeBytes: node.content.sizeBytes, blocks: this.#extents(this.#place(node.content)) };
      case "symlink": {
        const target = Buffer.from(node.target);
        if (isInlineTarget(target.length)) return { sizeBytes: target.length, blocks: inlineArea(target) };
        if (target.length >= BLOCK_BYTES)
          throw new StorageError(`link to ${node.target.slice(0, 80)}…: is longer than ${BLOCK_BYTES} bytes`);
        return { sizeBytes: target.length, blocks: this.#extents(this.#place(contentOf(target))) };
      }
      case "char-device":
      case "block-device":
        return { sizeBytes: 0, blocks: deviceArea(node.major, node.minor) };
      case "fifo":
      case "socket":
        return { sizeBytes: 0, blocks: inlineArea(new Uint8Array(0)) };
      case "directory":
        return this.#directory(node, inode);
    }
  }

  #directory(node: DirectoryNode, inode: number): { sizeBytes: number; blocks: BlockArea } {
    this.#directories.add(inode);
    const parent = this.#parents.get(node);
    const entries: DirectoryEntry[] = [
      { name: ".", inode, type: "directory" },
      { name: "..", inode: parent === undefined ? ROOT_INODE : this.#numbers.get(parent)!.inode, type: "directory" },
      ...[...node.entries].map(([name, entry]) => ({
        name,
        inode: this.#numbers.get(entry)!.inode,
        type: entry.type,
      })),
    ];
    const encoded = encodeDirectory(entries, node === this.#lostFound ? LOST_FOUND_BLOCKS : 1);
    const runs = this.#allocator.allocate(encoded.length);
    const numbers = runs.flatMap(({ firstBlock, blockCount }) =>
      Array.from({ length: blockCount }, (_, n) => firstBlock + n),
    );
    encoded.forEach((block, n) => this.#blocks.set(numbers[n]!, block));
    return { sizeBytes: encoded.length * BLOCK_BYTES, blocks: this.#extents(runs) };
  }

  #addInodeTables(): void {
    const { groups, inodesPerGroup } = this.#layout;
    for (const [number, bytes] of this.#inodes) {
      const index = (number - 1) % inodesPerGroup;
      const at = groups[Math.floor((number - 1) / inodesPerGroup)]!.inodeTableAt * BLOCK_BYTES + index * INODE_BYTES;
      this.#own(Math.floor(at / BLOCK_BYTES)).set(bytes, at % BLOCK_BYTES);
    }
  }

  /** A block of our own, to be written in pieces. */
  #own(number: number): Uint8Array {
    let block = this.#blocks.get(number);
    if (block === undefined) {
      block = new Uint8Array(BLOCK_BYTES);
      this.#blocks.set(number, block);
    }
    return block;
  }

  #addGroups(journalInode: Uint8Array): void {
    const { groups, descriptorBlocks } = this.#layout;
    const counts = groups.map((_, n) => this.#addBitmaps(n));
    const descriptors = Buffer.alloc(descriptorBlocks * BLOCK_BYTES);
    groups.forEach((group, n) => {
      const bytes = encodeDescriptor(group, counts[n]!);
      descriptors.set(bytes, n * bytes.length);
    });
    const { uuid, label = "", time = 0 } = this.#options;
    const total = (key: keyof GroupCounts): number => counts.reduce((all, group) => all + group[key], 0);
    const fields = {
      layout: this.#layout,
      freeBlocks: total("freeBlocks"),
      freeInodes: total("freeInodes"),
      ...{ uuid, label, time, journalInode },
    };
    groups.forEach(({ hasSuperblock, firstBlock }, n) => {
      if (!hasSuperblock) return;
      // The first 1024 bytes of a disk are left to loaders.
      this.#own(firstBlock).set(encodeSuperblock(fields, n), n === 0 ? 1024 : 0);
      for (let block = 0; block < descriptorBlocks; block++)
        this.#own(firstBlock + 1 + block).set(descriptors.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
    });
  }

  #addBitmaps(n: number): GroupCounts {
    const { inodesPerGroup, groups } = this.#layout;
    const { firstBlock, blockCount, blockBitmapAt, inodeBitmapAt } = groups[n]!;
    const blocks = this.#own(blockBitmapAt);
    const usedBlocks = this.#allocator.usedEnd(n) - firstBlock;
    setBits(blocks, 0, usedBlocks);
    // Bits beyond what there is count as used.
    setBits(blocks, blockCount, 8 * BLOCK_BYTES);
    const inodes = this.#own(inodeBitmapAt);
    const last = FIRST_INODE + this.#numbered.length - 2;
    const usedInodes = Math.max(0, Math.min(inodesPerGroup, last - n * inodesPerGroup));
    setBits(inodes, 0, usedInodes);
    setBits(inodes, inodesPerGroup, 8 * BLOCK_BYTES);
    const isHere = (inode: number): boolean => Math.floor((inode - 1) / inodesPerGroup) === n;
    return {
      freeBlocks: blockCount - usedBlocks,
      freeInodes: inodesPerGroup - usedInodes,
      directories: [...this.#directories].filter(isHere).length,
    };
  }
}

function setBits(bitmap: Uint8Array, from: number, to: number): void {
  for (let bit = from; bit < to; bit++) bitmap[bit >> 3]! |= 1 << (bit & 7);
}

function lostFoundOf(tree: FileTree): DirectoryNode {
  const there = tree.root.entries.get("lost+found");
  if (there?.type === "directory") return there;
  const made = tree.put("lost+found", {
    type: "directory",
    owner: { mode: 0o700, uid: 0, gid: 0, mtime: 0 },
    entries: new Map(),
  });
  return made as DirectoryNode;
}
