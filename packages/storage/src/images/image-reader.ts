/** An image as a disk that is read: its chunks are fetched, compared with their names and unpacked as they are asked for. */
import { type BlockInfo, type BlockStore, totalBytes } from "@xenoserver/devices/block/store.ts";
import { fillBuffers, sliceBuffers, zeroBuffers } from "../buffers.ts";
import { StorageError } from "../error.ts";
import { type Digest, HOLE } from "./chunk.ts";
import type { ChunkFolder } from "./chunk-folder.ts";
import type { ImageTree } from "./manifest.ts";

/** Unpacked chunks that are kept, as guests read in smaller pieces. */
const CACHE_BYTES = 16 << 20;

export class ImageReader implements BlockStore {
  readonly info: BlockInfo;
  readonly tree: ImageTree;
  readonly #chunks: ChunkFolder;
  /** In order of last use. */
  readonly #cache = new Map<Digest, Promise<Uint8Array>>();

  constructor(chunks: ChunkFolder, tree: ImageTree) {
    this.#chunks = chunks;
    this.tree = tree;
    this.info = { sizeBytes: tree.manifest.sizeBytes, readOnly: true };
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    const { chunkBytes } = this.tree.manifest;
    const lengthBytes = totalBytes(into);
    const reads: Promise<void>[] = [];
    for (let start = 0; start < lengthBytes; ) {
      const within = (offset + start) % chunkBytes;
      const count = Math.min(lengthBytes - start, chunkBytes - within);
      const index = Math.floor((offset + start) / chunkBytes);
      reads.push(this.#readChunk(index, within, sliceBuffers(into, start, count)));
      start += count;
    }
    await Promise.all(reads);
  }

  async #readChunk(index: number, within: number, into: readonly Uint8Array[]): Promise<void> {
    const digest = await this.tree.chunk(index);
    if (digest === HOLE) return zeroBuffers(into);
    const bytes = await this.#chunk(digest);
    if (bytes.length < within + totalBytes(into)) {
      throw new StorageError(
        `image ${this.tree.digest}: chunk ${index} has ${bytes.length} bytes, expected ${this.tree.manifest.chunkBytes}`,
      );
    }
    fillBuffers(into, bytes.subarray(within));
  }

  #chunk(digest: Digest): Promise<Uint8Array> {
    const known = this.#cache.get(digest);
    if (known !== undefined) {
      this.#cache.delete(digest);
      this.#cache.set(digest, known);
      return known;
    }
    const reading = this.#chunks.get(digest);
    this.#cache.set(digest, reading);
    reading.catch(() => this.#cache.delete(digest));
    if (this.#cache.size > CACHE_BYTES / this.tree.manifest.chunkBytes) {
      const [oldest] = this.#cache.keys();
      this.#cache.delete(oldest!);
    }
    return reading;
  }

  async write(): Promise<void> {
    throw new StorageError(`image ${this.tree.digest}: is never written, expected an overlay on it`);
  }

  async flush(): Promise<void> {}

  async discard(): Promise<void> {}

  async close(): Promise<void> {
    this.#cache.clear();
  }
}
