/** Places where images are kept for others: a folder, or a bucket of an object store. */
import * as fs from "node:fs/promises";
import { dirname, join } from "node:path";
import { replaceFile } from "../durable.ts";
import { reasonOf, StorageError } from "../error.ts";
import { type Digest, isDigest, packChunk } from "./chunk.ts";
import type { ChunkFolder, ChunkSource } from "./chunk-folder.ts";
import type { ImageTree } from "./manifest.ts";

/** Keys are paths such as "chunks/ab/abcd…" and "names/debian:12". */
export interface ObjectStore {
  /** What messages call it. */
  readonly name: string;
  /** Undefined if there is none. @throws StorageError */
  get(key: string): Promise<Uint8Array | undefined>;
  has(key: string): Promise<boolean>;
  /** Readers see the object whole, or as it was before. @throws StorageError */
  put(key: string, bytes: Uint8Array): Promise<void>;
}

const chunkKey = (digest: Digest): string => `chunks/${digest.slice(0, 2)}/${digest}`;

/** Images in an object store, as `push` leaves them there. */
export class RemoteImages implements ChunkSource {
  readonly name: string;
  readonly #objects: ObjectStore;

  constructor(objects: ObjectStore) {
    this.name = objects.name;
    this.#objects = objects;
  }

  fetch(digest: Digest): Promise<Uint8Array | undefined> {
    return this.#objects.get(chunkKey(digest));
  }

  /** @throws StorageError  there is no image of this name */
  async resolve(name: string): Promise<Digest> {
    const bytes = await this.#objects.get(`names/${name}`);
    const digest = bytes === undefined ? undefined : Buffer.from(bytes).toString("utf8").trim();
    if (digest === undefined) throw new StorageError(`${this.name}: has no image ${name}`);
    if (!isDigest(digest))
      throw new StorageError(
        `${this.name}: image ${name} is ${JSON.stringify(digest.slice(0, 80))}, expected a digest`,
      );
    return digest;
  }

  /**
   * Brings an image there: what is missing of its chunks, then its name, so that who finds the name finds the image.
   * @returns how many chunks were sent, of how many
   */
  async push(name: string, tree: ImageTree, chunks: ChunkFolder): Promise<{ sent: number; total: number }> {
    let sent = 0;
    const seen = new Set<Digest>();
    const running = new Set<Promise<void>>();
    for await (const digest of tree.all()) {
      if (seen.has(digest)) continue;
      seen.add(digest);
      const sending: Promise<void> = this.#send(digest, chunks).then((done) => {
        if (done) sent++;
        running.delete(sending);
      });
      running.add(sending);
      if (running.size >= CONCURRENT) await Promise.race(running);
    }
    await Promise.all(running);
    await this.#objects.put(`names/${name}`, Buffer.from(`${tree.digest}\n`));
    return { sent, total: seen.size };
  }

  async #send(digest: Digest, chunks: ChunkFolder): Promise<boolean> {
    const key = chunkKey(digest);
    if (await this.#objects.has(key)) return false;
    // Read rather than copied, so that nothing damaged is passed on, and what is elsewhere is found.
    await this.#objects.put(key, await packChunk(await chunks.get(digest)));
    return true;
  }
}

const CONCURRENT = 16;

/** A folder, perhaps on a disk that several machines share. */
export class FolderObjects implements ObjectStore {
  readonly name: string;

  constructor(folder: string) {
    this.name = folder;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    try {
      return await fs.readFile(join(this.name, key));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw new StorageError(`${this.name}/${key}: ${reasonOf(error)}`);
    }
  }

  async has(key: string): Promise<boolean> {
    return (await fs.stat(join(this.name, key)).catch(() => undefined)) !== undefined;
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    const path = join(this.name, key);
    try {
      await fs.mkdir(dirname(path), { recursive: true });
      await replaceFile(path, bytes);
    } catch (error) {
      throw new StorageError(`${path}: ${reasonOf(error)}`);
    }
  }
}

/**
 * Opens a place by its name.
 * @param location  a folder's path, or s3://BUCKET/PREFIX; keys, region and endpoint are those of AWS's own variables and files
 * @throws StorageError
 */
export async function openRemote(location: string): Promise<RemoteImages> {
  const s3 = /^s3:\/\/([^/]+)(?:\/(.*))?$/.exec(location);
  if (s3 === null) return new RemoteImages(new FolderObjects(location));
  const { S3Objects } = await import("./s3-objects.ts");
  return new RemoteImages(new S3Objects(s3[1]!, s3[2] ?? ""));
}
