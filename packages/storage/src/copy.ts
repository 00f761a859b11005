/** Copies disks from one store to another. */
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import { isZero } from "./images/chunk.ts";

const PIECE_BYTES = 1 << 20;
const BLOCK_BYTES = 64 << 10;

/**
 * Copies a disk onto one that is zero and at least as large. Zeros are not written, so that a sparse target stays sparse.
 * @param progress  is told how much was copied, from 0 to 1
 */
export async function copyDisk(
  from: BlockStore,
  to: BlockStore,
  progress: (part: number) => void = () => {},
): Promise<void> {
  const { sizeBytes } = from.info;
  const piece = new Uint8Array(PIECE_BYTES);
  for (let at = 0; at < sizeBytes; at += PIECE_BYTES) {
    progress(at / sizeBytes);
    const bytes = piece.subarray(0, Math.min(PIECE_BYTES, sizeBytes - at));
    await from.read(at, [bytes]);
    for (let start = 0; start < bytes.length; start += BLOCK_BYTES) {
      const block = bytes.subarray(start, start + BLOCK_BYTES);
      if (!isZero(block)) await to.write(at + start, [block]);
    }
  }
  await to.flush();
}
