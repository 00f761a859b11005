/** A file of this user's own cache whose blocks are compared with their sums as they are read. */
import { closeSync, constants, fstatSync, openSync, rmSync } from "node:fs";
import { crc32 } from "node:zlib";
import type { ImageBytes } from "@xenoserver/xen/builder/index.ts";
import { isUsersOwn } from "../own-file.ts";
import { readInto } from "../read-into.ts";

/** What is summed while it is still in the processor's cache. */
const BLOCK_BYTES = 256 * 1024;
const SUM_BYTES = 4;

/** What a file holds: bytes, a sum for each block of them, and one of those sums. */
export function* withSums(bytes: Uint8Array): Generator<Uint8Array> {
  const sums = new Uint32Array(Math.ceil(bytes.length / BLOCK_BYTES));
  for (let n = 0; n < sums.length; n++) sums[n] = crc32(bytes.subarray(n * BLOCK_BYTES, (n + 1) * BLOCK_BYTES));
  const table = new Uint8Array(sums.buffer);
  yield bytes;
  yield table;
  yield new Uint8Array(Uint32Array.of(crc32(table)).buffer);
}

export class CheckedFile implements ImageBytes {
  readonly length: number;
  readonly #path: string;
  readonly #fd: number;
  readonly #sums: Uint32Array;
  readonly #otherwise: () => Uint8Array;
  /** What was read last in part. */
  #block: { readonly number: number; readonly bytes: Uint8Array } | undefined;
  /** What the file should have held, once it was found damaged. */
  #instead: Uint8Array | undefined;

  private constructor(path: string, fd: number, length: number, sums: Uint32Array, otherwise: () => Uint8Array) {
    this.#path = path;
    this.#fd = fd;
    this.length = length;
    this.#sums = sums;
    this.#otherwise = otherwise;
  }

  /**
   * @param otherwise  what it holds, if a block of it turns out to be damaged; the file is removed then
   * @returns undefined if others may have written it, or it is no such file
   * @throws Error  it cannot be read
   */
  static open(path: string, otherwise: () => Uint8Array): CheckedFile | undefined {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const found = fstatSync(fd);
      const blocks = Math.ceil((found.size - SUM_BYTES) / (BLOCK_BYTES + SUM_BYTES));
      const length = found.size - SUM_BYTES - blocks * SUM_BYTES;
      if (found.isFile() && isUsersOwn(found) && length > 0) {
        const sums = new Uint32Array(blocks + 1);
        const table = new Uint8Array(sums.buffer, 0, blocks * SUM_BYTES);
        if (readInto(fd, new Uint8Array(sums.buffer), length) === sums.byteLength && crc32(table) === sums[blocks])
          return new CheckedFile(path, fd, length, sums.subarray(0, blocks), otherwise);
      }
      closeSync(fd);
      return undefined;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  read(from: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.copyTo(bytes, from);
    return bytes;
  }

  copyTo(target: Uint8Array, from: number): void {
    for (let at = 0; at < target.length && this.#instead === undefined; ) {
      const number = Math.floor((from + at) / BLOCK_BYTES);
      const skipped = from + at - number * BLOCK_BYTES;
      const size = Math.min(BLOCK_BYTES, this.length - number * BLOCK_BYTES);
      const part = target.subarray(at, at + size - skipped);
      const isWhole = part.length === size;
      const block = isWhole ? this.#fill(number, part) : this.#blockAt(number, size);
      if (block === undefined) this.#giveUp();
      else if (!isWhole) part.set(block.subarray(skipped, skipped + part.length));
      at += part.length;
    }
    if (this.#instead !== undefined) target.set(this.#instead.subarray(from, from + target.length));
  }

  release(): void {
    closeSync(this.#fd);
    this.#block = this.#instead = undefined;
  }

  /** A block that is wanted in parts, such as headers. */
  #blockAt(number: number, size: number): Uint8Array | undefined {
    if (this.#block?.number === number) return this.#block.bytes;
    const bytes = this.#fill(number, new Uint8Array(size));
    if (bytes !== undefined) this.#block = { number, bytes };
    return bytes;
  }

  /** @returns what was given, filled; undefined if the file is damaged there */
  #fill(number: number, bytes: Uint8Array): Uint8Array | undefined {
    const isWhole = readInto(this.#fd, bytes, number * BLOCK_BYTES) === bytes.length;
    return isWhole && crc32(bytes) === this.#sums[number] ? bytes : undefined;
  }

  #giveUp(): void {
    rmSync(this.#path, { force: true });
    this.#instead = this.#otherwise();
  }
}
