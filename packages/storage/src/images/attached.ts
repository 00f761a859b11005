/** Disks and files on their way into images, and files that come with an image on their way out. */
import * as fs from "node:fs/promises";
import { join } from "node:path";
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import { replaceFile } from "../durable.ts";
import { StorageError } from "../error.ts";
import type { Content } from "../files/content.ts";
import { isDigest } from "./chunk.ts";
import type { ChunkFolder } from "./chunk-folder.ts";
import { ImageReader } from "./image-reader.ts";
import { type AttachedFile, ImageTree, type Manifest } from "./manifest.ts";

/** What is read of a disk to make an image of it. */
export interface DiskSource extends Pick<BlockStore, "info" | "read"> {
  /** Whether a range is known to be zeros, so that it need not be read. */
  isHole?(offset: number, lengthBytes: number): boolean;
}

/** A chunk of a disk, filled up with zeros behind the disk's end, so that a disk that grows keeps its chunks. */
export async function readChunk(disk: DiskSource, { chunkBytes }: Manifest, index: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(chunkBytes);
  const there = Math.min(chunkBytes, disk.info.sizeBytes - index * chunkBytes);
  await disk.read(index * chunkBytes, [bytes.subarray(0, there)]);
  return bytes;
}

/** A file as a disk, filled up with zeros to whole sectors. */
export const diskOf = (content: Content): DiskSource => ({
  info: { sizeBytes: Math.max(512, Math.ceil(content.sizeBytes / 512) * 512), readOnly: true },
  read: async (offset, into) => {
    for (const part of into) {
      const count = Math.max(0, Math.min(part.length, content.sizeBytes - offset));
      if (count > 0) await content.read(offset, part.subarray(0, count));
      part.fill(0, count);
      offset += part.length;
    }
  },
});

/** Kernels and ramdisks are smaller; a file goes into memory whole. */
const MAX_FILE_BYTES = 1 << 30;

/** A folder of files that came with images, each under its image's digest. They stay for the next time. */
export class UnpackedFiles {
  readonly #folder: string;
  readonly #chunks: ChunkFolder;

  constructor(folder: string, chunks: ChunkFolder) {
    this.#folder = folder;
    this.#chunks = chunks;
  }

  /** @returns the file's path. @throws StorageError  its chunks are not there, or damaged */
  async unpack({ digest, sizeBytes }: AttachedFile): Promise<string> {
    const path = join(this.#folder, digest);
    const there = await fs.stat(path).catch(() => undefined);
    if (there?.size === sizeBytes) return path;
    const image = new ImageReader(this.#chunks, await ImageTree.open(this.#chunks, digest));
    const limit = Math.min(image.info.sizeBytes, MAX_FILE_BYTES);
    if (sizeBytes > limit)
      throw new StorageError(`image ${digest}: is a file of ${sizeBytes} bytes, expected ≤ ${limit}`);
    const bytes = new Uint8Array(Math.ceil(sizeBytes / 512) * 512);
    await image.read(0, [bytes]);
    await replaceFile(path, bytes.subarray(0, sizeBytes));
    return path;
  }

  /** Removes files whose chunks went; the others would come again. */
  async sweep(olderThanMs: number): Promise<void> {
    for (const name of await fs.readdir(this.#folder)) {
      const path = join(this.#folder, name);
      const isKept = isDigest(name) && (await this.#chunks.has(name));
      const stat = await fs.stat(path).catch(() => undefined);
      if (!isKept && stat !== undefined && stat.mtimeMs <= olderThanMs) await fs.rm(path, { force: true });
    }
  }
}
