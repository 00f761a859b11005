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
  readonly modules: readonly PlacedModule[];
  readonly rsdp: Gpa;
  readonly memoryMap: readonly MemoryRange[];
}

/** What the kernel is handed beside its own image: a ramdisk; or, for Xen itself, the kernel that it is to run and its ramdisk. */
export interface PlacedModule {
  readonly at: Gpa;
  readonly sizeBytes: number;
  readonly cmdline?: Uint8Array;
}

interface Lengths extends Pick<StartInfoConfig, "memoryMap" | "cmdline"> {
  readonly modules: readonly Pick<PlacedModule, "cmdline">[];
}

/** Offsets of the parts from the start of the record. */
function offsets({ memoryMap, cmdline, modules }: Lengths) {
  const modlist = 64;
  const memmap = modlist + modules.length * HVM_MODLIST_ENTRY_BYTES;
  let end = memmap + memoryMap.length * HVM_MEMMAP_ENTRY_BYTES;
  const texts = [cmdline, ...modules.map((module) => module.cmdline)].map((text) => {
    const at = end;
    if (text !== undefined) end += text.length + 1;
    return at;
  });
  return { modlist, memmap, cmdline: texts[0]!, moduleCmdlines: texts.slice(1), end };
}

export function startInfoBytes(config: Lengths): number {
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
  if (config.modules.length > 0) {
    view.setUint32(HvmStartInfo.nr_modules, config.modules.length, true);
    set64(HvmStartInfo.modlist_paddr, at + part.modlist);
  }
  config.modules.forEach((module, n) => {
    const entry = part.modlist + n * HVM_MODLIST_ENTRY_BYTES;
    set64(entry, module.at);
    set64(entry + 8, module.sizeBytes);
    if (module.cmdline === undefined) return;
    set64(entry + 16, at + part.moduleCmdlines[n]!);
    bytes.set(module.cmdline, part.moduleCmdlines[n]!);
  });
  bytes.set(config.cmdline, part.cmdline);
  return bytes;
}
