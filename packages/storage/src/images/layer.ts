/**
 * The blocks that were written since an image was cloned: a file of data, where each block lies at its own offset, and a map
 * that says which of them count.
 *
 * Order is all that makes it safe. A block's state changes in memory when its data has been written. `flush` first takes a
 * copy of the map's changes, then brings the data to the disk, then that copy. So the map on the disk never names data that
 * is not there, wherever the process or the machine stops; what it does not name yet is as it was before.
 */
import { rm } from "node:fs/promises";
import { Mutex } from "../mutex.ts";
import { RandomAccessFile } from "../raw/file.ts";
import { BlockMap, BlockState } from "./block-map.ts";

export const BLOCK_BYTES = 4096;

export class Layer {
  readonly path: string;
  readonly map: BlockMap;
  readonly #data: RandomAccessFile;
  readonly #mapFile: RandomAccessFile;
  readonly #flushing = new Mutex();
  /** Something was written that may not be on the disk. */
  #isDirty = true;

  private constructor(path: string, data: RandomAccessFile, mapFile: RandomAccessFile, map: BlockMap) {
    this.path = path;
    this.#data = data;
    this.#mapFile = mapFile;
    this.map = map;
  }

  /** Files of no content; both take space as blocks are written. */
  static async create(path: string, sizeBytes: number): Promise<Layer> {
    const data = await RandomAccessFile.create(`${path}.data`, sizeBytes);
    const mapFile = await RandomAccessFile.create(`${path}.map`, 0);
    return new Layer(path, data, mapFile, await BlockMap.open(mapFile));
  }

  /** @throws StorageError */
  static async open(path: string): Promise<Layer> {
    const data = await RandomAccessFile.open(`${path}.data`, { readOnly: false });
    try {
      const mapFile = await RandomAccessFile.open(`${path}.map`, { readOnly: false });
      return new Layer(path, data, mapFile, await BlockMap.open(mapFile));
    } catch (error) {
      await data.close();
      throw error;
    }
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#data.readPadded(offset, into);
  }

  /** Writes data of blocks that are there already, or that `noteData` declares to be there afterwards. */
  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    try {
      await this.#data.write(offset, from);
    } finally {
      // Behind the write: a flush that began before it ended does not count.
      this.#isDirty = true;
    }
  }

  /** The data of these blocks has been written. */
  noteData(firstBlock: number, endBlock: number): void {
    for (let block = firstBlock; block < endBlock; block++) this.map.set(block, BlockState.data);
    this.#isDirty = true;
  }

  noteZero(firstBlock: number, endBlock: number): void {
    for (let block = firstBlock; block < endBlock; block++) this.map.set(block, BlockState.zero);
    this.#isDirty = true;
  }

  /** One at a time: a later flush must not return before an earlier one has written what it took. */
  flush(): Promise<void> {
    return this.#flushing.run(async () => {
      if (!this.#isDirty) return;
      this.#isDirty = false;
      const changes = this.map.takeDirty();
      try {
        await this.#data.flush();
        await this.map.write(changes);
      } catch (error) {
        this.map.markDirty(changes);
        this.#isDirty = true;
        throw error;
      }
    });
  }

  async resize(sizeBytes: number): Promise<void> {
    await this.#data.resize(sizeBytes);
    this.#isDirty = true;
  }

  async close(): Promise<void> {
    await this.#data.close();
    await this.#mapFile.close();
  }

  static async remove(path: string): Promise<void> {
    await rm(`${path}.data`, { force: true });
    await rm(`${path}.map`, { force: true });
  }
}
