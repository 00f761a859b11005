/** Sends disks as they are written: first what the other side lacks of them, then again and again what was written meanwhile. */
import { SET_BLOCK_BYTES } from "@xenoserver/storage";
import { isZero } from "@xenoserver/storage/images/chunk.ts";
import { RecordType, type RecordWriter } from "../save/records.ts";
import { encodeBlocks, MOST_BLOCKS } from "./block-record.ts";
import type { LeavingDisk } from "./leaving.ts";

/** So few blocks are sent faster than another round would take. */
const FEW_BLOCKS = 256;
const MAX_ROUNDS = 10;
/** A round that leaves more than this share of the last one's is not worth another. */
const SHRINKING = 0.8;
/** The other side counts who says nothing for long as gone: zeros of a large disk are read, and not sent. */
const SILENT_MS = 1000;

export class DiskSender {
  /** Of blocks that were sent, with zeros. */
  bytes = 0;
  readonly #writer: RecordWriter;
  readonly #disks: readonly (readonly [place: number, disk: LeavingDisk])[];
  #isFirst = true;
  #spokeAt = performance.now();

  constructor(writer: RecordWriter, disks: readonly (readonly [place: number, disk: LeavingDisk])[]) {
    this.#writer = writer;
    this.#disks = disks;
  }

  /** About what is to be sent. */
  get usedBytes(): number {
    return this.#disks.reduce((sum, [, { offer }]) => sum + offer.usedBytes, 0);
  }

  /** Until little was written during a round. @param onRound  told how many blocks it had */
  async sendRounds(onRound: (blocks: number) => void): Promise<void> {
    for (let [round, before] = [0, Number.POSITIVE_INFINITY]; round < MAX_ROUNDS; round++) {
      const sent = await this.sendWritten();
      onRound(sent);
      if (sent <= FEW_BLOCKS || sent > before * SHRINKING) return;
      before = sent;
    }
  }

  /** @returns how many blocks there were */
  async sendWritten(): Promise<number> {
    let count = 0;
    for (const [place, disk] of this.#disks) {
      const blocks = disk.collect();
      count += blocks.size;
      // A file that is made there has nothing but zeros.
      const skipsZeros = this.#isFirst && disk.offer.kind === "file";
      for (const { first, count: length } of blocks.runs(MOST_BLOCKS)) {
        const offset = first * SET_BLOCK_BYTES;
        const bytes = new Uint8Array(Math.min(length * SET_BLOCK_BYTES, disk.offer.sizeBytes - offset));
        await disk.read(offset, bytes);
        await this.#sendRun(place, offset, bytes, skipsZeros);
      }
    }
    this.#isFirst = false;
    return count;
  }

  /** In pieces that are zeros, or are not. */
  async #sendRun(disk: number, offset: number, bytes: Uint8Array, skipsZeros: boolean): Promise<void> {
    const zeroAt = (at: number): boolean => isZero(bytes.subarray(at, at + SET_BLOCK_BYTES));
    for (let start = 0; start < bytes.length; ) {
      const isZeros = zeroAt(start);
      let end = start + SET_BLOCK_BYTES;
      while (end < bytes.length && zeroAt(end) === isZeros) end += SET_BLOCK_BYTES;
      const piece = bytes.subarray(start, end);
      const place = { disk, offset: offset + start, lengthBytes: piece.length };
      if (!isZeros) await this.#write(encodeBlocks({ ...place, bytes: piece }));
      else if (!skipsZeros) await this.#write(encodeBlocks(place));
      this.bytes += piece.length;
      start += piece.length;
    }
    if (performance.now() - this.#spokeAt > SILENT_MS) await this.#write(new Uint8Array(), RecordType.idle);
  }

  async #write(payload: Uint8Array, type: number = RecordType.blocks): Promise<void> {
    await this.#writer.write(type, payload);
    this.#spokeAt = performance.now();
  }
}
