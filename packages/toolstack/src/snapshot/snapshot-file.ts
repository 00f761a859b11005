/** A snapshot as a place where a domain goes on, or several: at once, with its frames read as they are touched. */
import { closeSync, openSync, readSync } from "node:fs";
import type { DomainMemory } from "@xenoserver/cpu";
import type { DomainConfig } from "../cfg/index.ts";
import { SavedFile, type SavedHeader, SaveError } from "../save/index.ts";
import { RecordReader, type Records, RecordType, type SavedRecord, wordsOf } from "../save/records.ts";
import { fetchFromFile, type SnapshotFramesHandle } from "./frames.ts";
import { HEAD_BYTES, MAGIC, VERSION } from "./head.ts";

/** Its frames, for all domains that go on from there. */
class Frames {
  readonly path: string;
  readonly fd: number;
  /** Made for the first of them. */
  handle: SnapshotFramesHandle | undefined;
  users = 1;

  constructor(path: string) {
    this.path = path;
    this.fd = openSync(path, "r");
  }
  close(): void {
    if (--this.users === 0) closeSync(this.fd);
  }
}

export class SnapshotFile extends SavedFile {
  readonly #frames: Frames;
  #isLoaded = false;

  constructor(header: SavedHeader, config: DomainConfig, records: Records, frames: Frames) {
    super(header, config, records);
    this.#frames = frames;
  }

  static async openSnapshot(path: string): Promise<SnapshotFile> {
    const frames = new Frames(path);
    try {
      const records = await RecordReader.ofFile(path, recordsPlace(path, frames.fd));
      const { header, config } = await SavedFile.begin(records).catch((error: unknown) => {
        records.close();
        throw error;
      });
      return new SnapshotFile(header, config, records, frames);
    } catch (error) {
      frames.close();
      throw error;
    }
  }

  override get frames(): SnapshotFramesHandle | undefined {
    return this.#isLoaded ? this.#frames.handle : undefined;
  }

  override get isCopy(): boolean {
    return true;
  }

  protected override takeSlots(memory: DomainMemory, { payload }: SavedRecord): void {
    const { fd, path, handle } = this.#frames;
    this.#frames.handle = fetchFromFile(memory, wordsOf(payload), { fd, path }, handle);
    this.#isLoaded = true;
  }

  /** Until the domain ends frames are read. */
  override closeFrames(): void {
    this.#frames.close();
  }
}

/** A snapshot that is read once for several domains. */
export class SharedSnapshot {
  readonly #path: string;
  readonly #frames: Frames;
  readonly #records: readonly SavedRecord[];

  private constructor(path: string, frames: Frames, records: readonly SavedRecord[]) {
    this.#path = path;
    this.#frames = frames;
    this.#records = records;
  }

  /** @throws SaveError  the file is damaged, or cannot be read */
  static async open(path: string): Promise<SharedSnapshot> {
    const frames = new Frames(path);
    try {
      const reader = await RecordReader.ofFile(path, recordsPlace(path, frames.fd));
      const records: SavedRecord[] = [];
      try {
        while (records.at(-1)?.type !== RecordType.end) {
          const { type, payload } = await reader.next();
          // In a buffer of its own, it is used as it lies.
          records.push({ type, payload: Buffer.from(new Uint8Array(payload).buffer) });
        }
      } finally {
        reader.close();
      }
      return new SharedSnapshot(path, frames, records);
    } catch (error) {
      frames.close();
      throw error;
    }
  }

  /** For a domain to go on from. @throws SaveError */
  async file(): Promise<SnapshotFile> {
    const records = new ReadRecords(this.#path, this.#records);
    const { header, config } = await SnapshotFile.begin(records);
    this.#frames.users++;
    return new SnapshotFile(header, config, records, this.#frames);
  }

  /** No more domains will go on from it. */
  close(): void {
    this.#frames.close();
  }
}

/** Records that were read before. */
class ReadRecords implements Records {
  readonly name: string;
  readonly #records: readonly SavedRecord[];
  #at = 0;

  constructor(name: string, records: readonly SavedRecord[]) {
    this.name = name;
    this.#records = records;
  }
  async next(): Promise<SavedRecord> {
    return this.#records[this.#at++]!;
  }
  async drain(): Promise<void> {}
  close(): void {}
}

/** True if a file is a snapshot, rather than a saved domain. */
export function isSnapshot(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return false;
  }
  const magic = Buffer.alloc(MAGIC.length);
  readSync(fd, magic, 0, MAGIC.length, 0);
  closeSync(fd);
  return magic.toString("latin1") === MAGIC;
}

/** Where its records are. @throws SaveError */
function recordsPlace(path: string, fd: number): { at: number; lengthBytes: number } {
  const head = Buffer.alloc(HEAD_BYTES);
  if (readSync(fd, head, 0, HEAD_BYTES, 0) < HEAD_BYTES) throw new SaveError(`${path}: ends too early`);
  const version = head.readUInt32LE(8);
  if (version !== VERSION) throw new SaveError(`${path}: has version ${version}, expected ${VERSION}`);
  const [at, lengthBytes] = [head.readBigUInt64LE(16), head.readBigUInt64LE(24)];
  return { at: Number(at), lengthBytes: Number(lengthBytes) };
}
