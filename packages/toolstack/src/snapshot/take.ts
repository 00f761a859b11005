/**
 * Taking a snapshot of a domain that runs: its memory is written in rounds, as if it were to move, then it stands still for as long as it
 * takes to copy what is left; and runs on while that is written.
 */
import { createWriteStream } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { DirtyLog, type DomainMemory, type Frame, PAGE_BYTES } from "@xenoserver/cpu";
import { syncFolder } from "@xenoserver/storage/durable.ts";
import { handOver } from "@xenoserver/storage/file-owner.ts";
import type { DomainSpec } from "../cfg/index.ts";
import type { Hand } from "../migrate/progress.ts";
import { type MovingDomain, sendRounds } from "../migrate/send.ts";
import { SaveError } from "../save/error.ts";
import { RecordType, RecordWriter } from "../save/records.ts";
import { json, type SavedParts, writeParts } from "../save/saved-domain.ts";
import { FRAMES_AT } from "./frames.ts";
import { encodeHead } from "./head.ts";

export interface SnapshotReport {
  readonly bytes: number;
  readonly rounds: number;
  readonly totalMs: number;
  /** How long the vcpus stood still. */
  readonly pausedMs: number;
}

export interface SnapshotProgress {
  /** 1 for the round that writes all memory. */
  readonly round: number;
  readonly writtenBytes: number;
  /** Frames that were written by the guest during the last whole round; 0 in the first. */
  readonly dirtyFrames: number;
}

export interface SnapshotDomain extends MovingDomain {
  /**
   * Keeps what its disks hold; it stands still.
   * @returns  waits until that is kept, and gives the configuration of a domain that goes on from there
   */
  freeze(): Promise<() => Promise<DomainSpec>>;
}

/** Within a round, so often at most. */
const TELL_MS = 200;

/**
 * @param path  the file, which is there whole or not at all
 * @throws SaveError  nothing is left of it, and the domain runs on; also if the hand's signal aborts before its disks are kept
 */
export async function takeSnapshot(
  path: string,
  domain: SnapshotDomain,
  onProgress: (progress: SnapshotProgress) => void = () => {},
  { signal, onCommit }: Hand = {},
): Promise<SnapshotReport> {
  const part = `${path}.part`;
  const begin = performance.now();
  const { memory } = domain;
  const log = new DirtyLog(memory);
  let file: FileHandle | undefined;
  let halted = false;
  try {
    file = await open(part, "w", 0o600);
    handOver(part);
    const frames = new FrameFile(file, memory);
    await domain.settle();
    const tell = progressOf(frames, onProgress);
    const write = async (some: readonly Frame[]): Promise<void> => {
      for (let from = 0; from < some.length; from += FRAMES_PER_PIECE) {
        signal?.throwIfAborted();
        await frames.write(some.slice(from, from + FRAMES_PER_PIECE));
        tell.piece();
      }
    };
    const rounds = await sendRounds(log, domain, write, tell.round);
    // What disks are kept as is not taken back.
    signal?.throwIfAborted();
    onCommit?.();
    halted = true;
    const stillAt = performance.now();
    const parts = await domain.halt();
    const last = await log.collect((vcpuId) => domain.isResting(vcpuId));
    const copies = frames.copy([...new Set([...rounds.left, ...last])]);
    const map = memory.saveMap();
    const frozen = await domain.freeze();
    halted = false;
    await domain.resume();
    const pausedMs = performance.now() - stillAt;
    await frames.writeCopies(copies);
    const header = { ...parts.header, spec: await frozen() };
    await writeRest(part, file, frames, { ...parts, header, map });
    await file.sync();
    await rename(part, path);
    await syncFolder(dirname(path));
    return { bytes: frames.end, rounds: rounds.count, totalMs: performance.now() - begin, pausedMs };
  } catch (error) {
    if (halted) await domain.resume().catch(() => {});
    await rm(part, { force: true }).catch(() => {});
    const reason = signal?.aborted === true ? "it was cancelled" : (error as Error).message;
    throw new SaveError(`${path}: cannot be written: ${reason}`, { cause: error });
  } finally {
    log.stop();
    await file?.close();
  }
}

function progressOf(frames: FrameFile, tell: (progress: SnapshotProgress) => void) {
  let [round, dirtyFrames, toldAt] = [1, 0, performance.now()];
  const say = (): void => {
    toldAt = performance.now();
    tell({ round, writtenBytes: frames.end, dirtyFrames });
  };
  return {
    piece: (): void => {
      if (performance.now() - toldAt >= TELL_MS) say();
    },
    round: (ended: number, dirty: number): void => {
      [round, dirtyFrames] = [ended, dirty];
      say();
      round++;
    },
  };
}

/** So many frames are copied and written at a time. */
const FRAMES_PER_PIECE = 256;

/** Frames, and their bytes in the same order. */
interface FrameCopies {
  readonly frames: readonly Frame[];
  readonly bytes: Uint8Array;
}

/**
 * Frames in the order in which they were written first; later contents take the place of earlier ones. What is copied while the domain
 * runs goes through one buffer: with one for each frame, the process grew by twice what was written before any of them was collected.
 */
class FrameFile {
  readonly #file: FileHandle;
  readonly #memory: DomainMemory;
  readonly #slots: Int32Array;
  readonly #sums: Uint32Array;
  readonly #order: Frame[] = [];
  readonly #piece = Buffer.allocUnsafeSlow(FRAMES_PER_PIECE * PAGE_BYTES);

  constructor(file: FileHandle, memory: DomainMemory) {
    this.#file = file;
    this.#memory = memory;
    this.#slots = new Int32Array(memory.frameCount);
    this.#sums = new Uint32Array(memory.frameCount);
  }
  get end(): number {
    return FRAMES_AT + this.#order.length * PAGE_BYTES;
  }
  /** Pairs of frame and sum, by slot. */
  get slots(): Uint32Array<ArrayBuffer> {
    const pairs = new Uint32Array(this.#order.length * 2);
    this.#order.forEach((frame, slot) => {
      pairs[slot * 2] = frame;
      pairs[slot * 2 + 1] = this.#sums[frame]!;
    });
    return pairs;
  }

  /** Frames as they are now, to be written later. */
  copy(frames: readonly Frame[], into: Uint8Array = Buffer.allocUnsafeSlow(frames.length * PAGE_BYTES)): FrameCopies {
    frames.forEach((frame, k) => {
      into.set(this.#memory.frameBytes(frame), k * PAGE_BYTES);
    });
    return { frames, bytes: into };
  }

  /** @param frames  at most `FRAMES_PER_PIECE` */
  write(frames: readonly Frame[]): Promise<void> {
    return this.writeCopies(this.copy(frames, this.#piece));
  }

  /** Those whose places follow one another are written in one piece. */
  async writeCopies({ frames, bytes }: FrameCopies): Promise<void> {
    const slots = frames.map((frame, k) => {
      this.#sums[frame] = crc32(bytes.subarray(k * PAGE_BYTES, (k + 1) * PAGE_BYTES));
      this.#slots[frame] ||= this.#order.push(frame);
      return this.#slots[frame] - 1;
    });
    for (let from = 0; from < slots.length; ) {
      let to = from + 1;
      while (to < slots.length && slots[to] === slots[from]! + (to - from)) to++;
      const run = bytes.subarray(from * PAGE_BYTES, to * PAGE_BYTES);
      await writeAll(this.#file, run, FRAMES_AT + slots[from]! * PAGE_BYTES);
      from = to;
    }
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
    done += bytesWritten;
  }
}

/** The records behind the frames; then the head, which makes it a snapshot. */
async function writeRest(
  path: string,
  file: FileHandle,
  frames: FrameFile,
  parts: SavedParts & { readonly map: Int32Array<ArrayBuffer> },
): Promise<void> {
  const at = frames.end;
  const writer = new RecordWriter(createWriteStream(path, { flags: "r+", start: at }), true);
  await writer.write(RecordType.config, json(parts.header));
  await writer.write(RecordType.slots, new Uint8Array(frames.slots.buffer));
  await writeParts(writer, parts, parts.map);
  await writer.close();
  const { size } = await file.stat();
  await writeAll(file, encodeHead(at, size - at), 0);
}
