import type { BlockStore } from "@xenoserver/devices";
import { totalBytes } from "@xenoserver/devices/block/store.ts";
import { BlockSet } from "@xenoserver/storage";
import { ConfigError } from "../cfg/index.ts";

/** How long the disks of a domain that comes from elsewhere may still be in use there. */
export const HANDOVER_MS = 5000;

/** A disk that can be let go of for another process and taken again, behind the back of whoever uses it. */
export class HandoverStore implements BlockStore {
  readonly #open: () => Promise<BlockStore>;
  #store: BlockStore;
  #info: BlockStore["info"];
  #isOpen = true;
  /** What was written since somebody began to copy the disk. */
  #written: BlockSet | undefined;

  private constructor(open: () => Promise<BlockStore>, store: BlockStore) {
    this.#open = open;
    this.#store = store;
    this.#info = store.info;
  }

  /** @throws what `open` throws */
  static async open(open: () => Promise<BlockStore>): Promise<HandoverStore> {
    return new HandoverStore(open, await open());
  }

  get info(): BlockStore["info"] {
    return this.#isOpen ? this.#store.info : this.#info;
  }
  /** What it is at present. */
  get inner(): BlockStore {
    return this.#store;
  }
  get canGrow(): boolean {
    return isGrowing(this.#store) && !this.info.readOnly;
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#store.read(offset, into);
  }
  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    try {
      await this.#store.write(offset, from);
    } finally {
      this.#note(offset, from);
    }
  }
  flush(): Promise<void> {
    return this.#store.flush();
  }
  async discard(offset: number, lengthBytes: number): Promise<void> {
    try {
      await this.#store.discard(offset, lengthBytes);
    } finally {
      this.#written?.addBytes(offset, lengthBytes);
    }
  }
  /** Behind the write: who has copied a block before it, or half of it, copies it again. */
  #note(offset: number, from: readonly Uint8Array[]): void {
    this.#written?.addBytes(offset, totalBytes(from));
  }

  /** Has all that is written from now on noted, until `collect` takes it, or `forget`. */
  watch(): void {
    this.#written = new BlockSet(this.info.sizeBytes);
  }
  /** The blocks that were written since the last call, and since `watch`. */
  collect(): BlockSet {
    const written = this.#written ?? new BlockSet(0);
    this.watch();
    return written;
  }
  forget(): void {
    this.#written = undefined;
  }

  /** @throws ConfigError  somebody copies it */
  async grow(sizeBytes: number): Promise<void> {
    if (this.#written !== undefined)
      throw new ConfigError("a disk is on its way to another server, expected it to stay");
    if (isGrowing(this.#store)) await this.#store.grow(sizeBytes);
  }

  /** Everything that was written is on the disk, and it is free for others. Nothing may be in flight. */
  async release(): Promise<void> {
    if (!this.#isOpen) return;
    this.#info = this.#store.info;
    await this.#store.flush();
    this.#isOpen = false;
    await this.#store.close();
  }
  /** @throws ConfigError  the disk cannot be had, or is another by now */
  async retake(): Promise<void> {
    if (this.#isOpen) return;
    const store = await this.#open();
    const [is, was] = [store.info.sizeBytes, this.#info.sizeBytes];
    if (is !== was) {
      await store.close();
      throw new ConfigError(`a disk has ${is} bytes now, expected ${was}`);
    }
    this.#store = store;
    this.#isOpen = true;
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#info = this.#store.info;
    await this.#store.close();
  }
}

interface GrowingStore extends BlockStore {
  grow(sizeBytes: number): Promise<void>;
}
const isGrowing = (store: BlockStore): store is GrowingStore => "grow" in store;
