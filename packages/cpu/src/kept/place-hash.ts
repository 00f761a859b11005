/** Bytes from a place on that its number is made of; fewer at the end of a page. */
const HASHED_BYTES = 16;

/**
 * A number for a place in code by what is there, whatever the address.
 * @param bytes   with the place's page in it
 * @param page    where in `bytes` that begins
 * @param offset  of the place in the page
 */
export function hashPlace(bytes: Uint8Array, page: number, offset: number): number {
  const end = page + Math.min(offset + HASHED_BYTES, 4096);
  let hash = Math.imul(offset + 1, 0x9e3779b1);
  for (let at = page + offset; at < end; at++) hash = Math.imul(hash ^ bytes[at], 0x01000193) ^ (hash >>> 15);
  return hash | 0;
}
