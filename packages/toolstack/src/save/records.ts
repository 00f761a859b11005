/**
 * Records of a saved domain: an open head, then a compressed stream of them.
 *
 *     head      "XENODOM\n", version (u32)
 *     record    type (u32), length (u32), CRC-32 of the payload (u32), payload
 *
 * The last record has the type `end`; a stream without it was cut. Numbers are little-endian.
 */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import type { Readable, Writable } from "node:stream";
import { constants, crc32, createZstdCompress, createZstdDecompress } from "node:zlib";
import { SaveError } from "./error.ts";

const MAGIC = "XENODOM\n";
const VERSION = 2;
const HEAD_BYTES = 12;
const RECORD_HEAD_BYTES = 12;
/** Nothing that is saved needs a longer record; a longer one is not read. */
const MAX_RECORD_BYTES = 64 << 20;
/** What is unpacked at a time: each piece is a way to another thread and back, and the longest record of a snapshot of 512 MiB takes a megabyte. */
const UNPACKED_BYTES = 256 << 10;
const FAST = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

export const RecordType = {
  config: 1,
  control: 2,
  vcpu: 3,
  map: 4,
  frames: 5,
  backends: 6,
  end: 7,
  /** When the vcpus stood still, where that was not known at the beginning. */
  clock: 8,
  // What two servers say to each other behind the last record; see migrate/
  ready: 9,
  commit: 10,
  running: 11,
  refused: 12,
  // What goes along with a domain that moves; see migrate/
  want: 14,
  chunk: 15,
  file: 16,
  placed: 17,
  blocks: 18,
  /** The sender has nothing to say, and is there. */
  idle: 19,
  /** The other side shall have caught up; it says `synced` then. */
  sync: 20,
  synced: 21,
  /** Of a snapshot: which frames its file has, see snapshot/head.ts. */
  slots: 13,
  // Frames that come when the domain runs there already; see migrate/later/
  later: 22,
  fetch: 23,
  arrived: 24,
} as const;

/** How far the other side shall have caught up: what came is loaded, or its disks are flushed as well and its devices looked at. */
export const Sync = { loaded: 0, flushed: 1 } as const;
export type Sync = (typeof Sync)[keyof typeof Sync];

export interface SavedRecord {
  readonly type: number;
  readonly payload: Buffer<ArrayBuffer>;
}

/** A payload that consists of words, as it is if it lies at a multiple of their length. */
export function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const isAligned = byteOffset % 4 === 0 && byteLength % 4 === 0;
  const bytes = isAligned ? buffer : buffer.slice(byteOffset, byteOffset + byteLength);
  return new Uint32Array(bytes, isAligned ? byteOffset : 0, byteLength >>> 2);
}

/** Where records come from. */
export interface Records {
  /** For messages. */
  readonly name: string;
  /** @throws SaveError  what comes is damaged, or cut */
  next(): Promise<SavedRecord>;
  /** Reads all that is left, and looks at nothing of it. */
  drain(): Promise<void>;
  close(): void;
}

/** Writes records into a stream. */
export class RecordWriter {
  readonly #target: Writable;
  /** Where records go: into the compressor, or the target itself. */
  readonly #into: Writable;
  /** Rejects when the file cannot be written any more. */
  readonly #failed: Promise<never>;
  #failure: Error | undefined;
  /** Bytes of records so far, before they were compressed. */
  bytes = 0;

  readonly #stallMs: number | undefined;

  /**
   * @param stallMs  how long the target may take nothing before it counts as gone
   * @param goesOn   another has begun the stream
   */
  constructor(target: Writable, isCompressed: boolean, stallMs?: number, goesOn = false) {
    this.#target = target;
    this.#stallMs = stallMs;
    const head = Buffer.alloc(HEAD_BYTES);
    head.write(MAGIC, "latin1");
    head.writeUInt32LE(VERSION, 8);
    if (!goesOn) target.write(head);
    this.#into = target;
    if (isCompressed) {
      this.#into = createZstdCompress(FAST);
      this.#into.pipe(target);
    }
    const { promise, reject } = Promise.withResolvers<never>();
    const fail = (error: Error): void => {
      this.#failure ??= error;
      reject(error);
    };
    target.on("error", fail);
    target.on("close", () => fail(new Error("the other side is gone")));
    if (isCompressed) this.#into.on("error", fail);
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
    this.#into.write(head);
    if (this.#into.write(payload)) return;
    const { promise: drained, resolve } = Promise.withResolvers<void>();
    this.#into.once("drain", resolve);
    const stalled = (): void => void this.#target.destroy(new Error(`nothing was taken within ${this.#stallMs} ms`));
    const timer = this.#stallMs === undefined ? undefined : setTimeout(stalled, this.#stallMs);
    try {
      await Promise.race([drained, this.#failed]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Writes the last record and closes the stream. @throws Error of the file system */
  async close(): Promise<void> {
    await this.write(RecordType.end, new Uint8Array());
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    this.#target.once("finish", resolve);
    this.#into.end();
    await Promise.race([closed, this.#failed]);
  }
}

/** Reads records out of a stream. */
export class RecordReader implements Records {
  /** What messages call the stream. */
  readonly name: string;
  readonly #pieces: Pieces;
  readonly #isLink: boolean;
  readonly #destroy: () => void;

  private constructor(name: string, source: Readable, isLink: boolean, destroy: () => void) {
    this.name = name;
    this.#isLink = isLink;
    this.#pieces = new Pieces(source);
    this.#destroy = destroy;
  }

  /**
   * @param place  of the records in the file
   * @throws SaveError  it is no saved domain, or of another version
   */
  static async ofFile(path: string, { at, lengthBytes }: RecordsPlace = WHOLE): Promise<RecordReader> {
    await checkHead(path, at);
    const source = createReadStream(path, { start: at + HEAD_BYTES, end: at + lengthBytes - 1 });
    const unpacker = createZstdDecompress({ chunkSize: UNPACKED_BYTES });
    source.on("error", (error) => unpacker.destroy(error));
    source.pipe(unpacker);
    return new RecordReader(path, unpacker, false, () => {
      source.destroy();
      unpacker.destroy();
    });
  }
  /** The rest of a stream whose beginning another has read. */
  static ofRest(name: string, source: Readable): RecordReader {
    return new RecordReader(name, source, true, () => source.destroy());
  }
  /** Records that are not compressed. @throws SaveError  as `ofFile` */
  static async ofStream(name: string, source: Readable): Promise<RecordReader> {
    const reader = RecordReader.ofRest(name, source);
    const head = reader.#pieces.take(HEAD_BYTES);
    checkMagic(name, await head.catch((cause) => Promise.reject(asSaveError(name, cause, true))));
    return reader;
  }

  /** @throws SaveError  the stream is damaged or cut */
  async next(): Promise<SavedRecord> {
    const { name } = this;
    try {
      const head = await this.#pieces.take(RECORD_HEAD_BYTES);
      const [type, length, sum] = [head.readUInt32LE(0), head.readUInt32LE(4), head.readUInt32LE(8)];
      if (length > MAX_RECORD_BYTES)
        throw new SaveError(`${name}: a record of ${length} bytes, expected at most ${MAX_RECORD_BYTES}`);
      const payload = await this.#pieces.take(length);
      if (crc32(payload) !== sum) throw new SaveError(`${name}: a record of type ${type} is damaged`);
      return { type, payload: payload as Buffer<ArrayBuffer> };
    } catch (error) {
      throw asSaveError(name, error, this.#isLink);
    }
  }
  async drain(): Promise<void> {
    await this.#pieces.drain().catch(() => {});
  }
  close(): void {
    this.#destroy();
  }
}

/** @param isLink  what fails is the line, which says why; of a file it is what comes out of the decompressor */
function asSaveError(name: string, error: unknown, isLink: boolean): SaveError {
  if (error instanceof SaveError) return error;
  const isCut = error instanceof Cut || (error as NodeJS.ErrnoException).code === "ERR_STREAM_PREMATURE_CLOSE";
  const failure = isLink ? (error as Error).message : "is damaged";
  return new SaveError(`${name}: ${isCut ? "ends too early" : failure}`, { cause: error });
}

function checkMagic(name: string, head: Buffer): void {
  if (head.toString("latin1", 0, 8) !== MAGIC) throw new SaveError(`${name}: is no saved domain`);
  const version = head.readUInt32LE(8);
  if (version !== VERSION) throw new SaveError(`${name}: has version ${version}, expected ${VERSION}`);
}

/** A part of a file. */
interface RecordsPlace {
  readonly at: number;
  readonly lengthBytes: number;
}
const WHOLE: RecordsPlace = { at: 0, lengthBytes: Number.POSITIVE_INFINITY };

async function checkHead(path: string, at: number): Promise<void> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    throw new SaveError(`${path}: ${error.code === "ENOENT" ? "no such file" : error.message}`);
  });
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    const { bytesRead } = await file.read(head, 0, HEAD_BYTES, at);
    if (bytesRead < HEAD_BYTES) throw new SaveError(`${path}: is no saved domain`);
    checkMagic(path, head);
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
  async drain(): Promise<void> {
    this.#waiting = [];
    this.#bytes = 0;
    while ((await this.#source.next()).done !== true);
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
