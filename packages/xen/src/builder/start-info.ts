/** The record that a PVH kernel finds in EBX, with the lists that it points to. */
import type { Gpa } from "@xenoserver/cpu";
import {
  HVM_MEMMAP_ENTRY_BYTES,
  HVM_MODLIST_ENTRY_BYTES,
  HvmStartInfo,
  XEN_HVM_START_MAGIC_VALUE,
} from "../abi/start-info.ts";
import type { MemoryRange } from "./memory-map.ts";

export interface StartInfoConfig {
  readonly cmdline: Uint8Array;
  readonly ramdisk?: { readonly at: Gpa; readonly sizeBytes: number };
  readonly rsdp: Gpa;
  readonly memoryMap: readonly MemoryRange[];
}

/** Offsets of the parts from the start of the record. */
function offsets(config: Pick<StartInfoConfig, "memoryMap" | "cmdline">) {
  const modlist = 64;
  const memmap = modlist + HVM_MODLIST_ENTRY_BYTES;
  const cmdline = memmap + config.memoryMap.length * HVM_MEMMAP_ENTRY_BYTES;
  return { modlist, memmap, cmdline, end: cmdline + config.cmdline.length + 1 };
}

export function startInfoBytes(config: Pick<StartInfoConfig, "memoryMap" | "cmdline">): number {
  return offsets(config).end;
}

/** The record and its lists as bytes, to be put at `at`. */
export function encodeStartInfo(at: Gpa, config: StartInfoConfig): Uint8Array {
  const part = offsets(config);
  const bytes = new Uint8Array(part.end);
  const view = new DataView(bytes.buffer);
  const set64 = (offset: number, value: number): void => {
    view.setUint32(offset, value % 0x1_0000_0000, true);
    view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
  };
  view.setUint32(HvmStartInfo.magic, XEN_HVM_START_MAGIC_VALUE, true);
  view.setUint32(HvmStartInfo.version, 1, true);
  set64(HvmStartInfo.cmdline_paddr, at + part.cmdline);
  set64(HvmStartInfo.rsdp_paddr, config.rsdp);
  set64(HvmStartInfo.memmap_paddr, at + part.memmap);
  view.setUint32(HvmStartInfo.memmap_entries, config.memoryMap.length, true);
  config.memoryMap.forEach((range, n) => {
    const entry = part.memmap + n * HVM_MEMMAP_ENTRY_BYTES;
    set64(entry, range.start);
    set64(entry + 8, range.sizeBytes);
    view.setUint32(entry + 16, range.type, true);
  });
  if (config.ramdisk !== undefined) {
    view.setUint32(HvmStartInfo.nr_modules, 1, true);
    set64(HvmStartInfo.modlist_paddr, at + part.modlist);
    set64(part.modlist, config.ramdisk.at);
    set64(part.modlist + 8, config.ramdisk.sizeBytes);
  }
  bytes.set(config.cmdline, part.cmdline);
  return bytes;
}
