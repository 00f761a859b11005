/**
 * Reading and writing of a file at offsets, straight from and to the caller's buffers. System calls that may wait run on
 * libuv's threads, so that a slow disk does not hold up this thread.
 */
import * as fs from "node:fs";
import { totalBytes } from "@xenoserver/devices/block/store.ts";
import { sliceBuffers, zeroBuffers } from "../buffers.ts";
import { reasonOf, StorageError } from "../error.ts";
import { handOver } from "../file-owner.ts";
import { type Lock, tryLock } from "../lock.ts";
import { CachedReader } from "./cached-read.ts";

export class RandomAccessFile {
  readonly path: string;
  readonly fd: number;
  readonly readOnly: boolean;
  readonly #cached: CachedReader;
  #sizeBytes: number;
  #lock: Lock | undefined;
  #closed = false;

  private constructor(path: string, fd: number, readOnly: boolean, sizeBytes: number) {
    this.path = path;
    this.fd = fd;
    this.readOnly = readOnly;
    this.#sizeBytes = sizeBytes;
    this.#cached = new CachedReader(fd);
  }

  /**
   * Opens a regular file or a block device that is there.
   * @param options.exclusive  refuse if another opened it exclusively, whatever name it has there
   * @throws StorageError
   */
  static async open(
    path: string,
    options: { readonly readOnly: boolean; readonly exclusive?: boolean },
  ): Promise<RandomAccessFile> {
    const fd = await new Promise<number>((resolve, reject) => {
      fs.open(path, options.readOnly ? fs.constants.O_RDONLY : fs.constants.O_RDWR, (error, opened) =>
        error === null ? resolve(opened) : reject(new StorageError(`${path}: ${reasonOf(error)}`)),
      );
    });
    try {
      const file = new RandomAccessFile(path, fd, options.readOnly, sizeOf(path, fd));
      if (options.exclusive === true) await file.#takeLock();
      return file;
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /**
   * Makes a file of zeros that takes no space yet.
   * @throws StorageError  there is one of that name, or it cannot be made
   */
  static async create(path: string, sizeBytes: number): Promise<RandomAccessFile> {
    try {
      const fd = fs.openSync(path, "wx+", 0o600);
      handOver(path);
      fs.ftruncateSync(fd, sizeBytes);
      return new RandomAccessFile(path, fd, false, sizeBytes);
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code === "EEXIST" ? "is there already" : reasonOf(error);
      throw new StorageError(`${path}: ${reason}`);
    }
  }

  async #takeLock(): Promise<void> {
    const { dev, ino } = fs.fstatSync(this.fd);
    this.#lock = await tryLock(`${this.path}.lock`, `disk ${dev}:${ino}`);
    if (this.#lock === undefined) throw new StorageError(`${this.path}: is in use by another domain, which writes it`);
  }

  /** As it was when the file was opened, or made longer from here. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** @throws StorageError  also if the file ends before the buffers are full */
  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    const count = this.#cached.read(offset, into);
    const left = count === 0 ? into : without(into, count);
    await this.#all("read", offset + count, left, (parts, at, done) => fs.readv(this.fd, parts, at, done));
  }

  /** As `read`; what lies behind the end of the file is zero. */
  async readPadded(offset: number, into: readonly Uint8Array[]): Promise<void> {
    const wanted = totalBytes(into);
    const there = Math.max(0, Math.min(wanted, this.#sizeBytes - offset));
    if (there === wanted) return this.read(offset, into);
    zeroBuffers(sliceBuffers(into, there, wanted - there));
    if (there > 0) await this.read(offset, sliceBuffers(into, 0, there));
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    const end = await this.#all("written", offset, from, (parts, at, done) => fs.writev(this.fd, parts, at, done));
    this.#sizeBytes = Math.max(this.#sizeBytes, end);
  }

  /** Moves all bytes, however many calls that takes. @returns the offset behind the last */
  async #all(
    verb: string,
    offset: number,
    buffers: readonly Uint8Array[],
    call: (
      parts: readonly Uint8Array[],
      at: number,
      done: (error: NodeJS.ErrnoException | null, count: number) => void,
    ) => void,
  ): Promise<number> {
    let parts = buffers;
    let at = offset;
    while (parts.length > 0) {
      const count = await new Promise<number>((resolve, reject) => {
        // More buffers in one call are refused by the kernel.
        call(parts.length > IOV_MAX ? parts.slice(0, IOV_MAX) : parts, at, (error, moved) =>
          error === null
            ? resolve(moved)
            : reject(new StorageError(`${this.path}: byte ${at} cannot be ${verb}: ${reasonOf(error)}`)),
        );
      });
      if (count === 0) throw new StorageError(`${this.path}: ends at byte ${at}, expected more`);
      at += count;
      parts = without(parts, count);
    }
    return at;
  }

  /** Settles when everything written before is on the disk. */
  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.fd, (error) =>
        error === null ? resolve() : reject(new StorageError(`${this.path}: cannot be flushed: ${reasonOf(error)}`)),
      );
    });
  }

  /** Makes the file longer or shorter; new bytes are zero. */
  resize(sizeBytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.ftruncate(this.fd, sizeBytes, (error) => {
        if (error !== null) return reject(new StorageError(`${this.path}: cannot be resized: ${reasonOf(error)}`));
        this.#sizeBytes = sizeBytes;
        resolve();
      });
    });
  }

  /** A second call does nothing: the number of a closed file may be another's by then. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await new Promise<void>((resolve) => fs.close(this.fd, () => resolve()));
    await this.#lock?.release();
  }
}

const IOV_MAX = 1024;

/** What is left of the buffers behind their first `count` bytes. */
function without(buffers: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let n = 0;
  let left = count;
  while (n < buffers.length && left >= buffers[n]!.length) left -= buffers[n++]!.length;
  if (left === 0) return n === 0 ? buffers : buffers.slice(n);
  return [buffers[n]!.subarray(left), ...buffers.slice(n + 1)];
}

function sizeOf(path: string, fd: number): number {
  const stat = fs.fstatSync(fd);
  if (stat.isFile()) return stat.size;
  if (!stat.isBlockDevice()) throw new StorageError(`${path}: is neither a file nor a block device`);
  const major = Math.floor(stat.rdev / 256) & 0xfff;
  const minor = (stat.rdev & 0xff) | (Math.floor(stat.rdev / 2 ** 12) & 0xfff00);
  return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * 512;
}
