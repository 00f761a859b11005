/** A file of translated code, to whose end any number of processes add. */
import { closeSync, constants, fstatSync, futimesSync, openSync, writeSync } from "node:fs";
import { areRegions } from "@xenoserver/cpu/kept/described.ts";
import type { KnownModule } from "@xenoserver/cpu/kept/known-regions.ts";
import { handOver } from "@xenoserver/storage/file-owner.ts";
import { isUsersOwn, makeFolderOf, replaceFile } from "../own-file.ts";
import { readInto } from "../read-into.ts";
import { decodeHead, encodeRecord, HEAD_BYTES, isHeadWhole, type KeptTranslation, type RecordHead } from "./record.ts";
import { removeUnused } from "./unused-files.ts";

/** A file that is larger is written anew, half as large. */
export const MAX_FILE_BYTES = 96 * 1024 * 1024;
/** Below this it does not matter how much of a file is out of date. */
const SMALL_BYTES = 4 * 1024 * 1024;
/** What is read at first of a record: mostly its head and regions. */
const GUESS_BYTES = 16 * 1024;

/** A record as it was found. */
export interface FoundTranslation {
  readonly at: number;
  readonly head: RecordHead;
}
interface ReadTranslation extends FoundTranslation {
  readonly regions: Int32Array;
}

export class TranslationFile {
  readonly path: string;
  /** Stays open: others may have been told of it. */
  readonly fd: number;
  /** The records that count, in the order in which they were written. */
  readonly found: readonly FoundTranslation[];
  #known: readonly KnownModule[];
  /** Where it is added to: another file than that of `fd` once it was written anew. */
  #end: number;
  /** Whether some of it cannot be read, or most of it is out of date. */
  #isWorn: boolean;

  private constructor(path: string, fd: number, sizeBytes: number) {
    this.path = path;
    this.fd = fd;
    this.#end = fd;
    const { live, isWhole } = liveRecords(fd, sizeBytes);
    const liveBytes = live.reduce((sum, { head }) => sum + head.sizeBytes, 0);
    this.#isWorn = !isWhole || (sizeBytes > SMALL_BYTES && liveBytes < sizeBytes / 2);
    this.#known = live.map(({ at, regions }) => ({ at, regions }));
    this.found = live.map(({ at, head }) => ({ at, head }));
  }

  /** Opens a file, or makes it. @returns undefined if that cannot be, or it is not this user's alone: what it holds will be run */
  static open(path: string): TranslationFile | undefined {
    try {
      makeFolderOf(path);
      const opened = openToAdd(path);
      if (opened === undefined) return undefined;
      const { fd, sizeBytes } = opened;
      if (sizeBytes === 0) removeUnused(path.slice(0, path.lastIndexOf("/")));
      const now = new Date();
      futimesSync(fd, now, now);
      return new TranslationFile(path, fd, sizeBytes);
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

  /** What `found` knows, for an index. Once: it is some ten megabytes in a large file, and in the index then. */
  takeKnown(): readonly KnownModule[] {
    const known = this.#known;
    this.#known = [];
    return known;
  }
  /** A module's regions and own bytes, if they can be read. */
  read({ at, head: { regionsBytes, moduleBytes } }: FoundTranslation): Omit<KeptTranslation, "code"> | undefined {
    const bytes = readBytes(this.fd, at + HEAD_BYTES, regionsBytes + moduleBytes);
    if (bytes.length < regionsBytes + moduleBytes) return undefined;
    return { regions: new Int32Array(bytes.buffer, 0, regionsBytes / 4), bytes: bytes.subarray(regionsBytes) };
  }

  /** Goes over to the file that this or another process has put in this one's place. @returns whether there is one to add to */
  #follow(): boolean {
    if (fstatSync(this.#end).nlink > 0) return true;
    const opened = openToAdd(this.path);
    if (opened === undefined) return false;
    if (this.#end !== this.fd) closeSync(this.#end);
    this.#end = opened.fd;
    this.#isWorn = false;
    return true;
  }

  /** Writes what is in the file now, also by others, half as large as it may be, and a record more. */
  #rewrite(more: Uint8Array, isUsed: (identity: number) => boolean): void {
    const end = this.#end;
    const newest = liveRecords(end, fstatSync(end).size).live.reverse();
    const isWanted = ({ head }: FoundTranslation) => isUsed(head.identity);
    const kept: FoundTranslation[] = [];
    let left = MAX_FILE_BYTES / 2 - more.length;
    for (const record of [...newest.filter(isWanted), ...newest.filter((found) => !isWanted(found))]) {
      if (record.head.sizeBytes > left) continue;
      left -= record.head.sizeBytes;
      kept.push(record);
    }
    kept.sort((a, b) => a.at - b.at);
    replaceFile(
      this.path,
      (function* () {
        for (const { at, head } of kept) yield readBytes(end, at, head.sizeBytes);
        yield more;
      })(),
    );
  }
}

/** Opens a file for reading and for adding to its end, or makes it. @returns undefined if others may write it @throws Error  it cannot be opened */
function openToAdd(path: string): { readonly fd: number; readonly sizeBytes: number } | undefined {
  const { O_RDWR, O_CREAT, O_APPEND, O_NOFOLLOW } = constants;
  const fd = openSync(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
  // Nobody else can have it open: it was made just now.
  if (fstatSync(fd).uid === process.getuid?.()) handOver(path);
  const found = fstatSync(fd);
  if (isUsersOwn(found)) return { fd, sizeBytes: found.size };
  closeSync(fd);
  return undefined;
}

/** The records of a file that count: of each module the last, in the order in which they were written. */
function liveRecords(fd: number, sizeBytes: number): { live: ReadTranslation[]; isWhole: boolean } {
  const byIdentity = new Map<number, ReadTranslation>();
  let end = 0;
  for (const record of records(fd, sizeBytes)) {
    end = record.at + record.head.sizeBytes;
    byIdentity.delete(record.head.identity);
    byIdentity.set(record.head.identity, record);
  }
  return { live: [...byIdentity.values()], isWhole: end === sizeBytes };
}

function* records(fd: number, sizeBytes: number): Generator<ReadTranslation> {
  // One for all: a new one for each record would be held until the collector comes.
  const room = new Uint8Array(GUESS_BYTES);
  for (let at = 0; at < sizeBytes; ) {
    let bytes: Uint8Array = room.subarray(0, readInto(fd, room.subarray(0, sizeBytes - at), at));
    const head = decodeHead(bytes);
    if (head === undefined || at + head.sizeBytes > sizeBytes) return;
    const known = HEAD_BYTES + head.regionsBytes;
    if (bytes.length < known) bytes = readBytes(fd, at, known);
    if (!isHeadWhole(head, bytes)) return;
    const regions = new Int32Array(bytes.slice(HEAD_BYTES, known).buffer);
    if (areRegions(regions)) yield { at, head, regions };
    at += head.sizeBytes;
  }
}

/** @returns as many as there are */
function readBytes(fd: number, at: number, sizeBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(sizeBytes);
  return bytes.subarray(0, readInto(fd, bytes, at));
}
