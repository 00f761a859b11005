/** A file of translated code, to whose end any number of processes add. */
import { closeSync, constants, fstatSync, futimesSync, openSync, writeSync } from "node:fs";
import { type KnownIndex, KnownRegions } from "@xenoserver/cpu/kept/known-regions.ts";
import { handOver } from "@xenoserver/storage/file-owner.ts";
import { isUsersOwn, makeFolderOf, replaceFile } from "../own-file.ts";
import { FoundTranslations } from "./found-translations.ts";
import { type FoundRecord, liveRecords, readBytes, readRegions } from "./live-records.ts";
import {
  decodeHead,
  encodeRecord,
  HEAD_BYTES,
  isHeadWhole,
  type KeptTranslation,
  nowSeconds,
  USED_AT,
} from "./record.ts";
import { removeUnused } from "./unused-files.ts";

/** A file that is larger is written anew. */
export const MAX_FILE_BYTES = 192 * 1024 * 1024;
/** As large as it may be then. */
const KEPT_BYTES = MAX_FILE_BYTES * 0.75;
/** Below this it does not matter how much of a file is out of date. */
const SMALL_BYTES = 4 * 1024 * 1024;
/** That a record is used is not written down again within this time, for processes that start one after the other all use the same. */
const MARKED_SECONDS = 600;

export class TranslationFile {
  readonly path: string;
  /** Stays open: others may have been told of it. */
  readonly fd: number;
  /** The records that count. */
  readonly found: FoundTranslations;
  #index: KnownIndex | undefined;
  /** Where it is added to: another file than that of `fd` once it was written anew. */
  #end: number;
  /** Whether some of it cannot be read, or most of it is out of date. */
  #isWorn: boolean;

  private constructor(path: string, fd: number, end: number) {
    this.path = path;
    this.fd = fd;
    this.#end = end;
    const sizeBytes = fstatSync(fd).size;
    const live = liveRecords(fd);
    const { records, regions } = readRegions(fd, live.records);
    const isWhole = live.isWhole && records.length === live.records.length;
    const liveBytes = records.reduce((sum, { head }) => sum + head.sizeBytes, 0);
    this.#isWorn = !isWhole || (sizeBytes > SMALL_BYTES && liveBytes < sizeBytes / 2);
    this.found = new FoundTranslations(records);
    if (records.length > 0) this.#index = KnownRegions.index(regions, this.found.places);
  }

  /** Opens a file, or makes it. @returns undefined if that cannot be, or it is not this user's alone: what it holds will be run */
  static open(path: string): TranslationFile | undefined {
    try {
      makeFolderOf(path);
      const end = openOwn(path, constants.O_CREAT | constants.O_APPEND);
      if (end === undefined) return undefined;
      if (fstatSync(end).size === 0) removeUnused(path.slice(0, path.lastIndexOf("/")));
      const now = new Date();
      futimesSync(end, now, now);
      // What is written to the other goes to its end, wherever it is meant to go. If that was replaced meanwhile, this is the newer one.
      const fd = openOwn(path);
      if (fd !== undefined) return new TranslationFile(path, fd, end);
      closeSync(end);
      return undefined;
    } catch {
      return undefined;
    }
  }

  /**
   * Adds records at the end; writes all of it anew where it is too large, damaged, or mostly out of date.
   * @param translations  each is written before the next is asked for
   * @param isUsed        whether what has this identity is to stay before others
   * @throws Error  the file system does not take them
   */
  add(translations: Iterable<KeptTranslation>, isUsed: (identity: number) => boolean): void {
    for (const translation of translations) {
      const record = encodeRecord(translation);
      if (!this.#follow()) return;
      if (this.#isWorn || fstatSync(this.#end).size + record.length > MAX_FILE_BYTES) this.#rewrite(record, isUsed);
      else writeSync(this.#end, record);
    }
  }

  /** The regions of what was found, undefined if there are none. Once: whoever takes it has it. */
  takeIndex(): KnownIndex | undefined {
    const index = this.#index;
    this.#index = undefined;
    return index;
  }
  /** A module's regions and own bytes, if they can be read. @param number  of those that were found */
  read(number: number): Omit<KeptTranslation, "code"> | undefined {
    const at = this.found.placeOf(number);
    const head = decodeHead(readBytes(this.fd, at, HEAD_BYTES));
    if (head === undefined) return undefined;
    const { regionsBytes, moduleBytes } = head;
    const bytes = readBytes(this.fd, at + HEAD_BYTES, regionsBytes + moduleBytes);
    if (bytes.length < regionsBytes + moduleBytes) return undefined;
    return { regions: new Int32Array(bytes.buffer, 0, regionsBytes / 4), bytes: bytes.subarray(regionsBytes) };
  }

  /** Notes in the file that a domain has a module now, for whoever writes it anew. @param number  of those that were found */
  markUsed(number: number): void {
    const now = nowSeconds();
    if (now - this.found.usedAt(number) < MARKED_SECONDS) return;
    try {
      writeSync(this.fd, Uint32Array.of(now), 0, 4, this.found.placeOf(number) + USED_AT);
    } catch {
      // A full disk: it may then be thought to be older than it is.
    }
  }

  /** Goes over to the file that this or another process has put in this one's place. @returns whether there is one to add to */
  #follow(): boolean {
    if (fstatSync(this.#end).nlink > 0) return true;
    const end = openOwn(this.path, constants.O_CREAT | constants.O_APPEND);
    if (end === undefined) return false;
    closeSync(this.#end);
    this.#end = end;
    this.#isWorn = false;
    return true;
  }

  /** Writes what is in the file now, also by others, as large as it may be, and a record more. */
  #rewrite(more: Uint8Array, isUsed: (identity: number) => boolean): void {
    const end = this.#end;
    const { records } = liveRecords(end);
    const usedAt = ({ head }: FoundRecord): number => (isUsed(head.identity) ? Number.POSITIVE_INFINITY : head.usedAt);
    const kept: FoundRecord[] = [];
    let left = KEPT_BYTES - more.length;
    for (const record of [...records].sort((a, b) => order(usedAt(b), usedAt(a)) || b.at - a.at)) {
      if (record.head.sizeBytes > left) continue;
      left -= record.head.sizeBytes;
      kept.push(record);
    }
    kept.sort((a, b) => a.at - b.at);
    replaceFile(
      this.path,
      (function* () {
        for (const { at, head } of kept) {
          const record = readBytes(end, at, head.sizeBytes);
          if (isHeadWhole(head, record)) yield record;
        }
        yield more;
      })(),
    );
  }
}

/** Opens a file for reading and writing. @returns undefined if others may write it @throws Error  it cannot be opened */
function openOwn(path: string, how = 0): number | undefined {
  const fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | how, 0o600);
  // Nobody else can have it open: it was made just now.
  if (how !== 0 && fstatSync(fd).uid === process.getuid?.()) handOver(path);
  if (isUsersOwn(fstatSync(fd))) return fd;
  closeSync(fd);
  return undefined;
}

const order = (a: number, b: number): number => (a === b ? 0 : a - b);
