/** Records of a disk's blocks: which disk, the first block and their number, whether they are zeros, and their bytes if not. */
import { SET_BLOCK_BYTES } from "@xenoserver/storage";

/** Blocks of a record. */
export const MOST_BLOCKS = 64;
const HEAD_BYTES = 16;
const Kind = { data: 0, zeros: 1 } as const;

export interface BlockRecord {
  /** Its place in the offer. */
  readonly disk: number;
  readonly offset: number;
  readonly lengthBytes: number;
  /** None for zeros. */
  readonly bytes?: Uint8Array;
}

/** @param lengthBytes  whole blocks, or up to the disk's end */
export function encodeBlocks({ disk, offset, lengthBytes, bytes }: BlockRecord): Uint8Array {
  const head = Buffer.alloc(HEAD_BYTES + (bytes?.length ?? 0));
  head.writeUInt32LE(disk, 0);
  head.writeUInt32LE(offset / SET_BLOCK_BYTES, 4);
  head.writeUInt32LE(Math.ceil(lengthBytes / SET_BLOCK_BYTES), 8);
  head.writeUInt32LE(bytes === undefined ? Kind.zeros : Kind.data, 12);
  if (bytes !== undefined) head.set(bytes, HEAD_BYTES);
  return head;
}

/**
 * @param sizes  of the disks that are sent, in bytes; undefined for the others
 * @throws RangeError
 */
export function decodeBlocks(payload: Buffer, sizes: readonly (number | undefined)[]): BlockRecord {
  if (payload.length < HEAD_BYTES) throw new RangeError(`blocks in ${payload.length} bytes`);
  const [disk, first, count, kind] = [0, 4, 8, 12].map((at) => payload.readUInt32LE(at)) as [
    number,
    number,
    number,
    number,
  ];
  const sizeBytes = sizes[disk];
  if (sizeBytes === undefined) throw new RangeError(`blocks of disk ${disk}, expected one that is to come`);
  const offset = first * SET_BLOCK_BYTES;
  const lengthBytes = Math.min(count * SET_BLOCK_BYTES, sizeBytes - offset);
  if (count === 0 || count > MOST_BLOCKS || lengthBytes <= (count - 1) * SET_BLOCK_BYTES)
    throw new RangeError(`${count} blocks from ${first} on, of a disk of ${sizeBytes} bytes`);
  const bytes = payload.subarray(HEAD_BYTES);
  if (kind > Kind.zeros || bytes.length !== (kind === Kind.data ? lengthBytes : 0))
    throw new RangeError(`${count} blocks of kind ${kind} in ${bytes.length} bytes, expected ${lengthBytes}`);
  return { disk, offset, lengthBytes, ...(kind === Kind.data && { bytes }) };
}
