/** Clusters that are kept compressed: where they lie, and how they are unpacked. */
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { StorageError } from "../error.ts";
import type { RandomAccessFile } from "../raw/file.ts";

const inflateRaw = promisify<Uint8Array, zlib.ZlibOptions, Buffer>(zlib.inflateRaw);
const zstdDecompress = promisify<Uint8Array, zlib.ZstdOptions, Buffer>(zlib.zstdDecompress);

const SECTOR_BYTES = 512;

export interface CompressedExtent {
  readonly offset: number;
  /** At most; what is behind the stream's end belongs to others. */
  readonly lengthBytes: number;
}

/**
 * Takes an L2 entry of a compressed cluster apart: the lower x bits are an offset in bytes, the ones above count the further
 * sectors of 512 bytes that the stream reaches into; x = 62 − (cluster bits − 8).
 */
export function compressedExtent(high: number, low: number, clusterBits: number): CompressedExtent {
  const highBits = 62 - (clusterBits - 8) - 32;
  const offset = (high & (2 ** highBits - 1)) * 2 ** 32 + low;
  const furtherSectors = (high & 0x3fffffff) >>> highBits;
  return { offset, lengthBytes: (furtherSectors + 1) * SECTOR_BYTES - (offset % SECTOR_BYTES) };
}

/** The cluster's bytes. @throws StorageError  the stream is damaged */
export async function readCompressed(
  file: RandomAccessFile,
  { offset, lengthBytes }: CompressedExtent,
  clusterBytes: number,
  compression: "deflate" | "zstd",
): Promise<Uint8Array> {
  const packed = new Uint8Array(lengthBytes);
  await file.readPadded(offset, [packed]);
  try {
    const cluster =
      compression === "zstd"
        ? // Bytes behind the frame are another cluster's; reading stops at the frame's end.
          await zstdDecompress(zstdFrame(packed), { maxOutputLength: clusterBytes })
        : await inflateRaw(packed, { finishFlush: zlib.constants.Z_SYNC_FLUSH, maxOutputLength: clusterBytes });
    if (cluster.length === clusterBytes) return cluster;
    throw new Error(`it holds ${cluster.length} bytes, expected ${clusterBytes}`);
  } catch (cause) {
    throw new StorageError(`${file.path}: compressed cluster at 0x${offset.toString(16)} does not unpack`, { cause });
  }
}

/**
 * A zstd frame without what follows it.
 * @see RFC 8878, sections 3.1.1 and 3.1.1.2
 */
export function zstdFrame(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 6 || view.getUint32(0, true) !== 0xfd2fb528)
    throw new Error("it does not begin like a zstd frame");
  const descriptor = bytes[4]!;
  const singleSegment = (descriptor & 0x20) !== 0;
  const contentSizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6]!;
  let at = 5 + (singleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + contentSizeBytes;
  for (let last = false; !last; ) {
    if (at + 3 > bytes.length) throw new Error("its zstd frame has no end");
    const header = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    last = (header & 1) === 1;
    const isRle = ((header >>> 1) & 3) === 1;
    at += 3 + (isRle ? 1 : header >>> 3);
  }
  return bytes.subarray(0, at + ((descriptor & 4) !== 0 ? 4 : 0));
}
