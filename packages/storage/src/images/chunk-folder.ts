/**
 * A folder of chunks.
 *
 *     chunks/ab/abcd…   in use, or about to be
 *     trash/abcd…       found to be used by nobody; kept for a while, as somebody may just be taking it into use
 *
 * Files appear whole under their names, by renaming. Readers look into the trash too.
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import { reasonOf, StorageError } from "../error.ts";
import { handOver, makeFolder } from "../file-owner.ts";
import { type Digest, digestOf, isDigest, packChunk, unpackChunk } from "./chunk.ts";

/** Where chunks come from that are not here: another folder, or an object store. */
export interface ChunkSource {
  /** What messages call it. */
  readonly name: string;
  /** The chunk's file as `packChunk` made it; undefined if there is none. @throws StorageError  it cannot be asked */
  fetch(digest: Digest): Promise<Uint8Array | undefined>;
}

export class ChunkFolder implements ChunkSource {
  readonly name: string;
  readonly #chunks: string;
  readonly #trash: string;
  readonly #partial: string;
  readonly #source: ChunkSource | undefined;
  readonly #folders = new Set<string>();
  readonly #fetching = new Map<Digest, Promise<Uint8Array>>();

  /** @param source  is asked for chunks that are not here, which then are */
  constructor(folder: string, source?: ChunkSource) {
    this.name = folder;
    this.#chunks = join(folder, "chunks");
    this.#trash = join(folder, "trash");
    this.#partial = join(folder, "partial");
    this.#source = source;
  }

  async prepare(): Promise<void> {
    for (const path of [this.#chunks, this.#trash, this.#partial]) makeFolder(path);
  }

  #path(digest: Digest): string {
    return join(this.#chunks, digest.slice(0, 2), digest);
  }

  /** Whether the chunk is here, not counting the trash. */
  has(digest: Digest): Promise<boolean> {
    return exists(this.#path(digest));
  }

  /** The chunk's bytes, compared with its name. @throws StorageError  it is nowhere, or damaged */
  async get(digest: Digest): Promise<Uint8Array> {
    const file = await this.fetch(digest);
    if (file !== undefined) return unpackChunk(file, digest, join(this.name, digest));
    const known = this.#fetching.get(digest);
    if (known !== undefined) return known;
    const fetching = this.#getFromSource(digest).finally(() => this.#fetching.delete(digest));
    this.#fetching.set(digest, fetching);
    return fetching;
  }

  /** Checked before it is kept, so that a source that errs once does not err for ever. */
  async #getFromSource(digest: Digest): Promise<Uint8Array> {
    const file = await this.#source?.fetch(digest);
    if (file === undefined) throw new StorageError(`chunk ${digest}: is not in ${this.#source?.name ?? this.name}`);
    const bytes = await unpackChunk(file, digest, `${this.#source!.name}/${digest}`);
    await this.#store(digest, file);
    return bytes;
  }

  async fetch(digest: Digest): Promise<Uint8Array | undefined> {
    for (const path of [this.#path(digest), join(this.#trash, digest), this.#path(digest)]) {
      try {
        return await fs.readFile(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT")
          throw new StorageError(`chunk ${path}: ${reasonOf(error)}`);
      }
    }
    return undefined;
  }

  /** Keeps a chunk, unless it is here. @param bytes  must not change meanwhile */
  async put(bytes: Uint8Array): Promise<Digest> {
    const digest = await digestOf(bytes);
    if (!(await this.has(digest))) await this.#store(digest, await packChunk(bytes));
    return digest;
  }

  async #store(digest: Digest, file: Uint8Array): Promise<void> {
    const folder = join(this.#chunks, digest.slice(0, 2));
    if (!this.#folders.has(folder)) makeFolder(folder);
    this.#folders.add(folder);
    const partial = join(this.#partial, randomUUID());
    try {
      await fs.writeFile(partial, file);
      handOver(partial);
      await fs.rename(partial, this.#path(digest));
    } catch (error) {
      await fs.rm(partial, { force: true });
      throw new StorageError(`chunk ${this.#path(digest)}: ${reasonOf(error)}`);
    }
  }

  /**
   * Makes sure that a chunk which something durable names now is here.
   * @returns false if it is gone: whoever named it has to put it again
   */
  async secure(digest: Digest): Promise<boolean> {
    if (await this.has(digest)) return true;
    return (await this.restore(digest)) || (await this.has(digest));
  }

  /** Takes a chunk out of the trash. @returns whether it was there */
  restore(digest: Digest): Promise<boolean> {
    return moved(join(this.#trash, digest), this.#path(digest));
  }

  /** @returns whether it was there */
  discard(digest: Digest): Promise<boolean> {
    return moved(this.#path(digest), join(this.#trash, digest));
  }

  /** Deletes a chunk from the trash for good. @returns the bytes that became free; undefined if somebody took it out */
  async destroy(digest: Digest): Promise<number | undefined> {
    const path = join(this.#trash, digest);
    try {
      const { size } = await fs.stat(path);
      await fs.unlink(path);
      return size;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  async *list(): AsyncGenerator<Digest> {
    for (const folder of await fs.readdir(this.#chunks)) {
      for (const name of await fs.readdir(join(this.#chunks, folder))) if (isDigest(name)) yield name;
    }
  }

  /** What is in the trash, with the time since which it is. */
  async *listTrash(): AsyncGenerator<{ readonly digest: Digest; readonly sinceMs: number }> {
    for (const name of await fs.readdir(this.#trash)) {
      if (!isDigest(name)) continue;
      const stat = await fs.stat(join(this.#trash, name)).catch(() => undefined);
      // Renaming changes the time of the inode's last change, and nothing else here does.
      if (stat !== undefined) yield { digest: name, sinceMs: stat.ctimeMs };
    }
  }

  /** Deletes what a process that died was writing. */
  async sweepPartial(olderThanMs: number): Promise<void> {
    for (const name of await fs.readdir(this.#partial)) {
      const path = join(this.#partial, name);
      const stat = await fs.stat(path).catch(() => undefined);
      if (stat !== undefined && stat.mtimeMs < olderThanMs) await fs.rm(path, { force: true });
    }
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await fs.access(path);
    return true;
  } catch {
    return false;
  }
}

async function moved(from: string, to: string): Promise<boolean> {
  try {
    await fs.rename(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}
