/**
 * Tar archives as dpkg writes them (ustar and GNU long names), and pax paths.
 *
 * Synchronous and without copies, so that a reader of a large package can stop unpacking at the file it wants.
 *
 * @see POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"
 */

export interface TarEntry {
  /** Relative, without "./" in front and "/" behind; "" is the root. */
  readonly path: string;
  readonly type: "file" | "directory" | "symlink" | "hardlink" | "char-device" | "block-device" | "fifo";
  /** Permission bits, e.g. 0o755. */
  readonly mode: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  /** A view of the archive; empty unless a file. */
  readonly data: Uint8Array;
  /** Of links: as stored for symlinks; for hard links a path like `path`. */
  readonly target: string;
  readonly major: number;
  readonly minor: number;
}

const BLOCK_BYTES = 512;
const TYPES: Readonly<Record<string, TarEntry["type"]>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "char-device",
  "4": "block-device",
  "5": "directory",
  "6": "fifo",
};

/** Reads entries one after the other from an archive that may still be growing. */
export class TarReader {
  #at = 0;
  #longPath: string | undefined;
  #longTarget: string | undefined;

  /**
   * @param archive  the bytes so far; a later call may pass a longer array with the same start
   * @returns the next entry; undefined if it is not complete yet, or the archive has ended
   * @throws  Error  no tar header where one is due
   */
  next(archive: Uint8Array): TarEntry | undefined {
    for (;;) {
      const header = archive.subarray(this.#at, this.#at + BLOCK_BYTES);
      if (header.length < BLOCK_BYTES || header.every((byte) => byte === 0)) return undefined;
      if (readNumber(header, 148, 8) !== checksum(header))
        throw new Error(`tar header at byte ${this.#at} has a wrong checksum`);
      const size = readNumber(header, 124, 12);
      const start = this.#at + BLOCK_BYTES;
      if (start + size > archive.length) return undefined;
      const data = archive.subarray(start, start + size);
      this.#at = start + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;

      const flag = String.fromCharCode(header[156]!);
      if (flag === "L") this.#longPath = readText(data, 0, size);
      else if (flag === "K") this.#longTarget = readText(data, 0, size);
      else if (flag === "x") this.#takePax(data);
      else if (flag !== "g") return this.#entry(header, flag, data);
    }
  }

  #entry(header: Uint8Array, flag: string, data: Uint8Array): TarEntry {
    const type = TYPES[flag];
    if (type === undefined) throw new Error(`tar entry has type ${JSON.stringify(flag)}, expected 0 to 7`);
    const prefix = readText(header, 257, 6) === "ustar" ? readText(header, 345, 155) : "";
    const name = readText(header, 0, 100);
    const path = this.#longPath ?? (prefix === "" ? name : `${prefix}/${name}`);
    const target = this.#longTarget ?? readText(header, 157, 100);
    this.#longPath = this.#longTarget = undefined;
    return {
      path: normalise(path),
      type,
      mode: readNumber(header, 100, 8) & 0o7777,
      mtime: readNumber(header, 136, 12),
      data,
      target: type === "hardlink" ? normalise(target) : target,
      major: readNumber(header, 329, 8),
      minor: readNumber(header, 337, 8),
    };
  }

  #takePax(data: Uint8Array): void {
    const text = Buffer.from(data).toString("utf8");
    for (const record of text.split("\n")) {
      const match = /^\d+ (path|linkpath)=(.*)$/.exec(record);
      if (match?.[1] === "path") this.#longPath = match[2];
      if (match?.[1] === "linkpath") this.#longTarget = match[2];
    }
  }
}

/** All entries of a whole archive. */
export function* readTar(archive: Uint8Array): Generator<TarEntry> {
  const reader = new TarReader();
  for (let entry = reader.next(archive); entry !== undefined; entry = reader.next(archive)) yield entry;
}

/** Refuses paths that lead out of the archive's root. */
function normalise(path: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new Error(`tar entry is called ${path}, expected a path without ".."`);
  return parts.join("/");
}

function readText(bytes: Uint8Array, at: number, length: number): string {
  const field = bytes.subarray(at, at + length);
  const end = field.indexOf(0);
  return Buffer.from(end === -1 ? field : field.subarray(0, end)).toString("utf8");
}

function readNumber(bytes: Uint8Array, at: number, length: number): number {
  if (bytes[at]! & 0x80) {
    // GNU's base 256 for numbers that do not fit in octal digits.
    let value = bytes[at]! & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + bytes[at + i]!;
    return value;
  }
  return Number.parseInt(readText(bytes, at, length).trim() || "0", 8);
}

function checksum(header: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) sum += i >= 148 && i < 156 ? 0x20 : header[i]!;
  return sum;
}
