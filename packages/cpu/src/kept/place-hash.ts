/** Bytes from a place on that its number is made of; fewer at the end of a page. */
const HASHED_BYTES = 16;

/**
 * A number for a place in code by what is there, whatever the address.
 * @param bytes   with the place's page in it
 * @param page    where in `bytes` that begins
 * @param offset  of the place in the page
 */
export function hashPlace(bytes: Uint8Array, page: number, offset: number): number {
  const size = Math.min(HASHED_BYTES, 4096 - offset);
  return hashBytes(bytes, page + offset, size, Math.imul(offset + 1, 0x9e3779b1));
}

/** @param hash  of what lies before */
export function hashBytes(bytes: Uint8Array, from: number, size: number, hash: number): number {
  let next = hash;
  for (let at = from; at < from + size; at++) next = Math.imul(next ^ bytes[at], 0x01000193) ^ (next >>> 15);
  return next | 0;
}
