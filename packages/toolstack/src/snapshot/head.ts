/**
 * A snapshot's file. Numbers are little-endian.
 *
 *     0       "XENOSNAP", version (u32), 0 (u32), where the records begin (u64), their length in bytes (u64)
 *     4096    frames, one behind the other
 *     …       records as of a saved domain, without frames, but with `slots`: pairs of frame and CRC-32 in the order of the file
 */
export const MAGIC = "XENOSNAP";
export const VERSION = 1;
export const HEAD_BYTES = 32;

export function encodeHead(recordsAt: number, recordsBytes: number): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.write(MAGIC, "latin1");
  head.writeUInt32LE(VERSION, 8);
  head.writeBigUInt64LE(BigInt(recordsAt), 16);
  head.writeBigUInt64LE(BigInt(recordsBytes), 24);
  return head;
}
