/**
 * A disk of a domain on an image: what the domain wrote lies in layers, the newest on top; everything else is the image's.
 *
 *     overlay.json    { version, sizeBytes, base: digest, layers: [names, newest first] }
 *     N.data N.map    a layer
 *
 * `overlay.json` is replaced whole, so that a crash finds the disk either before or after a change of its layers.
 */
import * as fs from "node:fs/promises";
import { join } from "node:path";
import { type BlockInfo, type BlockStore, totalBytes } from "@xenoserver/devices/block/store.ts";
import { BlockSet } from "../block-set.ts";
import { joinBuffers, sliceBuffers, zeroBuffers } from "../buffers.ts";
import { replaceFile } from "../durable.ts";
import { reasonOf, StorageError } from "../error.ts";
import { makeFolder } from "../file-owner.ts";
import { type Lock, tryLock } from "../lock.ts";
import { Mutex } from "../mutex.ts";
import { BlockState } from "./block-map.ts";
import type { Digest } from "./chunk.ts";
import { isDigest } from "./chunk.ts";
import type { ImageReader } from "./image-reader.ts";
import { BLOCK_BYTES, Layer } from "./layer.ts";
import { RangeLock } from "./range-lock.ts";

const VERSION = 1;

export interface OverlayRecord {
  readonly sizeBytes: number;
  readonly base: Digest;
  readonly layers: readonly string[];
}

/** @throws StorageError  there is none, or it makes no sense */
export async function readOverlayRecord(folder: string): Promise<OverlayRecord> {
  const path = join(folder, "overlay.json");
  let parsed: Partial<OverlayRecord> & { readonly version?: unknown };
  try {
    parsed = JSON.parse(await fs.readFile(path, "utf8")) as typeof parsed;
  } catch (error) {
    throw new StorageError(`${path}: ${reasonOf(error)}`);
  }
  const { version, sizeBytes, base, layers } = parsed;
  if (version !== VERSION) throw new StorageError(`${path}: version is ${version}, expected ${VERSION}`);
  const wellFormed = Number.isSafeInteger(sizeBytes) && typeof base === "string" && isDigest(base);
  if (
    !wellFormed ||
    !Array.isArray(layers) ||
    layers.length === 0 ||
    !layers.every((name) => /^\d+$/.test(String(name)))
  ) {
    throw new StorageError(`${path}: is damaged, expected a size, an image and layers`);
  }
  return { sizeBytes: sizeBytes!, base: base!, layers };
}

const writeRecord = (folder: string, record: OverlayRecord): Promise<void> =>
  replaceFile(join(folder, "overlay.json"), `${JSON.stringify({ version: VERSION, ...record })}\n`);

/** Makes an overlay that shows an image as it is. Nothing is copied. */
export async function createOverlay(folder: string, base: Digest, sizeBytes: number): Promise<void> {
  // What a process left that died on the way.
  await fs.rm(folder, { recursive: true, force: true });
  makeFolder(folder);
  await (await Layer.create(join(folder, "0"), sizeBytes)).close();
  await writeRecord(folder, { sizeBytes, base, layers: ["0"] });
}

/** Where the bytes of a run come from. */
type Origin = Layer | "base" | "zero";

export class OverlayStore implements BlockStore {
  readonly #folder: string;
  readonly #lock: Lock;
  readonly #openBase: (digest: Digest) => Promise<ImageReader>;
  readonly #writing = new RangeLock();
  readonly #committing = new Mutex();
  readonly #reading = new Set<Promise<void>>();
  #record: OverlayRecord;
  #base: ImageReader;
  /** As the record names them. */
  #layers: readonly Layer[];

  private constructor(
    folder: string,
    lock: Lock,
    openBase: (digest: Digest) => Promise<ImageReader>,
    record: OverlayRecord,
    base: ImageReader,
    layers: readonly Layer[],
  ) {
    this.#folder = folder;
    this.#lock = lock;
    this.#openBase = openBase;
    this.#record = record;
    this.#base = base;
    this.#layers = layers;
  }

  /** @throws StorageError  it is damaged, or another domain uses it */
  static async open(folder: string, openBase: (digest: Digest) => Promise<ImageReader>): Promise<OverlayStore> {
    const lock = await tryLock(join(folder, "lock"));
    if (lock === undefined) throw new StorageError(`${folder}: is in use by another domain`);
    const layers: Layer[] = [];
    try {
      const record = await readOverlayRecord(folder);
      for (const name of record.layers) layers.push(await Layer.open(join(folder, name)));
      await removeStrays(folder, record);
      return new OverlayStore(folder, lock, openBase, record, await openBase(record.base), layers);
    } catch (error) {
      for (const layer of layers) await layer.close();
      await lock.release();
      throw error;
    }
  }

  get info(): BlockInfo {
    return { sizeBytes: this.#record.sizeBytes, readOnly: false, discardGranularityBytes: BLOCK_BYTES };
  }

  /** The image that the overlay is on now. */
  get base(): ImageReader {
    return this.#base;
  }

  /** The image that the overlay is on at this moment, and the blocks in which it may differ from that. */
  written(): { readonly base: Digest; readonly blocks: BlockSet } {
    const blocks = new BlockSet(this.#record.sizeBytes);
    for (const { map } of this.#layers) for (const block of map.known()) blocks.add(block);
    return { base: this.#base.tree.digest, blocks };
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    const running = this.#read(this.#layers, this.#base, offset, into);
    this.#reading.add(running);
    try {
      await running;
    } finally {
      this.#reading.delete(running);
    }
  }

  async #read(layers: readonly Layer[], base: ImageReader, offset: number, into: readonly Uint8Array[]): Promise<void> {
    const lengthBytes = totalBytes(into);
    const reads: Promise<void>[] = [];
    let start = 0;
    while (start < lengthBytes) {
      const origin = originOf(layers, Math.floor((offset + start) / BLOCK_BYTES));
      let end = start + BLOCK_BYTES - ((offset + start) % BLOCK_BYTES);
      while (end < lengthBytes && originOf(layers, (offset + end) / BLOCK_BYTES) === origin) end += BLOCK_BYTES;
      end = Math.min(end, lengthBytes);
      const parts = start === 0 && end === lengthBytes ? into : sliceBuffers(into, start, end - start);
      if (origin === "zero") zeroBuffers(parts);
      else if (origin === "base") reads.push(readBase(base, offset + start, parts));
      else reads.push(origin.read(offset + start, parts));
      start = end;
    }
    await Promise.all(reads);
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    const lengthBytes = totalBytes(from);
    const first = Math.floor(offset / BLOCK_BYTES);
    const end = Math.ceil((offset + lengthBytes) / BLOCK_BYTES);
    await this.#writing.run(first, end, async () => {
      const top = this.#layers[0]!;
      const { at, parts } = await this.#wholeBlocks(top, offset, lengthBytes, from);
      await top.write(at, parts);
      top.noteData(first, end);
    });
  }

  /** Adds what was in the rest of the first and the last block, if the top layer does not have it yet. */
  async #wholeBlocks(
    top: Layer,
    offset: number,
    lengthBytes: number,
    from: readonly Uint8Array[],
  ): Promise<{ at: number; parts: readonly Uint8Array[] }> {
    const lacks = (at: number): boolean =>
      at % BLOCK_BYTES !== 0 && top.map.get(Math.floor(at / BLOCK_BYTES)) !== BlockState.data;
    const end = offset + lengthBytes;
    const headBytes = lacks(offset) ? offset % BLOCK_BYTES : 0;
    const tailBytes = lacks(end) ? BLOCK_BYTES - (end % BLOCK_BYTES) : 0;
    if (headBytes + tailBytes === 0) return { at: offset, parts: from };
    const head = new Uint8Array(headBytes);
    // A disk may end within a block.
    const tail = new Uint8Array(Math.max(0, Math.min(tailBytes, this.#record.sizeBytes - end)));
    await this.read(offset - headBytes, [head]);
    await this.read(end, [tail]);
    return {
      at: offset - headBytes,
      parts: [head, joinBuffers(from, lengthBytes), tail].filter(({ length }) => length > 0),
    };
  }

  /** Only whole blocks are given back. Their bytes stay in the file until they are written again. */
  async discard(offset: number, lengthBytes: number): Promise<void> {
    const first = Math.ceil(offset / BLOCK_BYTES);
    const end = Math.floor((offset + lengthBytes) / BLOCK_BYTES);
    if (first >= end) return;
    await this.#writing.run(first, end, async () => this.#layers[0]!.noteZero(first, end));
  }

  async flush(): Promise<void> {
    await this.#layers[0]!.flush();
  }

  /** Runs what freezes and rebases the disk, one after the other: a second one would lose its layers to the first. */
  whileCommitting<T>(body: () => Promise<T>): Promise<T> {
    return this.#committing.run(body);
  }

  /**
   * Lets the disk go on in a new layer, so that what is below stays as it is. Takes a few milliseconds, during which writes
   * wait.
   * @returns the disk as it was, for as long as it takes to look at it, until `rebase`
   */
  async freeze(): Promise<FrozenOverlay> {
    return this.#writing.run(0, Number.POSITIVE_INFINITY, async () => {
      await this.#layers[0]!.flush();
      const next = String(Math.max(...this.#record.layers.map(Number)) + 1);
      const layer = await Layer.create(join(this.#folder, next), this.#record.sizeBytes);
      const record = { ...this.#record, layers: [next, ...this.#record.layers] };
      await writeRecord(this.#folder, record);
      const frozen: FrozenOverlay = {
        sizeBytes: this.#record.sizeBytes,
        base: this.#base,
        layers: this.#layers,
        read: (offset, into) => this.#read(frozen.layers, frozen.base, offset, into),
      };
      this.#record = record;
      this.#layers = [layer, ...this.#layers];
      return frozen;
    });
  }

  /** Puts the layers above a frozen disk on an image that holds the same as it; its layers are deleted. */
  async rebase(frozen: FrozenOverlay, image: Digest): Promise<void> {
    const base = await this.#openBase(image);
    await this.#writing.run(0, Number.POSITIVE_INFINITY, async () => {
      const kept = this.#layers.filter((layer) => !frozen.layers.includes(layer));
      const record = { ...this.#record, base: image, layers: this.#record.layers.slice(0, kept.length) };
      await writeRecord(this.#folder, record);
      this.#record = record;
      this.#layers = kept;
      this.#base = base;
    });
    await Promise.allSettled([...this.#reading]);
    for (const layer of frozen.layers) {
      await layer.close();
      await Layer.remove(layer.path);
    }
  }

  /** Makes the disk longer; what is new is zero. @throws StorageError  it would become shorter */
  async grow(sizeBytes: number): Promise<void> {
    if (sizeBytes < this.#record.sizeBytes || sizeBytes % 512 !== 0) {
      throw new StorageError(
        `${this.#folder}: new size is ${sizeBytes} bytes, expected a multiple of 512 from ${this.#record.sizeBytes} up`,
      );
    }
    await this.#writing.run(0, Number.POSITIVE_INFINITY, async () => {
      await this.#layers[0]!.resize(sizeBytes);
      const record = { ...this.#record, sizeBytes };
      await writeRecord(this.#folder, record);
      this.#record = record;
    });
  }

  async close(): Promise<void> {
    await this.#committing.run(async () => {});
    await this.#layers[0]!.flush().catch(() => {});
    await Promise.allSettled([...this.#reading]);
    for (const layer of this.#layers) await layer.close();
    await this.#lock.release();
  }
}

export interface FrozenOverlay {
  readonly sizeBytes: number;
  readonly base: ImageReader;
  readonly layers: readonly Layer[];
  read(offset: number, into: readonly Uint8Array[]): Promise<void>;
}

function originOf(layers: readonly Layer[], block: number): Origin {
  for (const layer of layers) {
    const state = layer.map.get(block);
    if (state === BlockState.data) return layer;
    if (state === BlockState.zero) return "zero";
  }
  return "base";
}

/** The image may be shorter than a disk that has grown. */
async function readBase(base: ImageReader, offset: number, into: readonly Uint8Array[]): Promise<void> {
  const wanted = totalBytes(into);
  const there = Math.max(0, Math.min(wanted, base.info.sizeBytes - offset));
  if (there === wanted) return base.read(offset, into);
  zeroBuffers(sliceBuffers(into, there, wanted - there));
  if (there > 0) await base.read(offset, sliceBuffers(into, 0, there));
}

/** Layers that a process made and died before it named them, or whose names went before it could delete them. */
async function removeStrays(folder: string, { layers }: OverlayRecord): Promise<void> {
  for (const name of await fs.readdir(folder)) {
    const layer = /^(\d+)\.(?:data|map)$/.exec(name)?.[1];
    const isStray = layer !== undefined ? !layers.includes(layer) : name.endsWith(".partial");
    if (isStray) await fs.rm(join(folder, name), { force: true });
  }
}
