/** A snapshot as a place where a domain goes on: at once, with its frames read as they are touched. */
import { closeSync, openSync, readSync } from "node:fs";
import type { DomainMemory } from "@xenoserver/cpu";
import type { DomainConfig } from "../cfg/index.ts";
import { SavedFile, type SavedHeader, SaveError } from "../save/index.ts";
import { RecordReader, type SavedRecord } from "../save/records.ts";
import { fetchFromFile, type SnapshotFramesHandle } from "./frames.ts";
import { HEAD_BYTES, MAGIC, VERSION } from "./head.ts";

export class SnapshotFile extends SavedFile {
  readonly #path: string;
  readonly #fd: number;
  #frames: SnapshotFramesHandle | undefined;

  private constructor(header: SavedHeader, config: DomainConfig, records: RecordReader, path: string, fd: number) {
    super(header, config, records);
    this.#path = path;
    this.#fd = fd;
  }

  static async openSnapshot(path: string): Promise<SnapshotFile> {
    const fd = openSync(path, "r");
    try {
      const records = await RecordReader.ofFile(path, recordsPlace(path, fd));
      const { header, config } = await SavedFile.begin(records).catch((error: unknown) => {
        records.close();
        throw error;
      });
      return new SnapshotFile(header, config, records, path, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  override get frames(): SnapshotFramesHandle | undefined {
    return this.#frames;
  }

  override get isCopy(): boolean {
    return true;
  }

  protected override takeSlots(memory: DomainMemory, { payload }: SavedRecord): void {
    const slots = new Uint32Array(Uint8Array.from(payload).buffer);
    this.#frames = fetchFromFile(memory, slots, { fd: this.#fd, path: this.#path });
  }

  /** Until the domain ends frames are read. */
  override closeFrames(): void {
    closeSync(this.#fd);
  }
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
