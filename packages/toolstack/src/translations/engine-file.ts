/** A file with an engine's own module: one record, without regions. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { machineCode } from "@xenoserver/xen/host/machine-code/machine-code.ts";
import { decodeHead, encodeRecord, HEAD_BYTES, isBodyWhole, isHeadWhole } from "./record.ts";
import { isOwn, makeFolderOf } from "./translation-file.ts";

export interface FoundEngine {
  readonly module: WebAssembly.Module;
  readonly bytes: Uint8Array;
  readonly codeBytes: number;
}

/** @returns undefined if it is not there, not whole, not this user's alone, or not for this V8 */
export function readEngine(path: string): FoundEngine | undefined {
  try {
    const host = machineCode();
    if (host === undefined || !isOwn(path)) return undefined;
    const record = readFileSync(path);
    const head = decodeHead(record);
    if (head === undefined || head.regionsBytes !== 0 || head.sizeBytes !== record.length) return undefined;
    const sizeBytes = head.moduleBytes + head.codeBytes;
    // Only shared memory stays where it is.
    const body = new Uint8Array(new SharedArrayBuffer(sizeBytes));
    body.set(record.subarray(HEAD_BYTES, HEAD_BYTES + sizeBytes));
    if (!isHeadWhole(head, record) || !isBodyWhole(head, body)) return undefined;
    const bytes = body.subarray(0, head.moduleBytes);
    const module = host.moduleOf(body.subarray(head.moduleBytes), bytes);
    return module && { module, bytes, codeBytes: head.codeBytes };
  } catch {
    return undefined;
  }
}

/** @throws Error  the file system does not take it */
export function writeEngine(path: string, bytes: Uint8Array, code: Uint8Array): void {
  const part = `${path}.${process.pid}.part`;
  makeFolderOf(path);
  try {
    writeFileSync(part, encodeRecord({ regions: new Int32Array(0), bytes, code }), { mode: 0o600 });
    renameSync(part, path);
  } catch (error) {
    rmSync(part, { force: true });
    throw error;
  }
}
