/** The bytes of a file that is on its way into an image: in memory, or in a spool on the disk. */
import { createHash } from "node:crypto";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reasonOf, StorageError } from "../error.ts";

export interface Content {
  readonly sizeBytes: number;
  /** Fills the array with the bytes from `at` on; the caller stays within the size. */
  read(at: number, into: Uint8Array): Promise<void>;
}

export function contentOf(data: Uint8Array | string): Content {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  return {
    sizeBytes: bytes.length,
    read: async (at, into) => into.set(bytes.subarray(at, at + into.length)),
  };
}

/** All of it at once. @param maxBytes  what it may have, as it goes into memory */
export async function readContent(content: Content, maxBytes: number, name: string): Promise<Uint8Array> {
  if (content.sizeBytes > maxBytes)
    throw new StorageError(`${name}: is ${content.sizeBytes} bytes, expected ≤ ${maxBytes}`);
  const bytes = new Uint8Array(content.sizeBytes);
  await content.read(0, bytes);
  return bytes;
}

/**
 * A temporary file that contents are put into one after the other. It has no name while it is used, so that nothing of it is
 * left, however this process ends.
 */
export class Spool {
  readonly #file: fs.FileHandle;
  readonly #maxBytes: number;
  #end = 0;

  private constructor(file: fs.FileHandle, maxBytes: number) {
    this.#file = file;
    this.#maxBytes = maxBytes;
  }

  /** @param maxBytes  what all contents together may have: an archive from a stranger may unpack to anything */
  static async create(maxBytes: number): Promise<Spool> {
    const folder = await fs.mkdtemp(join(tmpdir(), "xeno-spool-"));
    try {
      return new Spool(await fs.open(join(folder, "spool"), "wx+"), maxBytes);
    } catch (error) {
      throw new StorageError(`${folder}: ${reasonOf(error)}`);
    } finally {
      await fs.rm(folder, { recursive: true, force: true });
    }
  }

  get sizeBytes(): number {
    return this.#end;
  }

  /**
   * Takes a content in. One at a time.
   * @param name  what messages call it
   */
  async add(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, name: string): Promise<Content> {
    const start = this.#end;
    for await (const piece of pieces) await this.#append(piece, name);
    return this.#slice(start, this.#end - start);
  }

  /** As `add`, with the content's SHA-256 as hexadecimal digits. */
  async addHashed(pieces: AsyncIterable<Uint8Array>, name: string): Promise<{ content: Content; sha256: string }> {
    const hash = createHash("sha256");
    const hashed = async function* (): AsyncGenerator<Uint8Array> {
      for await (const piece of pieces) {
        hash.update(piece);
        yield piece;
      }
    };
    const content = await this.add(hashed(), name);
    return { content, sha256: hash.digest("hex") };
  }

  async #append(piece: Uint8Array, name: string): Promise<void> {
    if (this.#end + piece.length > this.#maxBytes)
      throw new StorageError(`${name}: all files together have more than ${this.#maxBytes} bytes, expected less`);
    let written = 0;
    while (written < piece.length) {
      const { bytesWritten } = await this.#file
        .write(piece, written, piece.length - written, this.#end + written)
        .catch((error: unknown) => {
          throw new StorageError(`${name}: cannot be kept in ${tmpdir()}: ${reasonOf(error)}`);
        });
      written += bytesWritten;
    }
    this.#end += piece.length;
  }

  #slice(start: number, sizeBytes: number): Content {
    return {
      sizeBytes,
      read: async (at, into) => {
        let done = 0;
        while (done < into.length) {
          const { bytesRead } = await this.#file.read(into, done, into.length - done, start + at + done);
          if (bytesRead === 0) throw new StorageError("spool: ends early");
          done += bytesRead;
        }
      },
    };
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** A content as a stream of pieces. */
export async function* piecesOf(content: Content, pieceBytes = 1 << 18): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.sizeBytes; at += pieceBytes) {
    const piece = new Uint8Array(Math.min(pieceBytes, content.sizeBytes - at));
    await content.read(at, piece);
    yield piece;
  }
}
