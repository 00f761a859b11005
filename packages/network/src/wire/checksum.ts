/** The Internet checksum: the ones' complement of the ones' complement sum of 16-bit words (RFC 1071). */

/**
 * Adds the words of a stretch, the last one padded with zero if it is half.
 * @param sum  what was added up before, folded or not
 */
export function addWords(bytes: Uint8Array, from: number, to: number, sum = 0): number {
  let total = sum;
  let at = from;
  for (const end = to - 1; at < end; at += 2) total += (bytes[at] << 8) | bytes[at + 1];
  return at < to ? total + (bytes[at] << 8) : total;
}

/** Folds carries in until 16 bits are left. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

/** What a checksum field holds for a sum; 0 stays possible. */
export const complement = (sum: number): number => ~fold(sum) & 0xffff;

/**
 * The sum of TCP's and UDP's pseudo-header.
 * @param addressesAt   where the source address starts, the destination's behind it
 * @param addressBytes  4 or 16, of each
 */
export function pseudoSum(
  bytes: Uint8Array,
  addressesAt: number,
  addressBytes: number,
  protocol: number,
  lengthBytes: number,
): number {
  return addWords(bytes, addressesAt, addressesAt + 2 * addressBytes, protocol + lengthBytes);
}
