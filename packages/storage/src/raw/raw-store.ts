/** A disk that is a file, byte for byte. */
import type { BlockInfo, BlockStore } from "@xenoserver/devices/block/store.ts";
import { StorageError } from "../error.ts";
import { RandomAccessFile } from "./file.ts";
import { canPunchHoles, HolePuncher } from "./punch-hole.ts";

const SECTOR_BYTES = 512;
/** Blocks of the usual file systems; holes of other shapes are rounded inwards by the kernel. */
const HOLE_BYTES = 4096;

export class RawStore implements BlockStore {
  readonly #file: RandomAccessFile;
  readonly #puncher: HolePuncher | undefined;
  /** Something was written that may not be on the disk. */
  #isDirty = true;
  #lastFlush: Promise<void> = Promise.resolve();

  private constructor(file: RandomAccessFile) {
    this.#file = file;
    this.#puncher = !file.readOnly && canPunchHoles() ? new HolePuncher(file.path) : undefined;
  }

  /** @throws StorageError  the file cannot be opened, or is shorter than a sector */
  static async open(path: string, options: { readonly readOnly: boolean }): Promise<RawStore> {
    const file = await RandomAccessFile.open(path, { ...options, exclusive: !options.readOnly });
    if (file.sizeBytes >= SECTOR_BYTES) return new RawStore(file);
    await file.close();
    throw new StorageError(`${path}: is ${file.sizeBytes} bytes, expected at least ${SECTOR_BYTES}`);
  }

  /** A file whose end is no whole sector is shown without it. */
  get info(): BlockInfo {
    const sizeBytes = this.#file.sizeBytes - (this.#file.sizeBytes % SECTOR_BYTES);
    const { readOnly } = this.#file;
    return { sizeBytes, readOnly, ...(this.#puncher && { discardGranularityBytes: HOLE_BYTES }) };
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#file.read(offset, into);
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    try {
      await this.#file.write(offset, from);
    } finally {
      // Behind the write: a flush that began before it ended does not count.
      this.#isDirty = true;
    }
  }

  /** If nothing was written since the last one began, it is the same. */
  flush(): Promise<void> {
    if (!this.#isDirty) return this.#lastFlush;
    this.#isDirty = false;
    this.#lastFlush = this.#file.flush().catch((error: unknown) => {
      this.#isDirty = true;
      throw error;
    });
    return this.#lastFlush;
  }

  async discard(offset: number, lengthBytes: number): Promise<void> {
    await this.#puncher?.punch(offset, lengthBytes);
    this.#isDirty = true;
  }

  /** @throws StorageError  the file cannot be made longer, or would become shorter */
  async grow(sizeBytes: number): Promise<void> {
    if (sizeBytes < this.#file.sizeBytes || sizeBytes % SECTOR_BYTES !== 0) {
      throw new StorageError(
        `${this.#file.path}: new size is ${sizeBytes} bytes, expected a multiple of ${SECTOR_BYTES} from ${this.#file.sizeBytes} up`,
      );
    }
    await this.#file.resize(sizeBytes);
    this.#isDirty = true;
  }

  async close(): Promise<void> {
    if (!this.#file.readOnly) await this.flush().catch(() => {});
    await this.#file.close();
  }
}
