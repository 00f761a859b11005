/** From an offset in the disk to a cluster in the file: the L1 table, and the L2 tables that it names. */
import { StorageError } from "../error.ts";
import type { RandomAccessFile } from "../raw/file.ts";
import { type CompressedExtent, compressedExtent } from "./compressed.ts";
import type { Qcow2Header } from "./header.ts";
import type { Refcounts } from "./refcounts.ts";
import { TableCache, type TableCluster } from "./tables.ts";

/** Bit 63: nobody else uses the cluster, so it may be written in place. */
const COPIED = 0x80000000;
const COMPRESSED = 0x40000000;
const OFFSET_HIGH_MASK = 0x00ffffff;
const ZERO = 1;

const CACHED_TABLES = 128;

export type Cluster =
  /** Nothing here: the backing file shows through. */
  | { readonly kind: "absent" }
  /** Reads as zeros; a host cluster may be kept for it. */
  | { readonly kind: "zero"; readonly offset?: number; readonly own: boolean }
  | { readonly kind: "data"; readonly offset: number; readonly own: boolean }
  | { readonly kind: "compressed"; readonly extent: CompressedExtent };

export class Mapping {
  readonly #file: RandomAccessFile;
  readonly #header: Qcow2Header;
  readonly #clusterBytes: number;
  readonly #perTable: number;
  /** Pairs of words as in the file. */
  #l1: DataView;
  #l1Offset: number;
  readonly #l2: TableCache;
  readonly #l1Dirty = new Set<number>();

  private constructor(file: RandomAccessFile, header: Qcow2Header, l1: Uint8Array) {
    this.#file = file;
    this.#header = header;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#perTable = this.#clusterBytes / 8;
    this.#l1 = new DataView(l1.buffer);
    this.#l1Offset = header.l1Offset;
    this.#l2 = new TableCache(file, this.#clusterBytes, CACHED_TABLES);
  }

  static async open(file: RandomAccessFile, header: Qcow2Header): Promise<Mapping> {
    const l1 = new Uint8Array(header.l1Entries * 8);
    await file.readPadded(header.l1Offset, [l1]);
    return new Mapping(file, header, l1);
  }

  get isOverfull(): boolean {
    return this.#l2.isOverfull;
  }

  /** Forgets what can be read again; called by one at a time, as `set`. */
  trim(): void {
    this.#l2.trim();
  }

  get dirtyTables(): number {
    return this.#l2.dirtyCount;
  }

  /** @param index  of the cluster in the disk */
  async lookup(index: number): Promise<Cluster> {
    const table = await this.#table(index);
    return table === undefined ? { kind: "absent" } : this.#decode(table, index);
  }

  #l1Entry(index: number): { offset: number; own: boolean } {
    const at = Math.floor(index / this.#perTable) * 8;
    const high = this.#l1.getUint32(at);
    const offset = (high & OFFSET_HIGH_MASK) * 2 ** 32 + this.#l1.getUint32(at + 4);
    if (offset % this.#clusterBytes !== 0) this.#corrupt(`L1 entry ${at / 8}`, offset);
    return { offset, own: high >>> 31 === 1 };
  }

  async #table(index: number): Promise<TableCluster | undefined> {
    const { offset } = this.#l1Entry(index);
    return offset === 0 ? undefined : this.#l2.get(offset);
  }

  #decode({ view }: TableCluster, index: number): Cluster {
    const at = (index % this.#perTable) * 8;
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    if ((high & COMPRESSED) !== 0)
      return { kind: "compressed", extent: compressedExtent(high, low, this.#header.clusterBits) };
    const isZero = this.#header.version === 3 && (low & ZERO) !== 0;
    const offset = (high & OFFSET_HIGH_MASK) * 2 ** 32 + (isZero ? low - ZERO : low);
    if (offset % this.#clusterBytes !== 0) this.#corrupt(`L2 entry of cluster ${index}`, offset);
    const own = (high & COPIED) !== 0;
    if (isZero) return offset === 0 ? { kind: "zero", own: false } : { kind: "zero", offset, own };
    return offset === 0 ? { kind: "absent" } : { kind: "data", offset, own };
  }

  #corrupt(what: string, offset: number): never {
    throw new StorageError(
      `${this.#file.path}: ${what} is 0x${offset.toString(16)}, expected a multiple of ${this.#clusterBytes}`,
    );
  }

  /** Lets a cluster of the disk be this one from now on. Called by one at a time, as all below. */
  async set(index: number, cluster: Cluster, refcounts: Refcounts): Promise<void> {
    const table = await this.#ownTable(index, refcounts);
    const at = (index % this.#perTable) * 8;
    const offset = cluster.kind === "data" || cluster.kind === "zero" ? (cluster.offset ?? 0) : 0;
    const own = offset === 0 ? 0 : COPIED;
    table.view.setUint32(at, (Math.floor(offset / 2 ** 32) | own) >>> 0);
    table.view.setUint32(at + 4, (offset % 2 ** 32) + (cluster.kind === "zero" ? ZERO : 0));
    this.#l2.markDirty(table);
  }

  /** The L2 table of a cluster, made if it is missing and copied if a snapshot uses it too. */
  async #ownTable(index: number, refcounts: Refcounts): Promise<TableCluster> {
    const { offset, own } = this.#l1Entry(index);
    if (offset !== 0 && own) return this.#l2.get(offset);
    const content = offset === 0 ? undefined : (await this.#l2.get(offset)).bytes.slice();
    const fresh = await refcounts.allocate();
    const table = this.#l2.create(fresh, content);
    if (offset !== 0) await refcounts.change(offset / this.#clusterBytes, -1);
    const at = Math.floor(index / this.#perTable) * 8;
    this.#l1.setUint32(at, (Math.floor(fresh / 2 ** 32) | COPIED) >>> 0);
    this.#l1.setUint32(at + 4, fresh % 2 ** 32);
    this.#l1Dirty.add(at);
    return table;
  }

  /**
   * Makes room for clusters up to `count`. What was changed before has to be written, and what this changes has to be, too.
   * @returns what the header has to say of the L1 table then, and what gives the old one's clusters back behind that; undefined
   *          if the table is long enough
   */
  async grow(
    count: number,
    refcounts: Refcounts,
  ): Promise<{ entries: number; offset: number; release: () => Promise<void> } | undefined> {
    const entries = Math.ceil(count / this.#perTable);
    const before = this.#l1.byteLength / 8;
    if (entries <= before) return undefined;
    const clusters = (n: number): number => Math.ceil((n * 8) / this.#clusterBytes);
    const bytes = new Uint8Array(clusters(entries) * this.#clusterBytes);
    bytes.set(new Uint8Array(this.#l1.buffer));
    const offset = await refcounts.allocate(clusters(entries));
    await this.#file.write(offset, [bytes]);
    const first = this.#l1Offset / this.#clusterBytes;
    const release = async (): Promise<void> => {
      for (let n = 0; n < clusters(before); n++) await refcounts.change(first + n, -1);
    };
    this.#l1 = new DataView(bytes.buffer, 0, entries * 8);
    this.#l1Offset = offset;
    return { entries, offset, release };
  }

  /** Writes what has changed: tables are on the disk before L1 names them. What they name must be there already. */
  async write(): Promise<void> {
    const wrote = await this.#l2.write();
    if (this.#l1Dirty.size === 0) return;
    if (wrote) await this.#file.flush();
    const changed = [...this.#l1Dirty];
    this.#l1Dirty.clear();
    for (const at of changed) {
      const entry = new Uint8Array(this.#l1.buffer as ArrayBuffer, at, 8);
      await this.#file.write(this.#l1Offset + at, [entry]);
    }
  }
}
