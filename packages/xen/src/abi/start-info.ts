/** @see xen/include/public/arch-x86/hvm/start_info.h */
export const XEN_HVM_START_MAGIC_VALUE = 0x336ec578;

/** Byte offsets inside `hvm_start_info` version 1. */
export const HvmStartInfo = {
  magic: 0,
  version: 4,
  flags: 8,
  nr_modules: 12,
  modlist_paddr: 16,
  cmdline_paddr: 24,
  rsdp_paddr: 32,
  memmap_paddr: 40,
  memmap_entries: 48,
  bytes: 56,
} as const;

/** u64 paddr, u64 size, u64 cmdline_paddr, u64 reserved. */
export const HVM_MODLIST_ENTRY_BYTES = 32;
/** u64 addr, u64 size, u32 type, u32 reserved. */
export const HVM_MEMMAP_ENTRY_BYTES = 24;

export const MemmapType = { ram: 1, reserved: 2, acpi: 3, nvs: 4, unusable: 5 } as const;
export type MemmapType = (typeof MemmapType)[keyof typeof MemmapType];
