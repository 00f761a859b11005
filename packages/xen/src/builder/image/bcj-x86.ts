/**
 * Undoes the x86 branch filter of xz (filter id 4), which turns the relative targets of CALL and JMP into absolute
 * ones so that repeated calls compress. Kernels are compressed with it.
 *
 * A displacement was converted only if its top byte is 00 or FF. As a filter cannot tell opcodes from operands, it
 * remembers which of the last three bytes looked like an opcode and were left alone; decoding must remember the same.
 *
 * @see https://tukaani.org/xz/xz-file-format.txt §5.3.2
 */

const INSTRUCTION_BYTES = 5;

const isSignByte = (byte: number): boolean => byte === 0x00 || byte === 0xff;

/** Converts `bytes`, one whole xz block, in place. */
export function unfilterX86(bytes: Uint8Array): void {
  /** Bit k: an opcode that was left alone stands k + 1 bytes back. */
  let history = 0;
  let at = 0;
  while (at + INSTRUCTION_BYTES <= bytes.length) {
    if ((bytes[at]! & 0xfe) !== 0xe8) {
      history = (history << 1) & 7;
      at++;
    } else if (isConverted(bytes, at, history)) {
      restore(bytes, at, history);
      history = 0;
      at += INSTRUCTION_BYTES;
    } else {
      history = ((history << 1) | 1) & 7;
      at++;
    }
  }
}

/** How many bytes back the only earlier opcode stands; 0 for none. Histories 3, 5, 6 and 7 hold more than one. */
const backOf = (history: number): number => (history === 4 ? 3 : history);

function isConverted(bytes: Uint8Array, at: number, history: number): boolean {
  if (!isSignByte(bytes[at + 4]!)) return false;
  if (history === 0) return true;
  const single = history === 1 || history === 2 || history === 4;
  return single && !isSignByte(bytes[at + 4 - backOf(history)]!);
}

function restore(bytes: Uint8Array, at: number, history: number): void {
  let target = bytes[at + 1]! | (bytes[at + 2]! << 8) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 24);
  let displacement = (target - (at + INSTRUCTION_BYTES)) | 0;
  if (history !== 0) {
    // The filter inverted the low bytes as often as needed for this byte not to look like a sign byte.
    const shift = 24 - backOf(history) * 8;
    while (isSignByte((displacement >>> shift) & 0xff)) {
      target = displacement ^ (2 ** (shift + 8) - 1);
      displacement = (target - (at + INSTRUCTION_BYTES)) | 0;
    }
  }
  bytes[at + 1] = displacement;
  bytes[at + 2] = displacement >> 8;
  bytes[at + 3] = displacement >> 16;
  bytes[at + 4] = displacement & 0x01000000 ? 0xff : 0x00;
}
