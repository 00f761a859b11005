import { closeSync, fstatSync, openSync } from "node:fs";
import type { ImageBytes } from "@xenoserver/xen/builder/index.ts";
import { ConfigError } from "../cfg/index.ts";
import { readInto } from "../read-into.ts";

/** A file that a domain starts with, as long as it was when it was opened. */
export class InputFile implements ImageBytes {
  readonly length: number;
  readonly #name: string;
  readonly #fd: number;

  private constructor(name: string, fd: number) {
    this.#name = name;
    this.#fd = fd;
    this.length = fstatSync(fd).size;
  }

  /** @param name  what messages call it @throws Error  it cannot be opened */
  static open(name: string, path: string): InputFile {
    return new InputFile(name, openSync(path, "r"));
  }

  read(from: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.copyTo(bytes, from);
    return bytes;
  }

  /** @throws ConfigError  it has become shorter, or cannot be read */
  copyTo(target: Uint8Array, from: number): void {
    let count: number;
    try {
      count = readInto(this.#fd, target, from);
    } catch (cause) {
      throw new ConfigError(`${this.#name}: ${(cause as Error).message}`, { cause });
    }
    if (count < target.length)
      throw new ConfigError(`${this.#name}: ends after ${from + count} bytes, expected ${this.length} as before`);
  }

  release(): void {
    closeSync(this.#fd);
  }
}
