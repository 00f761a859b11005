/**
 * Who uses which cluster of an image: a table of blocks, each an array of counts. All methods but `write` and `writeTable`
 * are called by one caller at a time.
 */
import { StorageError } from "../error.ts";
import type { RandomAccessFile } from "../raw/file.ts";
import { HeaderField, type Qcow2Header } from "./header.ts";
import { TableCache, type TableCluster } from "./tables.ts";

const CACHED_BLOCKS = 64;

export class Refcounts {
  readonly #file: RandomAccessFile;
  readonly #clusterBytes: number;
  readonly #order: number;
  readonly #perBlock: number;
  readonly #blocks: TableCache;
  /** Offset of each block; 0 where all counts are zero. */
  #table: number[];
  #tableOffset: number;
  #tableClusters: number;
  #tableChanged = false;
  #tableMoved = false;
  /** Clusters below this that are free are in `#free`, as far as anyone knows. */
  #cursor = 0;
  readonly #free: number[] = [];
  /** Free, but named by what is on the disk: not to be used before that has changed. */
  readonly #released = new Set<number>();

  private constructor(file: RandomAccessFile, header: Qcow2Header, table: number[]) {
    this.#file = file;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#order = header.refcountOrder;
    this.#perBlock = (this.#clusterBytes * 8) / 2 ** this.#order;
    this.#blocks = new TableCache(file, this.#clusterBytes, CACHED_BLOCKS);
    this.#table = table;
    this.#tableOffset = header.refcountTableOffset;
    this.#tableClusters = header.refcountTableClusters;
  }

  static async open(file: RandomAccessFile, header: Qcow2Header): Promise<Refcounts> {
    const bytes = new Uint8Array(header.refcountTableClusters * 2 ** header.clusterBits);
    await file.readPadded(header.refcountTableOffset, [bytes]);
    const view = new DataView(bytes.buffer);
    const table: number[] = [];
    for (let at = 0; at < bytes.length; at += 8) {
      const offset = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
      if (offset % 2 ** header.clusterBits !== 0) {
        throw new StorageError(
          `${file.path}: refcount block ${at / 8} is at 0x${offset.toString(16)}, expected a cluster`,
        );
      }
      table.push(offset);
    }
    return new Refcounts(file, header, table);
  }

  /** True if something waits to be written. */
  get changed(): boolean {
    return this.#blocks.dirtyCount > 0 || this.#tableChanged || this.#tableMoved;
  }

  async get(cluster: number): Promise<number> {
    const offset = this.#table[Math.floor(cluster / this.#perBlock)] ?? 0;
    return offset === 0 ? 0 : this.#read(await this.#blocks.get(offset), cluster % this.#perBlock);
  }

  /** @returns the new count */
  async change(cluster: number, delta: number): Promise<number> {
    const block = await this.#blockFor(cluster);
    const count = this.#read(block, cluster % this.#perBlock) + delta;
    const most = 2 ** Math.min(2 ** this.#order, 53) - 1;
    if (count < 0 || count > most) {
      throw new StorageError(`${this.#file.path}: cluster ${cluster} would have ${count} users, expected 0 to ${most}`);
    }
    this.#write(block, cluster % this.#perBlock, count);
    if (count === 0) this.#released.add(cluster);
    return count;
  }

  /**
   * Takes clusters that nobody uses, one behind the other.
   * @returns the offset of the first
   */
  async allocate(count = 1): Promise<number> {
    const first = count === 1 ? await this.#findOne() : await this.#findAtEnd(count);
    for (let n = 0; n < count; n++) await this.change(first + n, 1);
    return first * this.#clusterBytes;
  }

  async #findOne(): Promise<number> {
    for (let known = this.#free.pop(); known !== undefined; known = this.#free.pop()) {
      if (await this.#isUnused(known)) return known;
    }
    for (;;) {
      await this.#ensureBlock(this.#cursor);
      const cluster = this.#cursor++;
      if (await this.#isUnused(cluster)) return cluster;
    }
  }

  async #isUnused(cluster: number): Promise<boolean> {
    return !this.#released.has(cluster) && (await this.get(cluster)) === 0;
  }

  /** The clusters that were given up and not recycled so far. */
  get released(): readonly number[] {
    return [...this.#released];
  }

  /** Makes clusters that were given up usable: nothing on the disk names them any more, and nobody reads them. */
  recycle(clusters: readonly number[]): void {
    for (const cluster of clusters) {
      if (this.#released.delete(cluster) && cluster < this.#cursor) this.#free.push(cluster);
    }
  }

  /** Behind everything in the file, so that nothing in use lies between. */
  async #findAtEnd(count: number): Promise<number> {
    let first = Math.max(this.#cursor, Math.ceil(this.#file.sizeBytes / this.#clusterBytes));
    for (let n = 0; n < count; ) {
      await this.#ensureBlock(first + n);
      if (await this.#isUnused(first + n)) n++;
      else {
        first += n + 1;
        n = 0;
      }
    }
    return first;
  }

  async #blockFor(cluster: number): Promise<TableCluster> {
    await this.#ensureBlock(cluster);
    return this.#blocks.get(this.#table[Math.floor(cluster / this.#perBlock)]!);
  }

  /** A block that is missing is put into the first cluster that it counts and nobody uses. */
  async #ensureBlock(cluster: number): Promise<void> {
    const index = Math.floor(cluster / this.#perBlock);
    if (index >= this.#table.length) await this.#growTable(index + 1);
    if (this.#table[index] !== 0) return;
    const offset = index * this.#perBlock * this.#clusterBytes;
    this.#table[index] = offset;
    this.#tableChanged = true;
    this.#write(this.#blocks.create(offset), 0, 1);
  }

  async #growTable(entries: number): Promise<void> {
    const before = { offset: this.#tableOffset, clusters: this.#tableClusters };
    const wanted = Math.max(entries + 1, this.#table.length * 2);
    const clusters = Math.ceil((wanted * 8) / this.#clusterBytes);
    while (this.#table.length < (clusters * this.#clusterBytes) / 8) this.#table.push(0);
    this.#tableClusters = clusters;
    this.#tableOffset = (await this.#findAtEnd(clusters)) * this.#clusterBytes;
    for (let n = 0; n < clusters; n++) await this.change(this.#tableOffset / this.#clusterBytes + n, 1);
    for (let n = 0; n < before.clusters; n++) await this.change(before.offset / this.#clusterBytes + n, -1);
    this.#tableMoved = true;
  }

  #read({ view, bytes }: TableCluster, index: number): number {
    switch (this.#order) {
      case 3:
        return bytes[index]!;
      case 4:
        return view.getUint16(index * 2);
      case 5:
        return view.getUint32(index * 4);
      case 6:
        return view.getUint32(index * 8) * 2 ** 32 + view.getUint32(index * 8 + 4);
      default: {
        const bits = 2 ** this.#order;
        const perByte = 8 / bits;
        return (bytes[Math.floor(index / perByte)]! >>> ((index % perByte) * bits)) & (2 ** bits - 1);
      }
    }
  }

  #write(block: TableCluster, index: number, count: number): void {
    const { view, bytes } = block;
    switch (this.#order) {
      case 3:
        bytes[index] = count;
        break;
      case 4:
        view.setUint16(index * 2, count);
        break;
      case 5:
        view.setUint32(index * 4, count);
        break;
      case 6:
        view.setBigUint64(index * 8, BigInt(count));
        break;
      default: {
        const bits = 2 ** this.#order;
        const perByte = 8 / bits;
        const shift = (index % perByte) * bits;
        const at = Math.floor(index / perByte);
        bytes[at] = (bytes[at]! & ~((2 ** bits - 1) << shift)) | (count << shift);
      }
    }
    this.#blocks.markDirty(block);
  }

  /**
   * Writes what has changed, each step on the disk before the next refers to it: blocks, then the table that names them,
   * then the header that names the table.
   */
  async write(): Promise<void> {
    this.#blocks.trim();
    if (!this.changed) return;
    await this.#blocks.write();
    await this.#file.flush();
    if (!this.#tableChanged && !this.#tableMoved) return;
    this.#tableChanged = false;
    const bytes = new Uint8Array(this.#tableClusters * this.#clusterBytes);
    const view = new DataView(bytes.buffer);
    this.#table.forEach((offset, n) => view.setBigUint64(n * 8, BigInt(offset)));
    await this.#file.write(this.#tableOffset, [bytes]);
    await this.#file.flush();
    if (!this.#tableMoved) return;
    this.#tableMoved = false;
    const field = new Uint8Array(12);
    new DataView(field.buffer).setBigUint64(0, BigInt(this.#tableOffset));
    new DataView(field.buffer).setUint32(8, this.#tableClusters);
    await this.#file.write(HeaderField.refcountTableOffset, [field]);
    await this.#file.flush();
  }
}
