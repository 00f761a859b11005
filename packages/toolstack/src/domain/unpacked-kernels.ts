/** Kernels as they are unpacked, so that the next domain with one need not do it again. */
import { createHash } from "node:crypto";
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { UnpackedPayloads } from "@xenoserver/xen/builder/index.ts";
import { arrayToFill } from "@xenoserver/xen/host/huge-pages.ts";
import { isOwn } from "../translations/translation-file.ts";

/** The ones that were used last; a kernel is some 40 MB. */
const MAX_FILES = 4;
const SUM_BYTES = 4;

/** Whatever goes wrong, the kernel is unpacked. */
export class UnpackedKernels implements UnpackedPayloads {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  #pathOf(packed: Uint8Array): string {
    return join(this.#folder, `${createHash("sha256").update(packed).digest("hex")}.elf`);
  }

  find(packed: Uint8Array): Uint8Array | undefined {
    const path = this.#pathOf(packed);
    try {
      if (!isOwn(path)) return undefined;
      const unpacked = readChecked(path);
      const now = new Date();
      utimesSync(path, now, now);
      return unpacked;
    } catch {
      return undefined;
    }
  }

  keep(packed: Uint8Array, unpacked: Uint8Array): void {
    const path = this.#pathOf(packed);
    const part = `${path}.${process.pid}.part`;
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      this.#makeRoom();
      try {
        writeFile(part, unpacked);
        renameSync(part, path);
      } finally {
        rmSync(part, { force: true });
      }
    } catch {
      // A full disk, or no folder.
    }
  }

  #makeRoom(): void {
    const paths = readdirSync(this.#folder).map((name) => join(this.#folder, name));
    const newestFirst = paths
      .map((path) => ({ path, usedMs: lstatSync(path).mtimeMs }))
      .sort((a, b) => b.usedMs - a.usedMs);
    for (const { path } of newestFirst.slice(MAX_FILES - 1)) rmSync(path, { force: true });
  }
}

function sumOf(bytes: Uint8Array): Uint8Array {
  const sum = Buffer.alloc(SUM_BYTES);
  sum.writeUInt32LE(crc32(bytes));
  return sum;
}

/** @returns a file's bytes without the sum behind them, undefined if that is another */
function readChecked(path: string): Uint8Array | undefined {
  const length = statSync(path).size - SUM_BYTES;
  if (length <= 0) return undefined;
  const all = arrayToFill(length + SUM_BYTES);
  const file = openSync(path, "r");
  try {
    for (let at = 0, count = -1; at < all.length && count !== 0; at += count)
      count = readSync(file, all, at, all.length - at, null);
  } finally {
    closeSync(file);
  }
  const bytes = all.subarray(0, length);
  return Buffer.from(all.buffer, length, SUM_BYTES).equals(sumOf(bytes)) ? bytes : undefined;
}

function writeFile(path: string, unpacked: Uint8Array): void {
  const file = openSync(path, "wx", 0o600);
  try {
    writeAll(file, unpacked);
    writeAll(file, sumOf(unpacked));
  } finally {
    closeSync(file);
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}
