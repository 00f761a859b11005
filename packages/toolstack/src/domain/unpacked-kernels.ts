/** Kernels as they are unpacked, so that the next domain with one need not do it again. */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { UnpackedPayloads } from "@xenoserver/xen/builder/index.ts";
import { isOwn, makeFolderOf, replaceFile } from "../own-file.ts";
import { readWhole } from "./read-whole.ts";

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
    try {
      makeFolderOf(path);
      this.#makeRoom();
      replaceFile(path, [unpacked, sumOf(unpacked)]);
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

function sumOf(bytes: Uint8Array): Buffer {
  const sum = Buffer.alloc(SUM_BYTES);
  sum.writeUInt32LE(crc32(bytes));
  return sum;
}

/** @returns a file's bytes without the sum behind them, undefined if that is another */
function readChecked(path: string): Uint8Array | undefined {
  const all = readWhole(path);
  if (all.length <= SUM_BYTES) return undefined;
  const bytes = all.subarray(0, -SUM_BYTES);
  return sumOf(bytes).equals(all.subarray(-SUM_BYTES)) ? bytes : undefined;
}
