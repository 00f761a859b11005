/** A file with an engine's own module: one record, without regions. */
import { readFileSync } from "node:fs";
import { isOwn, makeFolderOf, replaceFile } from "../own-file.ts";
import { decodeHead, encodeRecord, HEAD_BYTES, isHeadWhole } from "./record.ts";
import { moduleOf } from "./record-module.ts";

export interface FoundEngine {
  readonly module: WebAssembly.Module;
  readonly bytes: Uint8Array;
  readonly codeBytes: number;
}

/** @returns undefined if it is not there, not whole, not this user's alone, or not for this V8 */
export function readEngine(path: string): FoundEngine | undefined {
  try {
    if (!isOwn(path)) return undefined;
    const record = readFileSync(path);
    const head = decodeHead(record);
    if (head === undefined || head.regionsBytes !== 0 || head.sizeBytes !== record.length) return undefined;
    const sizeBytes = head.moduleBytes + head.codeBytes;
    // Only shared memory stays where it is.
    const body = new Uint8Array(new SharedArrayBuffer(sizeBytes));
    body.set(record.subarray(HEAD_BYTES, HEAD_BYTES + sizeBytes));
    const module = isHeadWhole(head, record) ? moduleOf(head, body) : undefined;
    return module && { module, bytes: body.subarray(0, head.moduleBytes), codeBytes: head.codeBytes };
  } catch {
    return undefined;
  }
}

/** @throws Error  the file system does not take it */
export function writeEngine(path: string, bytes: Uint8Array, code: Uint8Array): void {
  makeFolderOf(path);
  replaceFile(path, [encodeRecord({ regions: new Int32Array(0), bytes, code })]);
}
