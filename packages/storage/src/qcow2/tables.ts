/** Clusters of metadata, L2 tables and refcount blocks, as they are read and changed in memory. */
import type { RandomAccessFile } from "../raw/file.ts";

export class TableCluster {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  dirty = false;

  constructor(offset: number, bytes: Uint8Array) {
    this.offset = offset;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
}

/** Keeps the tables that were used last, and all that are changed until they are written. */
export class TableCache {
  readonly #file: RandomAccessFile;
  readonly #clusterBytes: number;
  readonly #limit: number;
  /** In order of last use. */
  readonly #tables = new Map<number, Promise<TableCluster>>();
  readonly #dirty = new Set<TableCluster>();

  constructor(file: RandomAccessFile, clusterBytes: number, limit: number) {
    this.#file = file;
    this.#clusterBytes = clusterBytes;
    this.#limit = limit;
  }

  get dirtyCount(): number {
    return this.#dirty.size;
  }

  get(offset: number): Promise<TableCluster> {
    const known = this.#tables.get(offset);
    if (known !== undefined) {
      this.#tables.delete(offset);
      this.#tables.set(offset, known);
      return known;
    }
    const loading = this.#load(offset);
    this.#tables.set(offset, loading);
    loading.catch(() => this.#tables.delete(offset));
    return loading;
  }

  async #load(offset: number): Promise<TableCluster> {
    const bytes = new Uint8Array(this.#clusterBytes);
    await this.#file.readPadded(offset, [bytes]);
    return new TableCluster(offset, bytes);
  }

  /** A new table of zeros, or of what is given; it is dirty from the beginning. */
  create(offset: number, bytes = new Uint8Array(this.#clusterBytes)): TableCluster {
    const table = new TableCluster(offset, bytes);
    this.#tables.set(offset, Promise.resolve(table));
    this.markDirty(table);
    return table;
  }

  markDirty(table: TableCluster): void {
    table.dirty = true;
    this.#dirty.add(table);
  }

  /** Forgets a table whose cluster is no table any more. */
  async forget(offset: number): Promise<void> {
    const table = await this.#tables.get(offset);
    this.#tables.delete(offset);
    if (table !== undefined) this.#dirty.delete(table);
  }

  /** Writes what has changed. @returns whether anything had */
  async write(): Promise<boolean> {
    const changed = [...this.#dirty].sort((a, b) => a.offset - b.offset);
    this.#dirty.clear();
    for (const table of changed) {
      table.dirty = false;
      try {
        await this.#file.write(table.offset, [table.bytes]);
      } catch (error) {
        for (const lost of changed) this.markDirty(lost);
        throw error;
      }
    }
    return changed.length > 0;
  }

  get isOverfull(): boolean {
    return this.#tables.size > this.#limit;
  }

  /** Forgets what was not used for the longest time. To be called while nobody is about to change a table. */
  trim(): void {
    let excess = this.#tables.size - this.#limit;
    for (const [offset, loading] of this.#tables) {
      if (excess-- <= 0) return;
      void loading.then((table) => {
        if (!table.dirty && this.#tables.get(offset) === loading) this.#tables.delete(offset);
      });
    }
  }
}
