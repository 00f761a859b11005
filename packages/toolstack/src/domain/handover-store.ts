import type { BlockStore } from "@xenoserver/devices";
import { ConfigError } from "../cfg/index.ts";

/** How long the disks of a domain that comes from elsewhere may still be in use there. */
export const HANDOVER_MS = 5000;

/** A disk that can be let go of for another process and taken again, behind the back of whoever uses it. */
export class HandoverStore implements BlockStore {
  readonly #open: () => Promise<BlockStore>;
  #store: BlockStore;
  #info: BlockStore["info"];
  #isOpen = true;

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
  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    return this.#store.write(offset, from);
  }
  flush(): Promise<void> {
    return this.#store.flush();
  }
  discard(offset: number, lengthBytes: number): Promise<void> {
    return this.#store.discard(offset, lengthBytes);
  }
  async grow(sizeBytes: number): Promise<void> {
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
