/** A domain as it is saved: what its parts say of themselves, and its memory. */
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import type { DomainMemory } from "@xenoserver/cpu";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import type { Frame } from "@xenoserver/cpu/memory/guest-memory.ts";
import type { ConsoleState, SavedDevice } from "@xenoserver/devices";
import type { StoreState } from "@xenoserver/xenstore";
import { ConfigError, configOf, type DomainConfig, type DomainSpec } from "../cfg/index.ts";
import { SaveError } from "./error.ts";
import { RecordType, RecordWriter, readRecords, type SavedRecord } from "./records.ts";

/** The first record: what has to be known before anything can be made. */
export interface SavedHeader {
  readonly spec: DomainSpec;
  /** The number by which the guest knows itself; it keeps that. */
  readonly domid: number;
  /** The domain's system time, and the host's date, when its vcpus stood still. */
  readonly systemNs: number;
  readonly savedAtMs: number;
  /** Pages that it may own if nobody limits it. */
  readonly pagesAtStart: number;
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

/**
 * Writes a domain that stands still. The file is there whole or not at all.
 * @param onProgress  told the share of memory that was looked at, 0–1
 * @returns the bytes before compression
 * @throws SaveError
 */
export async function writeSaved(
  path: string,
  parts: SavedParts,
  memory: DomainMemory,
  onProgress: (share: number) => void = () => {},
): Promise<number> {
  const part = `${path}.part`;
  try {
    const file = createWriteStream(part, { mode: 0o600, flush: true });
    const writer = new RecordWriter(file);
    await writer.write(RecordType.config, json(parts.header));
    await writer.write(RecordType.control, parts.control);
    for (const vcpu of parts.vcpus) await writer.write(RecordType.vcpu, vcpu);
    await writer.write(RecordType.backends, json(parts.backends));
    await writer.write(RecordType.map, new Uint8Array(memory.saveMap().buffer));
    await writeFrames(writer, memory, onProgress);
    await writer.end();
    await rename(part, path);
    return writer.bytes;
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    throw new SaveError(`${path}: cannot be written: ${(error as Error).message}`, { cause: error });
  }
}
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

/** Frames that hold anything, as many to a record as fit: their count, their numbers, their bytes. */
async function writeFrames(writer: RecordWriter, memory: DomainMemory, onProgress: (share: number) => void) {
  const { usedFrames } = memory;
  let batch: Frame[] = [];
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    const head = 4 + batch.length * 4;
    const payload = Buffer.alloc(head + batch.length * PAGE_BYTES);
    payload.writeUInt32LE(batch.length, 0);
    batch.forEach((frame, k) => {
      payload.writeUInt32LE(frame, 4 + k * 4);
      payload.set(memory.frameBytes(frame), head + k * PAGE_BYTES);
    });
    batch = [];
    await writer.write(RecordType.frames, payload);
  };
  for (let frame = 0; frame < usedFrames; frame++) {
    if (!memory.isZero(frame as Frame)) batch.push(frame as Frame);
    if (batch.length === FRAMES_PER_RECORD) await flush();
    if (frame % 4096 === 0) {
      onProgress(frame / usedFrames);
      // Looking at memory is all that is done for empty stretches.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  await flush();
}

/** A saved domain that is being read: first what it is, then its memory and the rest. */
export class SavedFile {
  readonly path: string;
  readonly header: SavedHeader;
  readonly config: DomainConfig;
  readonly #records: AsyncGenerator<SavedRecord>;

  private constructor(path: string, header: SavedHeader, config: DomainConfig, records: AsyncGenerator<SavedRecord>) {
    this.path = path;
    this.header = header;
    this.config = config;
    this.#records = records;
  }

  /** @throws SaveError */
  static async open(path: string): Promise<SavedFile> {
    const records = readRecords(path);
    const first = await records.next();
    if (first.done === true || first.value.type !== RecordType.config)
      throw new SaveError(`${path}: does not begin with a configuration`);
    try {
      const header = JSON.parse(first.value.payload.toString()) as SavedHeader;
      const { config } = configOf(header.spec, path);
      for (const key of ["domid", "systemNs", "savedAtMs", "pagesAtStart"] as const)
        if (!Number.isFinite(header[key])) throw new SaveError(`${path}: ${key} is ${header[key]}, expected a number`);
      return new SavedFile(path, header, config, records);
    } catch (error) {
      await records.return(undefined);
      if (error instanceof SaveError) throw error;
      throw new SaveError(error instanceof ConfigError ? error.message : `${path}: is damaged`, { cause: error });
    }
  }

  /**
   * Reads everything else, memory into the domain's.
   * @param memory  of the configuration's size, with nothing in it
   * @throws SaveError
   */
  async load(memory: DomainMemory): Promise<SavedParts> {
    const vcpus: Uint8Array[] = [];
    let control: Uint8Array | undefined;
    let backends: SavedBackends | undefined;
    try {
      for await (const { type, payload } of this.#records) {
        if (type === RecordType.control) control = payload;
        else if (type === RecordType.vcpu) vcpus.push(Uint8Array.from(payload));
        else if (type === RecordType.backends) backends = JSON.parse(payload.toString()) as SavedBackends;
        else if (type === RecordType.map) memory.loadMap(new Int32Array(Uint8Array.from(payload).buffer));
        else if (type === RecordType.frames) loadFrames(memory, payload);
        else throw new RangeError(`a record of type ${type}, expected none`);
      }
    } catch (error) {
      if (error instanceof SaveError) throw error;
      throw new SaveError(`${this.path}: ${(error as Error).message}`, { cause: error });
    }
    if (control === undefined || backends === undefined || vcpus.length !== this.config.vcpus)
      throw new SaveError(
        `${this.path}: has state of ${vcpus.length} vcpus, expected ${this.config.vcpus} and all else`,
      );
    return { header: this.header, control, vcpus, backends };
  }

  /** Gives the file back, read or not. */
  async close(): Promise<void> {
    await this.#records.return(undefined);
  }
}

/** @throws RangeError */
function loadFrames(memory: DomainMemory, payload: Buffer): void {
  const count = payload.length < 4 ? 0 : payload.readUInt32LE(0);
  const head = 4 + count * 4;
  if (payload.length !== head + count * PAGE_BYTES) throw new RangeError(`${count} frames in ${payload.length} bytes`);
  for (let k = 0; k < count; k++) {
    const frame = payload.readUInt32LE(4 + k * 4);
    if (frame >= memory.frameCount) throw new RangeError(`frame ${frame}, expected one of ${memory.frameCount}`);
    const at = head + k * PAGE_BYTES;
    memory.frameBytes(frame as Frame).set(payload.subarray(at, at + PAGE_BYTES));
  }
}
