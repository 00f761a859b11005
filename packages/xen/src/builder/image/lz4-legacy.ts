/**
 * The LZ4 legacy frame, which kernels use: a magic, then blocks with their compressed size in front, each unpacking
 * to 8 MiB but the last.
 *
 * @see https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md (Legacy frame), lz4_Block_format.md
 */

const BLOCK_BYTES = 8 << 20;
const MAGIC = [0x02, 0x21, 0x4c, 0x18] as const;

/** The data breaks the format's rules, or ends early. */
export class Lz4Error extends Error {
  override readonly name = "Lz4Error";
}

export const isLz4Legacy = (bytes: Uint8Array): boolean => MAGIC.every((byte, i) => bytes[i] === byte);

/**
 * Unpacks a legacy frame that fills `bytes`.
 * @throws Lz4Error  truncated or damaged, or unpacks to more than `maxBytes`
 */
export function decodeLz4Legacy(bytes: Uint8Array, maxBytes = 2 ** 30): Uint8Array {
  if (!isLz4Legacy(bytes)) throw new Lz4Error("data has no LZ4 legacy signature");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const blocks: Uint8Array[] = [];
  let total = 0;
  let at = MAGIC.length;
  while (at < bytes.length) {
    if (at + 4 > bytes.length) throw new Lz4Error(`LZ4 data ends within a block size at byte ${at}`);
    const packedBytes = view.getUint32(at, true);
    at += 4;
    if (at + packedBytes > bytes.length) {
      throw new Lz4Error(`LZ4 block at byte ${at} is ${packedBytes} bytes long, but ${bytes.length - at} are left`);
    }
    const block = decodeBlock(bytes.subarray(at, at + packedBytes));
    total += block.length;
    if (total > maxBytes) throw new Lz4Error(`LZ4 data unpacks to more than ${maxBytes} bytes`);
    blocks.push(block);
    at += packedBytes;
  }
  const output = new Uint8Array(total);
  let offset = 0;
  for (const block of blocks) {
    output.set(block, offset);
    offset += block.length;
  }
  return output;
}

function decodeBlock(input: Uint8Array): Uint8Array {
  const output = new Uint8Array(BLOCK_BYTES);
  let from = 0;
  let to = 0;

  const extended = (nibble: number): number => {
    let length = nibble;
    if (nibble === 15) {
      let byte: number;
      do {
        if (from >= input.length) throw new Lz4Error("LZ4 length runs past its block");
        byte = input[from++]!;
        length += byte;
      } while (byte === 255);
    }
    return length;
  };

  while (from < input.length) {
    const token = input[from++]!;
    const literals = extended(token >> 4);
    if (from + literals > input.length || to + literals > BLOCK_BYTES)
      throw new Lz4Error("LZ4 literals run past their block");
    for (let i = 0; i < literals; i++) output[to++] = input[from++]!;
    if (from === input.length) break; // the last sequence has no match
    if (from + 2 > input.length) throw new Lz4Error("LZ4 block ends within an offset");
    const offset = input[from]! | (input[from + 1]! << 8);
    from += 2;
    const length = extended(token & 15) + 4;
    if (offset === 0 || offset > to) throw new Lz4Error(`LZ4 match reaches back ${offset} bytes, expected 1 to ${to}`);
    if (to + length > BLOCK_BYTES) throw new Lz4Error("LZ4 match runs past 8 MiB");
    for (let i = 0; i < length; i++, to++) output[to] = output[to - offset]!;
  }
  return output.subarray(0, to);
}
