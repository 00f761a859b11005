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
  readonly #sizeBytes: number;
  /** Whether some of it cannot be read. */
  readonly #isDamaged: boolean;
  #addedBytes = 0;
  /** Others have another file then: what this process has still to add would be for nobody. */
  #isReplaced = false;

  private constructor(path: string, fd: number, sizeBytes: number) {
    this.path = path;
    this.fd = fd;
    this.#sizeBytes = sizeBytes;
    const byIdentity = new Map<number, ReadTranslation>();
    let at = 0;
    for (const record of records(fd, sizeBytes)) {
      at = record.at + record.head.sizeBytes;
      byIdentity.delete(record.head.identity);
      byIdentity.set(record.head.identity, record);
    }
    this.#isDamaged = at !== sizeBytes;
    const read = [...byIdentity.values()];
    this.#known = read.map(({ at: begins, regions }) => ({ at: begins, regions }));
    this.found = read.map(({ at: begins, head }) => ({ at: begins, head }));
  }

  /** Opens a file, or makes it. @returns undefined if that cannot be, or it is not this user's alone: what it holds will be run */
  static open(path: string): TranslationFile | undefined {
    try {
      makeFolderOf(path);
      const fd = openSync(
        path,
        constants.O_RDWR | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW,
        0o600,
      );
      // Nobody else can have it open: it was made just now.
      if (fstatSync(fd).uid === process.getuid?.()) handOver(path);
      const found = fstatSync(fd);
      if (isUsersOwn(found)) {
        if (found.size === 0) removeUnused(path.slice(0, path.lastIndexOf("/")));
        const now = new Date();
        futimesSync(fd, now, now);
        return new TranslationFile(path, fd, found.size);
      }
      closeSync(fd);
      return undefined;
    } catch {
      return undefined;
    }
  }

  /**
   * Adds records at the end, or writes all of it anew where it is too large, damaged, or mostly out of date; after that it adds nothing more.
   * @param isUsed  whether a record that was found is to stay before others
   * @throws Error  the file system does not take them
   */
  add(translations: readonly KeptTranslation[], isUsed: (found: FoundTranslation) => boolean): void {
    if (this.#isReplaced) return;
    const records = translations.map(encodeRecord);
    const sizeBytes = records.reduce((sum, { length }) => sum + length, 0);
    if (sizeBytes === 0) return;
    if (this.#isWorn(sizeBytes)) return this.#rewrite(records, isUsed);
    writeSync(this.fd, Buffer.concat(records));
    this.#addedBytes += sizeBytes;
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

  #isWorn(moreBytes: number): boolean {
    const live = this.found.reduce((sum, { head }) => sum + head.sizeBytes, 0);
    const all = this.#sizeBytes + this.#addedBytes + moreBytes;
    return this.#isDamaged || all > MAX_FILE_BYTES || (this.#sizeBytes > SMALL_BYTES && live < this.#sizeBytes / 2);
  }

  #rewrite(more: readonly Uint8Array[], isUsed: (found: FoundTranslation) => boolean): void {
    this.#isReplaced = true;
    const newest = [...this.found].reverse();
    const chosen = [...newest.filter(isUsed), ...newest.filter((record) => !isUsed(record))];
    const kept: FoundTranslation[] = [];
    let left = MAX_FILE_BYTES / 2 - more.reduce((sum, { length }) => sum + length, 0);
    for (const record of chosen) {
      if (record.head.sizeBytes > left) continue;
      left -= record.head.sizeBytes;
      kept.push(record);
    }
    kept.sort((a, b) => a.at - b.at);
    const { fd } = this;
    replaceFile(
      this.path,
      (function* () {
        for (const { at, head } of kept) yield readBytes(fd, at, head.sizeBytes);
        yield* more;
      })(),
    );
  }
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
