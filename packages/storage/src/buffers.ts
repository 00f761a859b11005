/** Lists of buffers as one run of bytes. */

/** The part of a list from byte `start` on, as views. */
export function sliceBuffers(buffers: readonly Uint8Array[], start: number, lengthBytes: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let skip = start;
  let left = lengthBytes;
  for (const buffer of buffers) {
    if (left === 0) break;
    if (skip >= buffer.length) {
      skip -= buffer.length;
      continue;
    }
    const part = buffer.subarray(skip, Math.min(buffer.length, skip + left));
    parts.push(part);
    left -= part.length;
    skip = 0;
  }
  return parts;
}

/** Copies `from` over the beginning of a list. */
export function fillBuffers(buffers: readonly Uint8Array[], from: Uint8Array): void {
  let at = 0;
  for (const buffer of buffers) {
    buffer.set(from.subarray(at, at + buffer.length));
    at += buffer.length;
  }
}

export function zeroBuffers(buffers: readonly Uint8Array[]): void {
  for (const buffer of buffers) buffer.fill(0);
}

/** A copy in one piece: of memory that others may be changing, so that it can be looked at twice. */
export function joinBuffers(buffers: readonly Uint8Array[], lengthBytes: number): Uint8Array {
  const joined = new Uint8Array(lengthBytes);
  let at = 0;
  for (const buffer of buffers) {
    joined.set(buffer, at);
    at += buffer.length;
  }
  return joined;
}
