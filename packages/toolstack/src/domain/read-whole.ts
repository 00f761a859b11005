import { closeSync, fstatSync, openSync } from "node:fs";
import { arrayToFill } from "@xenoserver/xen/host/huge-pages.ts";
import { readInto } from "../read-into.ts";

/** As readFileSync, which does not let its memory be chosen. */
export function readWhole(path: string): Uint8Array {
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file);
    const bytes = arrayToFill(size);
    return bytes.subarray(0, readInto(file, bytes, 0));
  } finally {
    closeSync(file);
  }
}
