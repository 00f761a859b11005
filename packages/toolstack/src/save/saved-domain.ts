/** A domain as it is saved: what its parts say of themselves, and its memory. */
import { createWriteStream, renameSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { finished } from "node:stream/promises";
import type { DomainMemory } from "@xenoserver/cpu";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import type { Frame } from "@xenoserver/cpu/memory/guest-memory.ts";
import type { BlockStore, ConsoleState, SavedDevice } from "@xenoserver/devices";
import { syncFolderAtOnce } from "@xenoserver/storage/durable.ts";
import { handOver } from "@xenoserver/storage/file-owner.ts";
import { MAX_VCPUS } from "@xenoserver/xen/domain/index.ts";
import type { StoreState } from "@xenoserver/xenstore";
import { ConfigError, configOf, type DomainConfig, type DomainSpec } from "../cfg/index.ts";
import type { FramesHandle } from "../snapshot/frame-source.ts";
import { SaveError } from "./error.ts";
import { RecordReader, type Records, RecordType, RecordWriter, type SavedRecord, wordsOf } from "./records.ts";

/** The first record: what has to be known before anything can be made. */
export interface SavedHeader {
  readonly spec: DomainSpec;
  /** The number by which the guest knows itself; it keeps that. */
  readonly domid: number;
  /** The domain's system time, and the host's date, when its vcpus stood still. */
  readonly systemNs: number;
  readonly savedAtMs: number;
  /** Pages that it may own if nobody limits it. */
  readonly mostPages: number;
  /** Of one that moves: what it could bring along; see `migrate/offer.ts`, which looks at it. */
  readonly offer?: unknown;
  /** Of one that moves: some of its memory comes when it runs there; see `migrate/later/`. */
  readonly postCopy?: true;
}
export interface SavedBackends {
  readonly console: ConsoleState;
  readonly xenstore: StoreState;
  readonly devices: readonly SavedDevice[];
}
export interface SavedParts {
  readonly header: SavedHeader;
  readonly control: Uint8Array;
  /** By number; see `saveVcpu`. */
  readonly vcpus: readonly Uint8Array[];
  readonly backends: SavedBackends;
}

const FRAMES_PER_RECORD = 64;
/** Greater numbers have a meaning of their own. @see DOMID_FIRST_RESERVED in xen/include/public/xen.h */
const [FIRST_DOMID, LAST_DOMID] = [1, 0x7fef];

/**
 * Writes a domain that stands still. The file is there whole or not at all.
 * @param onProgress  told the share of memory that was looked at, 0–1; what it throws ends the writing, for the last time at 1, before the file has its name
 * @param onWhole     told the bytes before compression, and called when the file has its name, with nothing awaited since
 * @returns the bytes before compression
 * @throws SaveError
 */
export async function writeSaved(
  path: string,
  parts: SavedParts,
  memory: DomainMemory,
  onProgress?: (share: number) => void,
  onWhole?: (bytes: number) => void,
): Promise<number> {
  const part = `${path}.part`;
  const file = createWriteStream(part, { mode: 0o600, flush: true });
  try {
    const writer = new RecordWriter(file, true);
    await writer.write(RecordType.config, json(parts.header));
    await writeParts(writer, parts, memory.saveMap());
    for await (const frames of usedFrames(memory, onProgress)) await writeFrames(writer, memory, frames);
    await writer.close();
    // Node flushes a file when it closes it, behind the writer's last word.
    await finished(file);
    handOver(part);
    onProgress?.(1);
    giveName(part, path);
    onWhole?.(writer.bytes);
    return writer.bytes;
  } catch (error) {
    file.destroy();
    await rm(part, { force: true }).catch(() => {});
    throw new SaveError(`${path}: cannot be written: ${(error as Error).message}`, { cause: error });
  }
}
/** Whoever hears of it ends the domain: then the name is on the disk as the file is. */
function giveName(part: string, path: string): void {
  renameSync(part, path);
  try {
    syncFolderAtOnce(dirname(path));
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
}
export const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

/**
 * All of a domain that stands still, but for its memory's contents.
 * @param map  as `DomainMemory.saveMap` gave it; absent if it was written before
 */
export async function writeParts(
  writer: RecordWriter,
  { control, vcpus, backends }: SavedParts,
  map?: Int32Array<ArrayBuffer>,
): Promise<void> {
  await writer.write(RecordType.control, control);
  for (const vcpu of vcpus) await writer.write(RecordType.vcpu, vcpu);
  await writer.write(RecordType.backends, json(backends));
  if (map !== undefined) await writer.write(RecordType.map, new Uint8Array(map.buffer));
}

/** Frames, as many to a record as fit: their count, their numbers, their bytes. */
export async function writeFrames(writer: RecordWriter, memory: DomainMemory, frames: readonly Frame[]): Promise<void> {
  for (let from = 0; from < frames.length; from += FRAMES_PER_RECORD) {
    const batch = frames.slice(from, from + FRAMES_PER_RECORD);
    const head = 4 + batch.length * 4;
    const payload = Buffer.alloc(head + batch.length * PAGE_BYTES);
    payload.writeUInt32LE(batch.length, 0);
    batch.forEach((frame, k) => {
      payload.writeUInt32LE(frame, 4 + k * 4);
      payload.set(memory.frameBytes(frame), head + k * PAGE_BYTES);
    });
    await writer.write(RecordType.frames, payload);
  }
}

/** Frames that hold anything, some at a time. */
export async function* usedFrames(
  memory: DomainMemory,
  onProgress: (share: number) => void = () => {},
): AsyncGenerator<Frame[]> {
  const count = memory.usedFrames;
  let batch: Frame[] = [];
  for (let frame = 0; frame < count; frame++) {
    if (!memory.isZero(frame as Frame)) batch.push(frame as Frame);
    if (batch.length === FRAMES_PER_RECORD) {
      yield batch;
      batch = [];
    }
    if (frame % 4096 === 0) {
      onProgress(frame / count);
      // Looking at memory is all that is done for empty stretches.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  yield batch;
}

/** Looks whether a domain's devices could be had here. @throws ConfigError */
export type CheckDevices = (config: DomainConfig) => Promise<void>;

/** A saved domain that is being read: first what it is, then its memory and the rest. */
export class SavedFile {
  readonly header: SavedHeader;
  /** As it was; of one that moves, as it is here. */
  config: DomainConfig;
  protected readonly records: Records;

  protected constructor(header: SavedHeader, config: DomainConfig, records: Records) {
    this.header = header;
    this.config = config;
    this.records = records;
  }

  /** @throws SaveError */
  static async open(path: string): Promise<SavedFile> {
    const records = await RecordReader.ofFile(path);
    try {
      const { header, config } = await SavedFile.begin(records);
      return new SavedFile(header, config, records);
    } catch (error) {
      records.close();
      throw error;
    }
  }

  /** Reads the first record. @throws SaveError */
  static async begin(records: Records): Promise<{ header: SavedHeader; config: DomainConfig }> {
    const { name } = records;
    try {
      const { type, payload } = await records.next();
      if (type !== RecordType.config) throw new SaveError(`${name}: does not begin with a configuration`);
      const header = JSON.parse(payload.toString()) as SavedHeader;
      const { config } = configOf(header.spec, name);
      for (const key of ["domid", "systemNs", "savedAtMs", "mostPages"] as const)
        if (!Number.isFinite(header[key])) throw new SaveError(`${name}: ${key} is ${header[key]}, expected a number`);
      if (!Number.isInteger(header.domid) || header.domid < FIRST_DOMID || header.domid > LAST_DOMID)
        throw new SaveError(`${name}: domid is ${header.domid}, expected ${FIRST_DOMID}–${LAST_DOMID}`);
      return { header, config };
    } catch (error) {
      if (error instanceof SaveError) throw error;
      throw new SaveError(error instanceof ConfigError ? error.message : `${name}: is damaged`, { cause: error });
    }
  }

  /**
   * Reads everything else, memory into the domain's.
   * @param memory  of the configuration's size, with nothing in it
   * @param _check  is called early by what comes from another server
   * @throws SaveError
   */
  async load(memory: DomainMemory, _check: CheckDevices): Promise<SavedParts> {
    const loading = new Loading(memory, (record) => this.takeSlots(memory, record));
    const { name } = this.records;
    try {
      for (;;) {
        const record = await this.records.next();
        if (!(await this.takeOther(record, memory)) && !loading.take(record)) break;
      }
    } catch (error) {
      this.close();
      if (error instanceof SaveError) throw error;
      throw new SaveError(`${name}: ${(error as Error).message}`, { cause: error });
    }
    const { vcpus, control, backends, clock } = loading;
    if (control === undefined || backends === undefined || vcpus.length !== this.config.vcpus) {
      this.close();
      throw new SaveError(
        `${name}: has ${vcpus.length} vcpus, expected ${this.config.vcpus} and all that belongs to them`,
      );
    }
    return { header: { ...this.header, ...clock }, control, vcpus, backends };
  }

  /**
   * Called when the domain could run: settles when it may.
   * @throws SaveError  it runs elsewhere
   */
  async commit(): Promise<void> {
    this.close();
  }

  /** Takes a record that has to do with where this comes from. @returns whether it was one @throws Error */
  protected async takeOther(_record: SavedRecord, _memory: DomainMemory): Promise<boolean> {
    return false;
  }
  /** A disk that came along, for its device, which closes it; undefined if it is to be opened. */
  diskOf(_vdev: string): BlockStore | undefined {
    return undefined;
  }
  /** From where its threads fetch frames; undefined if all are in memory. */
  get frames(): FramesHandle | undefined {
    return undefined;
  }
  /** @throws RangeError  they cannot be where this comes from */
  protected takeSlots(_memory: DomainMemory, { type }: SavedRecord): void {
    throw new RangeError(`a record of type ${type}, expected none`);
  }
  /** Called when no thread fetches frames any more. */
  closeFrames(): void {}
  /** Whether its disks are others than those that it had. */
  get isCopy(): boolean {
    return false;
  }
  /** Settles when all of its memory is here, or will be whenever it is wanted; rejects if it will not come. */
  get whole(): Promise<void> {
    return Promise.resolve();
  }

  /** Called when it runs. */
  async started(): Promise<void> {}

  /** Gives back what is open, read or not. */
  close(): void {
    this.records.close();
  }
}

/** What was read so far, but for memory, which goes where it belongs. */
class Loading {
  readonly vcpus: Uint8Array[] = [];
  control: Uint8Array | undefined;
  backends: SavedBackends | undefined;
  clock: Partial<SavedHeader> = {};
  readonly #memory: DomainMemory;
  readonly #onSlots: (record: SavedRecord) => void;

  constructor(memory: DomainMemory, onSlots: (record: SavedRecord) => void) {
    this.#memory = memory;
    this.#onSlots = onSlots;
  }

  /** @returns whether more is to come @throws RangeError */
  take(record: SavedRecord): boolean {
    const { type, payload } = record;
    switch (type) {
      case RecordType.slots:
        this.#onSlots(record);
        return true;
      case RecordType.control:
        this.control = payload;
        return true;
      case RecordType.vcpu:
        if (this.vcpus.length === MAX_VCPUS) throw new RangeError(`more than ${MAX_VCPUS} vcpus`);
        this.vcpus.push(new Uint8Array(payload));
        return true;
      case RecordType.backends:
        this.backends = JSON.parse(payload.toString()) as SavedBackends;
        return true;
      case RecordType.clock:
        this.clock = JSON.parse(payload.toString()) as Partial<SavedHeader>;
        return true;
      case RecordType.map:
        this.#memory.loadMap(wordsOf(payload));
        return true;
      case RecordType.frames:
        for (const [frame, bytes] of framesOf(payload, this.#memory.frameCount))
          this.#memory.frameBytes(frame).set(bytes);
        return true;
      case RecordType.end:
        return false;
      default:
        throw new RangeError(`a record of type ${type}, expected none`);
    }
  }
}

/** The frames in a record's payload, as `writeFrames` makes it. @throws RangeError */
export function* framesOf(payload: Buffer, frameCount: number): Generator<readonly [Frame, Uint8Array]> {
  const count = payload.length < 4 ? 0 : payload.readUInt32LE(0);
  const head = 4 + count * 4;
  if (payload.length !== head + count * PAGE_BYTES) throw new RangeError(`${count} frames in ${payload.length} bytes`);
  for (let k = 0; k < count; k++) {
    const frame = payload.readUInt32LE(4 + k * 4);
    if (frame >= frameCount) throw new RangeError(`frame ${frame}, expected one of ${frameCount}`);
    const at = head + k * PAGE_BYTES;
    yield [frame as Frame, payload.subarray(at, at + PAGE_BYTES)];
  }
}
