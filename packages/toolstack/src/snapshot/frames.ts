/**
 * Frames of a snapshot's file, read when they are touched. A table that all threads share tells each frame's place in the file and the
 * sum of its bytes; each thread reads by itself.
 */
import { readSync } from "node:fs";
import { crc32 } from "node:zlib";
import { type DomainMemory, type Frame, type FrameSource, PAGE_BYTES } from "@xenoserver/cpu";

/** Frames begin behind the head, so that each is aligned in the file. */
export const FRAMES_AT = PAGE_BYTES;

/** What a thread needs to read frames. */
export interface SnapshotFramesHandle {
  readonly fd: number;
  readonly path: string;
  /** By frame: its slot in the file plus 1, or 0 for one of zeros; and its CRC-32. */
  readonly table: SharedArrayBuffer;
}

export class SnapshotFrames implements FrameSource {
  readonly #handle: SnapshotFramesHandle;
  readonly #table: Int32Array;
  readonly #bytes = Buffer.alloc(PAGE_BYTES);

  constructor(handle: SnapshotFramesHandle) {
    this.#handle = handle;
    this.#table = new Int32Array(handle.table);
  }

  /** @throws Error  the file is damaged, or cannot be read */
  read(frame: Frame, into: Uint8Array): void {
    const { fd, path } = this.#handle;
    const slot = this.#table[frame * 2]! - 1;
    const bytes = readSync(fd, this.#bytes, 0, PAGE_BYTES, FRAMES_AT + slot * PAGE_BYTES);
    if (bytes !== PAGE_BYTES || crc32(this.#bytes) !== this.#table[frame * 2 + 1]! >>> 0)
      throw new Error(`${path}: frame ${frame} in slot ${slot} is damaged`);
    into.set(this.#bytes);
  }
}

/**
 * Has frames of a domain's memory fetched from a file.
 * @param slots  pairs of frame and CRC-32, in the order of the file
 * @param known  what this gave for another domain of the same file
 * @throws RangeError  a frame that there is not, or that comes twice
 */
export function fetchFromFile(
  memory: DomainMemory,
  slots: Uint32Array,
  file: Pick<SnapshotFramesHandle, "fd" | "path">,
  known?: SnapshotFramesHandle,
): SnapshotFramesHandle {
  if (known?.table.byteLength === memory.frameCount * 8) {
    for (let at = 0; at < slots.length; at += 2) memory.absent.markAbsent(slots[at] as Frame);
    memory.absent.fetchFrom(new SnapshotFrames(known));
    return known;
  }
  const handle = { ...file, table: new SharedArrayBuffer(memory.frameCount * 8) };
  const table = new Int32Array(handle.table);
  for (let slot = 0; slot * 2 < slots.length; slot++) {
    const frame = slots[slot * 2]!;
    const sum = slots[slot * 2 + 1]!;
    if (frame >= memory.frameCount || table[frame * 2] !== 0)
      throw new RangeError(`slot ${slot}: frame ${frame}, expected another of ${memory.frameCount}`);
    table[frame * 2] = slot + 1;
    table[frame * 2 + 1] = sum;
    memory.absent.markAbsent(frame as Frame);
  }
  memory.absent.fetchFrom(new SnapshotFrames(handle));
  return handle;
}
