/**
 * What a layer has to say of each block: nothing, data, or that it is zero. Two bits a block, in pages that are made when the
 * first block in them is set, and in a file.
 */
import type { RandomAccessFile } from "../raw/file.ts";
import { isZero } from "./chunk.ts";

export const BlockState = { absent: 0, data: 1, zero: 2 } as const;
export type BlockState = (typeof BlockState)[keyof typeof BlockState];

const PAGE_BYTES = 4096;
const BLOCKS_PER_PAGE = PAGE_BYTES * 4;
const READ_BYTES = 1 << 20;

export class BlockMap {
  readonly #file: RandomAccessFile;
  readonly #pages = new Map<number, Uint8Array>();
  readonly #dirty = new Set<number>();

  private constructor(file: RandomAccessFile) {
    this.#file = file;
  }

  static async open(file: RandomAccessFile): Promise<BlockMap> {
    const map = new BlockMap(file);
    for (let at = 0; at < file.sizeBytes; at += READ_BYTES) {
      const bytes = new Uint8Array(READ_BYTES);
      await file.readPadded(at, [bytes]);
      if (isZero(bytes)) continue;
      for (let page = 0; page < READ_BYTES; page += PAGE_BYTES) {
        const content = bytes.slice(page, page + PAGE_BYTES);
        if (!isZero(content)) map.#pages.set((at + page) / PAGE_BYTES, content);
      }
    }
    return map;
  }

  get(block: number): BlockState {
    const page = this.#pages.get(Math.floor(block / BLOCKS_PER_PAGE));
    if (page === undefined) return BlockState.absent;
    return ((page[(block % BLOCKS_PER_PAGE) >>> 2]! >>> ((block & 3) * 2)) & 3) as BlockState;
  }

  set(block: number, state: BlockState): void {
    if (this.get(block) === state) return;
    const index = Math.floor(block / BLOCKS_PER_PAGE);
    let page = this.#pages.get(index);
    if (page === undefined) this.#pages.set(index, (page = new Uint8Array(PAGE_BYTES)));
    const at = (block % BLOCKS_PER_PAGE) >>> 2;
    const shift = (block & 3) * 2;
    page[at] = (page[at]! & ~(3 << shift)) | (state << shift);
    this.#dirty.add(index);
  }

  /** Blocks about which something is said, in ascending order. */
  *known(): Generator<number> {
    for (const index of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const page = this.#pages.get(index)!;
      for (let at = 0; at < PAGE_BYTES; at++) {
        if (page[at] === 0) continue;
        for (let n = 0; n < 4; n++) if (((page[at]! >>> (n * 2)) & 3) !== 0) yield index * BLOCKS_PER_PAGE + at * 4 + n;
      }
    }
  }

  /** What has changed since the last call, as it is now; to be written by `write`. */
  takeDirty(): ReadonlyMap<number, Uint8Array> {
    const taken = new Map([...this.#dirty].map((index) => [index, this.#pages.get(index)!.slice()] as const));
    this.#dirty.clear();
    return taken;
  }

  /** @throws StorageError  after which the pages count as changed again */
  async write(taken: ReadonlyMap<number, Uint8Array>): Promise<void> {
    try {
      for (const [index, bytes] of taken) await this.#file.write(index * PAGE_BYTES, [bytes]);
      if (taken.size > 0) await this.#file.flush();
    } catch (error) {
      for (const index of taken.keys()) this.#dirty.add(index);
      throw error;
    }
  }

  markDirty(taken: ReadonlyMap<number, Uint8Array>): void {
    for (const index of taken.keys()) this.#dirty.add(index);
  }
}
