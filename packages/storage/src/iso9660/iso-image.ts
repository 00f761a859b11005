/**
 * A folder of small files as an ISO 9660 disk with Rock Ridge's names, as tools read it that look for a disk by its label.
 * @see ECMA-119; IEEE P1282 (Rock Ridge), "NM" and "PX"; IEEE P1281 (SUSP), "SP"
 */
import type { BlockInfo } from "@xenoserver/devices/block/store.ts";
import { StorageError } from "../error.ts";
import type { DiskSource } from "../images/attached.ts";

const SECTOR_BYTES = 2048;
const PRIMARY_SECTOR = 16;
const L_TABLE_SECTOR = 18;
const M_TABLE_SECTOR = 19;
const ROOT_SECTOR = 20;
const MAX_FILES = 64;
const MAX_NAME_BYTES = 128;
const MAX_BYTES = 64 << 20;
const RECORD_FIXED_BYTES = 33;

export interface IsoOptions {
  /** Up to 32 letters, digits and "_"; others than capitals are kept, as tools look for "cidata" too. */
  readonly label: string;
  /** Of the disk and its files, in seconds since 1970. */
  readonly time?: number;
}

/** In one folder; the files are few and small, so that the disk lies in memory. */
export class IsoImage implements DiskSource {
  readonly info: BlockInfo;
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.info = { sizeBytes: bytes.length, readOnly: true };
  }

  /** @throws StorageError  a name or the label cannot be had, or they are too many bytes */
  static make(files: Readonly<Record<string, Uint8Array | string>>, options: IsoOptions): IsoImage {
    const contents = Object.entries(files).map(([name, data]) => ({ name, data: Buffer.from(data) }));
    check(contents, options);
    return new IsoImage(encode(contents, options));
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    for (const part of into) {
      part.set(this.#bytes.subarray(offset, offset + part.length));
      offset += part.length;
    }
  }

  /** All of the disk. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }
}

interface IsoFile {
  readonly name: string;
  readonly data: Buffer;
}

function check(files: readonly IsoFile[], { label }: IsoOptions): void {
  if (!/^\w{1,32}$/.test(label))
    throw new StorageError(`label is ${JSON.stringify(label)}, expected up to 32 letters, digits and "_"`);
  if (files.length > MAX_FILES)
    throw new StorageError(`disk ${label}: has ${files.length} files, expected ≤ ${MAX_FILES}`);
  const total = files.reduce((sum, { data }) => sum + data.length, 0);
  if (total > MAX_BYTES) throw new StorageError(`disk ${label}: has ${total} bytes, expected ≤ ${MAX_BYTES}`);
  for (const { name } of files)
    if (!/^[\w.-]+$/.test(name) || name.length > MAX_NAME_BYTES || /^\.+$/.test(name))
      throw new StorageError(`disk ${label}: file ${JSON.stringify(name)}, expected letters, digits, "_", "-" and "."`);
}

/** A number with its low byte first, and again with its high byte first. */
function both32(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value, 0);
  bytes.writeUInt32BE(value, 4);
  return bytes;
}

function both16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(value, 0);
  bytes.writeUInt16BE(value, 2);
  return bytes;
}

const sectors = (bytes: number): number => Math.ceil(bytes / SECTOR_BYTES);

function encode(files: readonly IsoFile[], { label, time = 0 }: IsoOptions): Uint8Array {
  const date = new Date(time * 1000);
  // A folder's length is that of its records, whose numbers do not change their length.
  const folderSectors = sectors(
    folder(
      files,
      files.map(() => 0),
      1,
      date,
    ).length,
  );
  let next = ROOT_SECTOR + folderSectors;
  const places = files.map(({ data }) => {
    const at = next;
    next += sectors(data.length);
    return at;
  });
  const disk = Buffer.alloc(next * SECTOR_BYTES);
  const put = (sector: number, bytes: Uint8Array): void => disk.set(bytes, sector * SECTOR_BYTES);
  put(PRIMARY_SECTOR, primaryDescriptor(label, next, folderSectors, date));
  put(PRIMARY_SECTOR + 1, Buffer.from([255, ...Buffer.from("CD001"), 1]));
  put(L_TABLE_SECTOR, pathTable(false));
  put(M_TABLE_SECTOR, pathTable(true));
  put(ROOT_SECTOR, folder(files, places, folderSectors, date));
  files.forEach(({ data }, n) => put(places[n]!, data));
  return disk;
}

function primaryDescriptor(label: string, sectorCount: number, folderSectors: number, date: Date): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  const text = (at: number, length: number, value: string): void =>
    void bytes.write(value.padEnd(length), at, length, "latin1");
  bytes.set([1, ...Buffer.from("CD001"), 1]);
  text(8, 32, "LINUX");
  text(40, 32, label);
  bytes.set(both32(sectorCount), 80);
  bytes.set(both16(1), 120);
  bytes.set(both16(1), 124);
  bytes.set(both16(SECTOR_BYTES), 128);
  bytes.set(both32(pathTable(false).length), 132);
  bytes.writeUInt32LE(L_TABLE_SECTOR, 140);
  bytes.writeUInt32BE(M_TABLE_SECTOR, 148);
  bytes.set(record("\0", ROOT_SECTOR, folderSectors * SECTOR_BYTES, true, date, Buffer.alloc(0)), 156);
  // Names of a set, a publisher, a preparer, an application and three files, none of which is said.
  text(190, 128 * 4 + 37 * 3, "");
  const digits = `${date.toISOString().replaceAll(/\D/g, "").slice(0, 14)}00`;
  for (const at of [813, 830]) bytes.write(digits, at, "latin1");
  for (const at of [847, 864]) bytes.write("0".repeat(16), at, "latin1");
  bytes[881] = 1;
  return bytes;
}

/** The root alone. */
function pathTable(highFirst: boolean): Buffer {
  const bytes = Buffer.alloc(10);
  bytes[0] = 1;
  if (highFirst) {
    bytes.writeUInt32BE(ROOT_SECTOR, 2);
    bytes.writeUInt16BE(1, 6);
  } else {
    bytes.writeUInt32LE(ROOT_SECTOR, 2);
    bytes.writeUInt16LE(1, 6);
  }
  return bytes;
}

/** Records do not cross sectors. */
function folder(files: readonly IsoFile[], places: readonly number[], folderSectors: number, date: Date): Buffer {
  const own = folderSectors * SECTOR_BYTES;
  const present = Buffer.from([...Buffer.from("SP"), 7, 1, 0xbe, 0xef, 0]);
  const isFolder = permissions(0o040755, 2);
  const sorted = files
    .map((file, n) => ({ file, short: shortName(n), place: places[n]! }))
    .sort((a, b) => (a.short < b.short ? -1 : 1));
  const records = [
    record("\0", ROOT_SECTOR, own, true, date, Buffer.concat([present, isFolder])),
    record("\x01", ROOT_SECTOR, own, true, date, isFolder),
    ...sorted.map(({ file, short, place }) =>
      record(
        short,
        place,
        file.data.length,
        false,
        date,
        Buffer.concat([permissions(0o100444, 1), longName(file.name)]),
      ),
    ),
  ];
  const bytes: Buffer[] = [];
  let within = 0;
  for (const one of records) {
    if (within + one.length > SECTOR_BYTES) {
      bytes.push(Buffer.alloc(SECTOR_BYTES - within));
      within = 0;
    }
    bytes.push(one);
    within += one.length;
  }
  return Buffer.concat(bytes);
}

/** What a reader without Rock Ridge sees; nobody is told. */
const shortName = (n: number): string => `F${String(n).padStart(4, "0")}.;1`;

const longName = (name: string): Buffer =>
  Buffer.from([...Buffer.from("NM"), 5 + name.length, 1, 0, ...Buffer.from(name, "latin1")]);

function permissions(mode: number, links: number): Buffer {
  const head = Buffer.from([...Buffer.from("PX"), 36, 1]);
  return Buffer.concat([head, both32(mode), both32(links), both32(0), both32(0)]);
}

function record(
  name: string,
  sector: number,
  sizeBytes: number,
  isFolder: boolean,
  date: Date,
  system: Buffer,
): Buffer {
  const nameBytes = name.length + ((name.length + 1) % 2);
  const length = RECORD_FIXED_BYTES + nameBytes + system.length;
  const bytes = Buffer.alloc(length + (length % 2));
  bytes[0] = bytes.length;
  bytes.set(both32(sector), 2);
  bytes.set(both32(sizeBytes), 10);
  bytes.set(
    [
      date.getUTCFullYear() - 1900,
      date.getUTCMonth() + 1,
      date.getUTCDate(),
      date.getUTCHours(),
      date.getUTCMinutes(),
      date.getUTCSeconds(),
    ],
    18,
  );
  bytes[25] = isFolder ? 2 : 0;
  bytes.set(both16(1), 28);
  bytes[32] = name.length;
  bytes.write(name, 33, "latin1");
  bytes.set(system, RECORD_FIXED_BYTES + nameBytes);
  return bytes;
}
