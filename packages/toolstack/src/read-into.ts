import { readSync } from "node:fs";

/** Fills an array from a place in a file on. @returns how many bytes there were: fewer only where the file ends */
export function readInto(file: number, bytes: Uint8Array, from: number): number {
  let at = 0;
  for (let count = -1; count !== 0 && at < bytes.length; at += count)
    count = readSync(file, bytes, at, bytes.length - at, from + at);
  return at;
}
