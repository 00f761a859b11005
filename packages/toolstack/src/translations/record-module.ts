import { machineCode } from "@xenoserver/xen/host/machine-code/machine-code.ts";
import { isBodyWhole, type RecordHead } from "./record.ts";

/**
 * A record's module, without compiling it.
 * @param body  its bytes and machine code, in memory that stays where it is
 * @returns undefined if they are not as they were written, or not for this V8
 */
export function moduleOf(head: RecordHead, body: Uint8Array<SharedArrayBuffer>): WebAssembly.Module | undefined {
  if (!isBodyWhole(head, body)) return undefined;
  return machineCode()?.moduleOf(body.subarray(head.moduleBytes), body.subarray(0, head.moduleBytes));
}
