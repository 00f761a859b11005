/**
 * What images are held by, so that a collection leaves them alone: names, pins for those that are about to be named, and disks.
 *
 *     names/NAME                the digest of the manifest that the name stands for
 *     pins/ID                   the same, for an image that is about to be named
 *     generation                counts the garbage collections
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import { replaceFile, syncFolder } from "../durable.ts";
import { StorageError } from "../error.ts";
import { type Digest, isDigest } from "./chunk.ts";
import type { Root, Roots } from "./collect.ts";

/** A pin this old belongs to a process that died. */
const STALE_PIN_MS = 7 * 24 * 3600_000;

const NAME = /^[A-Za-z0-9][\w.+:@-]{0,127}$/;

/** Whether an image, or a disk, may be called so. */
export const isName = (text: string): boolean => NAME.test(text);

export class ImageRoots implements Roots {
  readonly #folder: string;
  readonly #listBases: () => Promise<readonly Digest[]>;

  /**
   * @param folder     the store's
   * @param listBases  tells the images that disks are on
   */
  constructor(folder: string, listBases: () => Promise<readonly Digest[]>) {
    this.#folder = folder;
    this.#listBases = listBases;
  }

  async generation(): Promise<number> {
    const text = await fs.readFile(join(this.#folder, "generation"), "utf8").catch(() => "0");
    return Number(text) || 0;
  }

  async raiseGeneration(): Promise<void> {
    await replaceFile(join(this.#folder, "generation"), String((await this.generation()) + 1));
  }

  /** @throws StorageError  no image can be called so */
  checkName(name: string): void {
    if (!isName(name))
      throw new StorageError(`image ${JSON.stringify(name)}: expected a name of letters, digits and any of _.+:@-`);
  }

  #namePath(name: string): string {
    this.checkName(name);
    return join(this.#folder, "names", name);
  }

  /** In order. */
  async names(): Promise<string[]> {
    return (await fs.readdir(join(this.#folder, "names"))).filter(isName).sort();
  }

  /** The digest that a name, or the digest itself, stands for. @throws StorageError  there is none */
  async resolve(name: string): Promise<Digest> {
    if (isDigest(name)) return name;
    const text = await fs.readFile(this.#namePath(name), "utf8").catch(() => undefined);
    const digest = text?.trim();
    if (digest === undefined) throw new StorageError(`image ${name}: there is none of this name`);
    if (!isDigest(digest))
      throw new StorageError(`image ${name}: its name stands for ${JSON.stringify(digest)}, expected a digest`);
    return digest;
  }

  /** Lets a name stand for an image, whatever it stood for before. */
  async name(name: string, digest: Digest): Promise<void> {
    await replaceFile(this.#namePath(name), `${digest}\n`);
  }

  /** @throws StorageError  there is no such name */
  async removeName(name: string): Promise<void> {
    try {
      await fs.unlink(this.#namePath(name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT")
        throw new StorageError(`image ${name}: there is none of this name`);
      throw error;
    }
    await syncFolder(join(this.#folder, "names"));
  }

  /** Holds an image that may still be under way. @returns ends that */
  async pin(digest: Digest): Promise<() => Promise<void>> {
    const pin = join(this.#folder, "pins", randomUUID());
    await replaceFile(pin, digest);
    return () => fs.rm(pin, { force: true });
  }

  /** In the order in which an image passes from pin to name to disk; in another, it could slip through. */
  async list(): Promise<Root[]> {
    const roots: Root[] = [];
    const add = (digest: string, isWhole: boolean): void => void (isDigest(digest) && roots.push({ digest, isWhole }));
    for (const path of await this.#livePins()) add(await fs.readFile(path, "utf8").catch(() => ""), false);
    for (const name of await this.names()) add(await this.resolve(name).catch(() => ""), true);
    for (const digest of await this.#listBases()) add(digest, true);
    return roots;
  }

  async #livePins(): Promise<string[]> {
    const folder = join(this.#folder, "pins");
    const live: string[] = [];
    for (const id of await fs.readdir(folder)) {
      const path = join(folder, id);
      const stat = await fs.stat(path).catch(() => undefined);
      if (stat === undefined) continue;
      if (stat.mtimeMs < Date.now() - STALE_PIN_MS) await fs.rm(path, { force: true });
      else live.push(path);
    }
    return live;
  }
}
