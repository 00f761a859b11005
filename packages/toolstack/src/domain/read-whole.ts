import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { arrayToFill } from "@xenoserver/xen/host/huge-pages.ts";

/** As readFileSync, which does not let its memory be chosen. */
export function readWhole(path: string): Uint8Array {
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file);
    const bytes = arrayToFill(size);
    let length = 0;
    for (let count = -1; count !== 0; length += count) count = readSync(file, bytes, length, size - length, null);
    return bytes.subarray(0, length);
  } finally {
    closeSync(file);
  }
}
