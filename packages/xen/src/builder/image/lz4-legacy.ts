/**
 * The LZ4 legacy frame, which kernels use: a magic, then blocks with their compressed size in front, each unpacking
 * to 8 MiB but the last.
 *
 * @see https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md (Legacy frame), lz4_Block_format.md
 */

import { arrayToFill } from "../../host/huge-pages.ts";

const BLOCK_BYTES = 8 << 20;
const MATCH_MIN_BYTES = 4;
const MAGIC = [0x02, 0x21, 0x4c, 0x18] as const;

/** The data breaks the format's rules, or ends early. */
export class Lz4Error extends Error {
  override readonly name = "Lz4Error";
}

export const isLz4Legacy = (bytes: Uint8Array): boolean => MAGIC.every((byte, i) => bytes[i] === byte);

/** From this length on, calling copyWithin or set is faster than a loop. */
const COPY_CALL_BYTES = 48;

/**
 * Unpacks a legacy frame that fills `bytes`.
 * @throws Lz4Error  truncated or damaged, or unpacks to more than `maxBytes`
 */
export function decodeLz4Legacy(bytes: Uint8Array, maxBytes = 2 ** 30): Uint8Array {
  if (!isLz4Legacy(bytes)) throw new Lz4Error("data has no LZ4 legacy signature");
  const blocks = splitBlocks(bytes);
  const room = blocks.length * BLOCK_BYTES;
  if (room - BLOCK_BYTES >= maxBytes) throw new Lz4Error(`LZ4 data unpacks to more than ${maxBytes} bytes`);
  const output = arrayToFill(room);
  let produced = 0;
  for (const block of blocks) produced = decodeBlock(block, output, produced);
  return output.subarray(0, produced);
}

function splitBlocks(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const blocks: Uint8Array[] = [];
  for (let at = MAGIC.length; at < bytes.length; ) {
    if (at + 4 > bytes.length) throw new Lz4Error(`LZ4 data ends within a block size at byte ${at}`);
    const packedBytes = view.getUint32(at, true);
    at += 4;
    if (packedBytes === 0 || at + packedBytes > bytes.length) {
      throw new Lz4Error(`LZ4 block at byte ${at} is ${packedBytes} bytes long, expected 1 to ${bytes.length - at}`);
    }
    blocks.push(bytes.subarray(at, at + packedBytes));
    at += packedBytes;
  }
  return blocks;
}

/** @returns where the block's output ends; matches never reach back before `start` */
function decodeBlock(input: Uint8Array, output: Uint8Array, start: number): number {
  const limit = start + BLOCK_BYTES;
  let from = 0;
  let to = start;
  while (from < input.length) {
    const token = input[from++]!;
    let literals = token >> 4;
    if (literals === 15) {
      literals = extendedLength(input, from);
      from += extensionBytes(literals);
    }
    const literalsEnd = from + literals;
    if (literalsEnd > input.length || to + literals > limit) throw new Lz4Error("LZ4 literals run past their block");
    if (literals >= COPY_CALL_BYTES) {
      output.set(input.subarray(from, literalsEnd), to);
      from = literalsEnd;
      to += literals;
    } else while (from < literalsEnd) output[to++] = input[from++]!;
    if (from === input.length) break; // the last sequence has no match
    if (from + 2 > input.length) throw new Lz4Error("LZ4 block ends within an offset");
    const offset = input[from]! | (input[from + 1]! << 8);
    from += 2;
    let length = token & 15;
    if (length === 15) {
      length = extendedLength(input, from);
      from += extensionBytes(length);
    }
    if (offset === 0 || offset > to - start) {
      throw new Lz4Error(`LZ4 match reaches back ${offset} bytes, expected 1 to ${to - start}`);
    }
    const end = to + length + MATCH_MIN_BYTES;
    if (end > limit) throw new Lz4Error("LZ4 match runs past 8 MiB");
    if (end - to >= COPY_CALL_BYTES && offset >= end - to) {
      output.copyWithin(to, to - offset, end - offset);
      to = end;
    } else for (; to < end; to++) output[to] = output[to - offset]!;
  }
  return to;
}

/** A length of 15 or more: bytes are added to 15 up to the first that is not 255. */
function extendedLength(input: Uint8Array, from: number): number {
  for (let at = from; at < input.length; at++) {
    if (input[at] !== 255) return 15 + (at - from) * 255 + input[at]!;
  }
  throw new Lz4Error("LZ4 length runs past its block");
}

/** How many bytes such a length takes. */
const extensionBytes = (length: number): number => Math.floor((length - 15) / 255) + 1;
