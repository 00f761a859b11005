/**
 * A disk in a qcow2 image, for reading and writing.
 *
 * Data goes to its cluster at once; tables are changed in memory and written by `flush`, in an order that keeps the file
 * consistent wherever it stops: counts of users, then the tables that use, then what names those tables, each on the disk
 * before the next. A crash loses what was not flushed, and may leave clusters that nobody uses, but no cluster that two use.
 */
import { dirname, isAbsolute, join } from "node:path";
import { type BlockInfo, type BlockStore, totalBytes } from "@xenoserver/devices/block/store.ts";
import { fillBuffers, joinBuffers, sliceBuffers, zeroBuffers } from "../buffers.ts";
import { StorageError } from "../error.ts";
import { Mutex } from "../mutex.ts";
import { RandomAccessFile } from "../raw/file.ts";
import { readCompressed } from "./compressed.ts";
import { HEADER_ROOM, HeaderField, parseHeader, type Qcow2Header } from "./header.ts";
import { type Cluster, Mapping } from "./mapping.ts";
import { Refcounts } from "./refcounts.ts";

export interface Qcow2Options {
  readonly readOnly: boolean;
  /**
   * Opens the image behind this one, read-only.
   * @param path    absolute, or as the image has it if that is no path
   * @param format  as the image has it; undefined if it says nothing
   */
  readonly openBacking: (path: string, format: string | undefined) => Promise<BlockStore>;
}

/** So many changed tables are kept before they are written without being asked for. */
const MAX_DIRTY_TABLES = 64;

/** What one I/O covers: clusters that follow one another in the disk and in the file. */
interface Run {
  /** In the request. */
  readonly start: number;
  lengthBytes: number;
  readonly cluster: Cluster;
  /** Offset in the disk. */
  readonly at: number;
}

export class Qcow2Store implements BlockStore {
  readonly #file: RandomAccessFile;
  readonly #header: Qcow2Header;
  readonly #clusterBytes: number;
  readonly #mapping: Mapping;
  readonly #refcounts: Refcounts;
  readonly #backing: BlockStore | undefined;
  #sizeBytes: number;
  readonly #changing = new Mutex();
  readonly #inFlight = new Set<Promise<void>>();

  private constructor(
    file: RandomAccessFile,
    header: Qcow2Header,
    mapping: Mapping,
    refcounts: Refcounts,
    backing: BlockStore | undefined,
  ) {
    this.#file = file;
    this.#header = header;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#mapping = mapping;
    this.#refcounts = refcounts;
    this.#backing = backing;
    this.#sizeBytes = header.sizeBytes;
  }

  /** @throws StorageError  it is no qcow2 image, damaged, of a kind that cannot be used, or its backing file is */
  static async open(path: string, options: Qcow2Options): Promise<Qcow2Store> {
    const file = await RandomAccessFile.open(path, { readOnly: options.readOnly, exclusive: !options.readOnly });
    let backing: BlockStore | undefined;
    try {
      const start = new Uint8Array(Math.min(HEADER_ROOM, file.sizeBytes));
      await file.read(0, [start]);
      const header = parseHeader(start, file.sizeBytes, path);
      if (!options.readOnly) await prepareForWriting(file, header);
      if (header.backingFile !== undefined) {
        backing = await options.openBacking(backingPath(path, header.backingFile), header.backingFormat);
      }
      const [mapping, refcounts] = await Promise.all([Mapping.open(file, header), Refcounts.open(file, header)]);
      return new Qcow2Store(file, header, mapping, refcounts, backing);
    } catch (error) {
      await backing?.close();
      await file.close();
      throw error;
    }
  }

  get info(): BlockInfo {
    const sizeBytes = this.#sizeBytes - (this.#sizeBytes % 512);
    return { sizeBytes, readOnly: this.#file.readOnly, discardGranularityBytes: this.#clusterBytes };
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    await this.#entered(async () => {
      const runs = await this.#runs(offset, totalBytes(into));
      await Promise.all(runs.map((run) => this.#readRun(run, sliceBuffers(into, run.start, run.lengthBytes))));
    });
  }

  /** Runs an operation that may hold on to clusters while they are given up. */
  async #entered(body: () => Promise<void>): Promise<void> {
    const running = body();
    this.#inFlight.add(running);
    try {
      await running;
    } finally {
      this.#inFlight.delete(running);
    }
    if (this.#mapping.isOverfull) await this.#changing.run(async () => this.#mapping.trim());
  }

  async #runs(offset: number, lengthBytes: number): Promise<Run[]> {
    const runs: Run[] = [];
    for (let start = 0; start < lengthBytes; ) {
      const at = offset + start;
      const count = Math.min(lengthBytes - start, this.#clusterBytes - (at % this.#clusterBytes));
      const cluster = await this.#mapping.lookup(Math.floor(at / this.#clusterBytes));
      const last = runs.at(-1);
      if (last !== undefined && continues(last, cluster, this.#clusterBytes)) last.lengthBytes += count;
      else runs.push({ start, lengthBytes: count, cluster, at });
      start += count;
    }
    return runs;
  }

  async #readRun({ cluster, at }: Run, into: readonly Uint8Array[]): Promise<void> {
    const within = at % this.#clusterBytes;
    switch (cluster.kind) {
      case "data":
        return this.#file.readPadded(cluster.offset + within, into);
      case "zero":
        return zeroBuffers(into);
      case "compressed": {
        const { compression } = this.#header;
        const bytes = await readCompressed(this.#file, cluster.extent, this.#clusterBytes, compression);
        return fillBuffers(into, bytes.subarray(within));
      }
      case "absent":
        return this.#readBacking(at, into);
    }
  }

  /** A backing file may be shorter than the disk; behind its end there are zeros. */
  async #readBacking(at: number, into: readonly Uint8Array[]): Promise<void> {
    const wanted = totalBytes(into);
    const there = Math.max(0, Math.min(wanted, (this.#backing?.info.sizeBytes ?? 0) - at));
    if (there < wanted) zeroBuffers(sliceBuffers(into, there, wanted - there));
    if (there > 0) await this.#backing!.read(at, there === wanted ? into : sliceBuffers(into, 0, there));
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    await this.#entered(async () => {
      const runs = await this.#runs(offset, totalBytes(from));
      if (runs.every(({ cluster }) => cluster.kind === "data" && cluster.own)) {
        await Promise.all(runs.map((run) => this.#writeInPlace(run, from)));
      } else {
        await this.#changing.run(() => this.#writeChanging(offset, from));
      }
    });
    if (this.#mapping.dirtyTables > MAX_DIRTY_TABLES) await this.#changing.run(() => this.#writeTables());
  }

  #writeInPlace({ cluster, at, start, lengthBytes }: Run, from: readonly Uint8Array[]): Promise<void> {
    const target = (cluster as { offset: number }).offset + (at % this.#clusterBytes);
    return this.#file.write(target, sliceBuffers(from, start, lengthBytes));
  }

  /** Writes clusters that have to be found a place. Looks again, as another may have found one meanwhile. */
  async #writeChanging(offset: number, from: readonly Uint8Array[]): Promise<void> {
    const lengthBytes = totalBytes(from);
    for (let start = 0; start < lengthBytes; ) {
      const at = offset + start;
      const index = Math.floor(at / this.#clusterBytes);
      const cluster = await this.#mapping.lookup(index);
      const count = Math.min(lengthBytes - start, this.#clusterBytes - (at % this.#clusterBytes));
      const run: Run = { start, lengthBytes: count, cluster, at };
      if (cluster.kind === "data" && cluster.own) {
        await this.#writeInPlace(run, from);
        start += count;
        continue;
      }
      const whole = count === this.#clusterBytes ? this.#wholeClusters(lengthBytes - start) : 0;
      start += whole > 1 ? await this.#writeFresh(index, whole, start, from) : await this.#writeOne(run, index, from);
    }
  }

  #wholeClusters(lengthBytes: number): number {
    return Math.floor(lengthBytes / this.#clusterBytes);
  }

  /** A cluster of which perhaps only a part is written: the rest is what was there before. */
  async #writeOne(run: Run, index: number, from: readonly Uint8Array[]): Promise<number> {
    const { cluster, at, start, lengthBytes } = run;
    const bytes = new Uint8Array(this.#clusterBytes);
    if (lengthBytes < this.#clusterBytes) {
      const begin = index * this.#clusterBytes;
      await this.#readRun({ start: 0, lengthBytes: this.#clusterBytes, cluster, at: begin }, [bytes]);
    }
    bytes.set(joinBuffers(sliceBuffers(from, start, lengthBytes), lengthBytes), at % this.#clusterBytes);
    const keeps = cluster.kind === "zero" && cluster.offset !== undefined && cluster.own;
    const offset = keeps ? cluster.offset! : await this.#refcounts.allocate();
    await this.#file.write(offset, [bytes]);
    await this.#mapping.set(index, { kind: "data", offset, own: true }, this.#refcounts);
    if (!keeps) await this.#letGo(cluster);
    return lengthBytes;
  }

  /** Whole clusters: as many as follow one another in the file go out together. */
  async #writeFresh(index: number, count: number, start: number, from: readonly Uint8Array[]): Promise<number> {
    const before: Cluster[] = [];
    const first = await this.#refcounts.allocate();
    before.push(await this.#mapping.lookup(index));
    let run = 1;
    let spare: number | undefined;
    while (run < count) {
      const cluster = await this.#mapping.lookup(index + run);
      if (cluster.kind === "data" && cluster.own) break;
      const next = await this.#refcounts.allocate();
      if (next !== first + run * this.#clusterBytes) {
        spare = next;
        break;
      }
      before.push(cluster);
      run++;
    }
    if (spare !== undefined) await this.#refcounts.change(spare / this.#clusterBytes, -1);
    await this.#file.write(first, sliceBuffers(from, start, run * this.#clusterBytes));
    for (let n = 0; n < run; n++) {
      const offset = first + n * this.#clusterBytes;
      await this.#mapping.set(index + n, { kind: "data", offset, own: true }, this.#refcounts);
      await this.#letGo(before[n]!);
    }
    return run * this.#clusterBytes;
  }

  /** Notes that one user of a cluster is gone. */
  async #letGo(cluster: Cluster): Promise<void> {
    if (cluster.kind === "compressed") {
      const { offset, lengthBytes } = cluster.extent;
      const first = Math.floor(offset / this.#clusterBytes);
      const last = Math.floor((offset + lengthBytes - 1) / this.#clusterBytes);
      for (let n = first; n <= last; n++) await this.#refcounts.change(n, -1);
    } else if (cluster.kind !== "absent" && cluster.offset !== undefined) {
      await this.#refcounts.change(cluster.offset / this.#clusterBytes, -1);
    }
  }

  /** Only whole clusters are given back; before version 3 there was no way to hide a backing file's bytes. */
  async discard(offset: number, lengthBytes: number): Promise<void> {
    const first = Math.ceil(offset / this.#clusterBytes);
    const end = Math.floor((offset + lengthBytes) / this.#clusterBytes);
    if (this.#backing !== undefined && this.#header.version === 2) return;
    await this.#changing.run(async () => {
      for (let index = first; index < end; index++) {
        const cluster = await this.#mapping.lookup(index);
        const gone: Cluster = this.#backing === undefined ? { kind: "absent" } : { kind: "zero", own: false };
        if (cluster.kind === gone.kind && !("offset" in cluster)) continue;
        await this.#mapping.set(index, gone, this.#refcounts);
        await this.#letGo(cluster);
      }
    });
  }

  async flush(): Promise<void> {
    if (this.#file.readOnly) return;
    await this.#changing.run(() => this.#writeTables());
    await this.#file.flush();
  }

  async #writeTables(): Promise<void> {
    if (this.#mapping.dirtyTables === 0 && !this.#refcounts.changed) return;
    // Data is on the disk before a table says so: after a crash, a new cluster must not show what was there before.
    if (this.#refcounts.changed) await this.#refcounts.write();
    else await this.#file.flush();
    await this.#mapping.write();
    await this.#file.flush();
    const { released } = this.#refcounts;
    if (released.length === 0) return;
    // Who began before still reads clusters that it found in the tables as they were.
    void Promise.allSettled([...this.#inFlight]).then(() => this.#refcounts.recycle(released));
  }

  /** Makes the disk longer; what is new is zero. @throws StorageError  it would become shorter, or too long */
  async grow(sizeBytes: number): Promise<void> {
    if (sizeBytes < this.#sizeBytes || sizeBytes % 512 !== 0 || !Number.isSafeInteger(sizeBytes)) {
      const expected = `a multiple of 512 from ${this.#sizeBytes} up`;
      throw new StorageError(`${this.#file.path}: new size is ${sizeBytes} bytes, expected ${expected}`);
    }
    if ((this.#backing?.info.sizeBytes ?? 0) > this.#sizeBytes) {
      throw new StorageError(`${this.#file.path}: is shorter than its backing file, which would show behind its end`);
    }
    await this.#changing.run(async () => {
      await this.#writeTables();
      const l1 = await this.#mapping.grow(Math.ceil(sizeBytes / this.#clusterBytes), this.#refcounts);
      // Counts and the new table are on the disk before the header names them; the old one is given back behind that.
      await this.#refcounts.write();
      const field = new DataView(new ArrayBuffer(12));
      if (l1 !== undefined) {
        field.setUint32(0, l1.entries);
        field.setBigUint64(4, BigInt(l1.offset));
        await this.#file.write(HeaderField.l1Entries, [new Uint8Array(field.buffer)]);
      }
      field.setBigUint64(0, BigInt(sizeBytes));
      await this.#file.write(HeaderField.size, [new Uint8Array(field.buffer, 0, 8)]);
      await this.#file.flush();
      await l1?.release();
      this.#sizeBytes = sizeBytes;
    });
  }

  async close(): Promise<void> {
    await this.flush().catch(() => {});
    await this.#file.close();
    await this.#backing?.close();
  }
}

function continues({ cluster, at, lengthBytes }: Run, next: Cluster, clusterBytes: number): boolean {
  if (cluster.kind === "data" && next.kind === "data") {
    return cluster.own === next.own && next.offset === cluster.offset + (at % clusterBytes) + lengthBytes;
  }
  return cluster.kind === next.kind && (cluster.kind === "absent" || cluster.kind === "zero");
}

/** Relative names are relative to the image that has them. */
function backingPath(image: string, name: string): string {
  const path = name.replace(/^file:/, "");
  if (/^[a-z][a-z0-9+.-]*:/i.test(path))
    throw new StorageError(`${image}: has the backing file ${name}, expected a path`);
  return isAbsolute(path) ? path : join(dirname(image), path);
}

/** @throws StorageError  what the file says of itself cannot be relied upon */
async function prepareForWriting(file: RandomAccessFile, header: Qcow2Header): Promise<void> {
  if (header.corrupt)
    throw new StorageError(`${file.path}: is marked corrupt, expected an image that qemu-img check finds right`);
  if (header.dirty) {
    throw new StorageError(`${file.path}: was not closed by its last user, repair it with qemu-img check -r all`);
  }
  // Features that say "this describes the data" do not, once somebody who knows nothing of them has written.
  if (header.version === 3) await file.write(HeaderField.autoclear, [new Uint8Array(8)]);
}
