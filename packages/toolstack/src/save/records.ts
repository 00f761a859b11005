/**
 * Records of a saved domain: an open head, then a compressed stream of them.
 *
 *     head      "XENODOM\n", version (u32)
 *     record    type (u32), length (u32), CRC-32 of the payload (u32), payload
 *
 * The last record has the type `end`; a stream without it was cut. Numbers are little-endian.
 */
import { createReadStream, type WriteStream } from "node:fs";
import { open } from "node:fs/promises";
import { constants, crc32, createZstdCompress, createZstdDecompress } from "node:zlib";
import { SaveError } from "./error.ts";

const MAGIC = "XENODOM\n";
const VERSION = 1;
const HEAD_BYTES = 12;
const RECORD_HEAD_BYTES = 12;
/** Nothing that is saved needs a longer record; a longer one is not read. */
const MAX_RECORD_BYTES = 64 << 20;
const FAST = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

export const RecordType = { config: 1, control: 2, vcpu: 3, map: 4, frames: 5, backends: 6, end: 7 } as const;

export interface SavedRecord {
  readonly type: number;
  readonly payload: Buffer;
}

/** Writes records to a file. */
export class RecordWriter {
  readonly #file: WriteStream;
  readonly #packer = createZstdCompress(FAST);
  /** Rejects when the file cannot be written any more. */
  readonly #failed: Promise<never>;
  #failure: Error | undefined;
  /** Bytes of records so far, before they were compressed. */
  bytes = 0;

  constructor(file: WriteStream) {
    this.#file = file;
    const head = Buffer.alloc(HEAD_BYTES);
    head.write(MAGIC, "latin1");
    head.writeUInt32LE(VERSION, 8);
    file.write(head);
    this.#packer.pipe(file);
    const { promise, reject } = Promise.withResolvers<never>();
    const fail = (error: Error): void => {
      this.#failure ??= error;
      reject(error);
    };
    file.on("error", fail);
    this.#packer.on("error", fail);
    this.#failed = promise;
    promise.catch(() => {});
  }

  /** @throws Error of the file system */
  async write(type: number, payload: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const head = Buffer.alloc(RECORD_HEAD_BYTES);
    head.writeUInt32LE(type, 0);
    head.writeUInt32LE(payload.length, 4);
    head.writeUInt32LE(crc32(payload), 8);
    this.bytes += head.length + payload.length;
    this.#packer.write(head);
    if (this.#packer.write(payload)) return;
    const { promise: drained, resolve } = Promise.withResolvers<void>();
    this.#packer.once("drain", resolve);
    await Promise.race([drained, this.#failed]);
  }

  /** @throws Error of the file system */
  async end(): Promise<void> {
    await this.write(RecordType.end, new Uint8Array());
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    this.#file.once("close", resolve);
    this.#packer.end();
    await Promise.race([closed, this.#failed]);
  }
}

/**
 * Reads a file's records up to its end.
 * @throws SaveError  it is no saved domain, of another version, damaged or cut
 */
export async function* readRecords(path: string): AsyncGenerator<SavedRecord> {
  await checkHead(path);
  const source = createReadStream(path, { start: HEAD_BYTES });
  const unpacker = createZstdDecompress();
  source.on("error", (error) => unpacker.destroy(error));
  source.pipe(unpacker);
  const pieces = new Pieces(unpacker);
  try {
    for (;;) {
      const head = await pieces.take(RECORD_HEAD_BYTES);
      const [type, length, sum] = [head.readUInt32LE(0), head.readUInt32LE(4), head.readUInt32LE(8)];
      if (length > MAX_RECORD_BYTES)
        throw new SaveError(`${path}: a record of ${length} bytes, expected at most ${MAX_RECORD_BYTES}`);
      const payload = await pieces.take(length);
      if (crc32(payload) !== sum) throw new SaveError(`${path}: a record of type ${type} is damaged`);
      if (type === RecordType.end) return;
      yield { type, payload };
    }
  } catch (error) {
    if (error instanceof SaveError) throw error;
    throw new SaveError(`${path}: ${error instanceof Cut ? "ends too early" : "is damaged"}`, { cause: error });
  } finally {
    source.destroy();
    unpacker.destroy();
  }
}

async function checkHead(path: string): Promise<void> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    throw new SaveError(`${path}: ${error.code === "ENOENT" ? "no such file" : error.message}`);
  });
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    const { bytesRead } = await file.read(head, 0, HEAD_BYTES, 0);
    if (bytesRead < HEAD_BYTES || head.toString("latin1", 0, 8) !== MAGIC)
      throw new SaveError(`${path}: is no saved domain`);
    const version = head.readUInt32LE(8);
    if (version !== VERSION) throw new SaveError(`${path}: has version ${version}, expected ${VERSION}`);
  } finally {
    await file.close();
  }
}

class Cut extends Error {}

/** Bytes of a stream, as many as are asked for. */
class Pieces {
  readonly #source: AsyncIterator<Buffer>;
  #waiting: Buffer[] = [];
  #bytes = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }
  /** @throws Cut */
  async take(count: number): Promise<Buffer> {
    while (this.#bytes < count) {
      const { done, value } = await this.#source.next();
      if (done === true) throw new Cut();
      this.#waiting.push(value);
      this.#bytes += value.length;
    }
    const all = this.#waiting.length === 1 ? this.#waiting[0]! : Buffer.concat(this.#waiting);
    this.#bytes -= count;
    this.#waiting = [all.subarray(count)];
    return all.subarray(0, count);
  }
}
