/** @see xen/include/public/memory.h */
export const XenMem = {
  increase_reservation: 0,
  decrease_reservation: 1,
  maximum_ram_page: 2,
  current_reservation: 3,
  maximum_reservation: 4,
  populate_physmap: 6,
  add_to_physmap: 7,
  memory_map: 9,
  set_memory_map: 13,
  maximum_gpfn: 14,
  remove_from_physmap: 15,
  add_to_physmap_batch: 23,
} as const;

/** Low bits of the memory_op command; the rest count how far a preempted call got. */
export const MEMOP_CMD_MASK = 0x3f;

export const XenMapSpace = {
  shared_info: 0,
  grant_table: 1,
  gmfn: 2,
  gmfn_range: 3,
  gmfn_foreign: 4,
} as const;

/** Set in the index of a grant-table page to ask for the (version 2) status frames. */
export const XENMAPIDX_grant_table_status = 0x80000000;

/** An E820 entry: u64 base, u64 size, u32 type, packed. */
export const E820_ENTRY_BYTES = 20;
