/** Kernels as they are unpacked, so that the next domain with one need not do it again. */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { type ImageBytes, type UnpackedPayloads, unpack } from "@xenoserver/xen/builder/index.ts";
import { makeFolderOf, replaceFile } from "../own-file.ts";
import { CheckedFile, withSums } from "./checked-file.ts";

/** The ones that were used last; a kernel is some 50 MB. */
const MAX_FILES = 4;

/** Whatever goes wrong, the kernel is unpacked. */
export class UnpackedKernels implements UnpackedPayloads {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  #pathOf(packed: Uint8Array): string {
    return join(this.#folder, `${createHash("sha256").update(packed).digest("hex")}.elf`);
  }

  find(packed: Uint8Array): ImageBytes | undefined {
    const path = this.#pathOf(packed);
    try {
      const found = CheckedFile.open(path, () => unpack(packed));
      if (found === undefined) return undefined;
      const now = new Date();
      utimesSync(path, now, now);
      return found;
    } catch {
      return undefined;
    }
  }

  keep(packed: Uint8Array, unpacked: Uint8Array): void {
    const path = this.#pathOf(packed);
    try {
      makeFolderOf(path);
      this.#makeRoom();
      replaceFile(path, withSums(unpacked));
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
