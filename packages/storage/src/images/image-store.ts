/**
 * A folder of images: their chunks, their names, and the overlays of domains on them.
 *
 *     chunks/ trash/ partial/   see ChunkFolder
 *     names/ pins/ generation   see ImageRoots
 *     overlays/ID/              see OverlayStore
 *     boot/DIGEST               a file that comes with an image, unpacked; see UnpackedFiles
 */
import * as fs from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { syncFileSystem } from "../durable.ts";
import { reasonOf, StorageError } from "../error.ts";
import { handOver, makeFolder } from "../file-owner.ts";
import type { Content } from "../files/content.ts";
import { tryLock } from "../lock.ts";
import { type DiskSource, diskOf, readChunk, UnpackedFiles } from "./attached.ts";
import { bringAll } from "./bring.ts";
import { type Digest, HOLE } from "./chunk.ts";
import { ChunkFolder, type ChunkSource } from "./chunk-folder.ts";
import { type Collected, collect } from "./collect.ts";
import { ImageReader } from "./image-reader.ts";
import { ImageRoots, isName } from "./image-roots.ts";
import { type ImageContent, WrittenImage } from "./image-writer.ts";
import { BLOCK_BYTES } from "./layer.ts";
import { type AttachedFile, CHUNK_BYTES, emptyManifest, type ImageExtras, ImageTree, resized } from "./manifest.ts";
import { createOverlay, OverlayStore, readOverlayRecord } from "./overlay.ts";
import { openRemote, type RemoteImages } from "./remote.ts";

export interface NamedImage {
  readonly name: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly extras: ImageExtras;
}

/** What to keep beside a disk. */
export interface ImportExtras {
  readonly files?: Readonly<Record<string, Content>>;
  readonly about?: Readonly<Record<string, string>>;
}

/** How long chunks that nobody uses stay in the trash. */
const DEFAULT_GRACE_MS = 3600_000;
/** `$XENO_STORE`, `$XDG_DATA_HOME/xenoserver/store` or `~/.local/share/xenoserver/store`. */
export function defaultStoreFolder(env: NodeJS.ProcessEnv = process.env): string {
  const data = env["XDG_DATA_HOME"] || join(homedir(), ".local", "share");
  return env["XENO_STORE"] || join(data, "xenoserver", "store");
}

/**
 * The user's store. `$XENO_CHUNK_SOURCE` names a place that is asked for chunks which are not here.
 * @param source  is asked instead
 */
export async function openDefaultStore(source?: ChunkSource): Promise<ImageStore> {
  const place = process.env["XENO_CHUNK_SOURCE"];
  return ImageStore.open(defaultStoreFolder(), source ?? (place ? await openRemote(place) : undefined));
}

export class ImageStore {
  readonly chunks: ChunkFolder;
  readonly #folder: string;
  readonly #unpacked: UnpackedFiles;
  readonly #roots: ImageRoots;

  private constructor(folder: string, source?: ChunkSource) {
    this.#folder = folder;
    this.chunks = new ChunkFolder(folder, source);
    this.#roots = new ImageRoots(folder, () => this.#listBases());
    this.#unpacked = new UnpackedFiles(join(folder, "boot"), this.chunks);
  }

  /**
   * Opens a store; makes an empty one if there is none.
   * @param source  is asked for chunks that are not here
   */
  static async open(folder: string, source?: ChunkSource): Promise<ImageStore> {
    try {
      makeFolder(folder);
      // Locks have the names of what they lock, so one folder must have one name.
      const store = new ImageStore(await fs.realpath(folder), source);
      await store.chunks.prepare();
      for (const name of ["names", "pins", "overlays", "boot"]) makeFolder(join(folder, name));
      return store;
    } catch (error) {
      throw new StorageError(`image store ${folder}: ${reasonOf(error)}`);
    }
  }

  /** The digest that a name, or the digest itself, stands for. @throws StorageError  there is none */
  resolve(name: string): Promise<Digest> {
    return this.#roots.resolve(name);
  }

  async list(): Promise<NamedImage[]> {
    return Promise.all(
      (await this.#roots.names()).map(async (name) => {
        const digest = await this.resolve(name);
        const { manifest } = await ImageTree.open(this.chunks, digest);
        return { name, digest, sizeBytes: manifest.sizeBytes, extras: manifest.extras ?? {} };
      }),
    );
  }

  /**
   * Lets another name stand for an image as well.
   * @throws StorageError  there is no such image
   */
  async tag(image: string, name: string): Promise<Digest> {
    this.#roots.checkName(name);
    const generation = await this.#roots.generation();
    const digest = await this.resolve(image);
    await ImageTree.open(this.chunks, digest);
    await this.#roots.name(name, digest);
    if ((await this.#roots.generation()) !== generation && !(await this.#securesAll(digest))) {
      await this.remove(name);
      throw new StorageError(`image ${image}: was removed while it was named`);
    }
    return digest;
  }

  /** @throws StorageError  there is no such name */
  remove(name: string): Promise<void> {
    return this.#roots.removeName(name);
  }

  /** Brings an image to a place where others find it. @returns how many chunks were sent, of how many */
  async push(name: string, remote: RemoteImages): Promise<{ sent: number; total: number }> {
    this.#roots.checkName(name);
    return remote.push(name, await ImageTree.open(this.chunks, await this.resolve(name)), this.chunks);
  }

  /**
   * Takes over an image from such a place, under the same name. Its chunks come when they are needed if the store was opened
   * with the place as its source; otherwise now.
   */
  async pull(name: string, remote: RemoteImages, now: boolean): Promise<Digest> {
    this.#roots.checkName(name);
    const digest = await remote.resolve(name);
    const tree = await ImageTree.open(this.chunks, digest);
    if (now) for await (const chunk of tree.all()) if (!(await this.chunks.has(chunk))) await this.chunks.get(chunk);
    await this.#roots.name(name, digest);
    return digest;
  }

  /** An image with the number of its bytes that are not zeros, counted in chunks. @throws StorageError  there is none */
  async describe(name: string): Promise<NamedImage & { readonly usedBytes: number }> {
    const tree = await ImageTree.open(this.chunks, await this.resolve(name));
    const { sizeBytes, chunkBytes, extras = {} } = tree.manifest;
    let used = 0;
    for (let n = 0; n * chunkBytes < sizeBytes; n++) if ((await tree.chunk(n)) !== HOLE) used++;
    return { name, digest: tree.digest, sizeBytes, extras, usedBytes: Math.min(used * chunkBytes, sizeBytes) };
  }

  async openImage(name: string): Promise<ImageReader> {
    return new ImageReader(this.chunks, await ImageTree.open(this.chunks, await this.resolve(name)));
  }

  /**
   * Makes an image of a disk.
   * @param progress  is told how much of the disk was looked at, from 0 to 1
   * @param extras    what comes with the disk
   */
  async import(
    name: string,
    disk: DiskSource,
    progress: (part: number) => void = () => {},
    { files = {}, about }: ImportExtras = {},
  ): Promise<Digest> {
    this.#roots.checkName(name);
    const unpins: (() => Promise<void>)[] = [];
    try {
      const attached: Record<string, AttachedFile> = {};
      for (const [key, content] of Object.entries(files)) {
        const { digest, unpin } = await this.#writeDisk(diskOf(content), {}, () => {});
        unpins.push(unpin);
        attached[key] = { sizeBytes: content.sizeBytes, digest };
      }
      const extras = { ...(Object.keys(attached).length > 0 && { files: attached }), ...(about && { about }) };
      const { digest, unpin } = await this.#writeDisk(disk, extras, progress);
      unpins.push(unpin);
      await this.#roots.name(name, digest);
      return digest;
    } finally {
      for (const unpin of unpins) await unpin();
    }
  }

  #writeDisk(disk: DiskSource, extras: ImageExtras, progress: (part: number) => void) {
    const plain = emptyManifest(disk.info.sizeBytes);
    const manifest = Object.keys(extras).length > 0 ? { ...plain, extras } : plain;
    const count = Math.ceil(manifest.sizeBytes / CHUNK_BYTES);
    return this.#write({
      manifest,
      changed: Array.from({ length: count }, (_, n) => n).filter((n) => !disk.isHole?.(n * CHUNK_BYTES, CHUNK_BYTES)),
      read: async (index) => {
        progress(index / count);
        return readChunk(disk, manifest, index);
      },
    });
  }

  /** What comes with an image's disk. @throws StorageError  there is no such image */
  async extras(image: string): Promise<ImageExtras> {
    const { manifest } = await ImageTree.open(this.chunks, await this.resolve(image));
    return manifest.extras ?? {};
  }

  /**
   * Brings a file that comes with an image into a file of its own.
   * @returns its path
   * @throws  StorageError  its chunks are not there, or damaged
   */
  unpackFile(file: AttachedFile): Promise<string> {
    return this.#unpacked.unpack(file);
  }

  /** @returns the image, which lasts without a name until `unpin` */
  async #write(content: ImageContent): Promise<{ digest: Digest; unpin: () => Promise<void> }> {
    const image = await WrittenImage.write(this.chunks, content);
    const unpin = await this.#roots.pin(image.digest);
    await image.secure();
    // All of it is on the disk before a name says so.
    await syncFileSystem(this.#folder);
    return { digest: image.digest, unpin };
  }

  #overlayPath(id: string): string {
    if (!isName(id))
      throw new StorageError(`overlay ${JSON.stringify(id)}: expected a name of letters, digits and any of _.+:@-`);
    return join(this.#folder, "overlays", id);
  }

  async hasOverlay(id: string): Promise<boolean> {
    return (await fs.stat(join(this.#overlayPath(id), "overlay.json")).catch(() => undefined)) !== undefined;
  }

  /**
   * Makes a disk that begins as an image and can be written. Nothing is copied, whatever its size.
   * @throws StorageError  there is no such image, or there is a disk of this name
   */
  async clone(image: string, id: string): Promise<void> {
    const path = this.#overlayPath(id);
    const lock = await tryLock(join(path, "lock"));
    if (lock === undefined || (await this.hasOverlay(id))) {
      await lock?.release();
      throw new StorageError(`disk ${id}: is there already`);
    }
    try {
      await this.#clone(image, path);
    } finally {
      await lock.release();
    }
  }

  async #clone(image: string, path: string): Promise<void> {
    const generation = await this.#roots.generation();
    const digest = await this.resolve(image);
    const { manifest } = await ImageTree.open(this.chunks, digest);
    await createOverlay(path, digest, manifest.sizeBytes);
    if ((await this.#roots.generation()) !== generation && !(await this.#securesAll(digest))) {
      await fs.rm(path, { recursive: true });
      throw new StorageError(`image ${image}: was removed while it was cloned`);
    }
  }

  async #securesAll(digest: Digest): Promise<boolean> {
    const tree = await ImageTree.open(this.chunks, digest);
    for await (const chunk of tree.all()) if (!(await this.chunks.secure(chunk))) return false;
    return true;
  }

  /**
   * Brings all chunks of an image from the store's source that are not here. They are on the disk then, and what `use` did.
   * @param use   gives it a name, or makes a disk on it; called when they are here
   * @throws StorageError  the source has not got one, or a collection was faster
   */
  async bring(digest: Digest, use: () => Promise<void>): Promise<void> {
    const generation = await this.#roots.generation();
    const unpin = await this.#roots.pin(digest);
    try {
      await bringAll(await ImageTree.open(this.chunks, digest), this.chunks);
      await use();
      await syncFileSystem(this.#folder);
      if ((await this.#roots.generation()) !== generation && !(await this.#securesAll(digest)))
        throw new StorageError(`image ${digest}: was removed while it was brought here`);
    } finally {
      await unpin();
    }
  }

  /** Says of a disk what `markOf` then tells to whoever looks at the same folder. @throws StorageError */
  async mark(id: string, text: string | undefined): Promise<void> {
    const path = join(this.#overlayPath(id), "mark");
    try {
      if (text === undefined) await fs.rm(path, { force: true });
      else {
        await fs.writeFile(path, text);
        handOver(path);
      }
    } catch (error) {
      throw new StorageError(`${path}: ${reasonOf(error)}`);
    }
  }

  /** Undefined if there is no such disk, or nothing was said. */
  async markOf(id: string): Promise<string | undefined> {
    return fs.readFile(join(this.#overlayPath(id), "mark"), "utf8").catch(() => undefined);
  }

  /** Bytes that are free where the store is. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await fs.statfs(this.#folder);
    return bavail * bsize;
  }

  /** @throws StorageError  there is no such disk, or it is in use */
  async openOverlay(id: string): Promise<OverlayStore> {
    const path = this.#overlayPath(id);
    if (!(await this.hasOverlay(id))) throw new StorageError(`disk ${id}: there is none of this name`);
    return OverlayStore.open(path, (digest) => this.openImage(digest));
  }

  /** The image that a disk is on. @throws StorageError  there is no such disk */
  async baseOf(id: string): Promise<Digest> {
    if (!(await this.hasOverlay(id))) throw new StorageError(`disk ${id}: there is none of this name`);
    return (await readOverlayRecord(this.#overlayPath(id))).base;
  }

  /** Deletes a disk. @throws StorageError  it is in use */
  async removeOverlay(id: string): Promise<void> {
    const path = this.#overlayPath(id);
    const lock = await tryLock(join(path, "lock"));
    if (lock === undefined) throw new StorageError(`disk ${id}: is in use by another domain`);
    await fs.rm(path, { recursive: true, force: true });
    await lock.release();
  }

  async listOverlays(): Promise<string[]> {
    return (await fs.readdir(join(this.#folder, "overlays"))).filter(isName).sort();
  }

  /**
   * Makes an image of a disk as it is at this moment, while it is in use; only what was written since the last image is looked
   * at. The disk goes on upon the new image.
   * @param name      what the image is called; if absent, it lasts as long as the disk uses it
   * @param onFrozen  called at that moment: what is written from then on is not in the image
   */
  async commit(overlay: OverlayStore, name?: string, onFrozen: () => void = () => {}): Promise<Digest> {
    if (name !== undefined) this.#roots.checkName(name);
    return overlay.whileCommitting(() => this.#commit(overlay, name, onFrozen));
  }

  async #commit(overlay: OverlayStore, name: string | undefined, onFrozen: () => void): Promise<Digest> {
    const frozen = await overlay.freeze();
    onFrozen();
    const { tree } = frozen.base;
    const manifest = resized(tree.manifest, frozen.sizeBytes);
    const changed = new Set<number>();
    for (const layer of frozen.layers) {
      for (const block of layer.map.known()) changed.add(Math.floor((block * BLOCK_BYTES) / manifest.chunkBytes));
    }
    const { digest, unpin } = await this.#write({
      manifest,
      tree,
      changed: [...changed].sort((a, b) => a - b),
      read: (index) =>
        readChunk({ info: { sizeBytes: frozen.sizeBytes, readOnly: true }, read: frozen.read }, manifest, index),
    });
    if (name !== undefined) await this.#roots.name(name, digest);
    await overlay.rebase(frozen, digest);
    await unpin();
    return digest;
  }

  /**
   * Throws away chunks that no image and no disk needs.
   * @throws StorageError  an image is damaged, or another collection is under way; nothing is deleted then
   */
  async collect(graceMs = DEFAULT_GRACE_MS): Promise<Collected> {
    const lock = await tryLock(join(this.#folder, "collecting"));
    if (lock === undefined)
      throw new StorageError(`image store ${this.#folder}: another garbage collection is under way`);
    try {
      const collected = await collect(this.chunks, this.#roots, { graceMs });
      await this.#unpacked.sweep(Date.now() - graceMs);
      return collected;
    } finally {
      await lock.release();
    }
  }

  /** The images that disks are on. */
  async #listBases(): Promise<Digest[]> {
    const bases: Digest[] = [];
    for (const id of await this.listOverlays()) {
      if (!(await this.hasOverlay(id))) continue;
      bases.push((await readOverlayRecord(this.#overlayPath(id))).base);
    }
    return bases;
  }
}
