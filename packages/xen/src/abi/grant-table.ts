/** @see xen/include/public/grant_table.h */

/** An index into a domain's grant table. */
export type GrantRef = number & { readonly __brand: "GrantRef" };

export const GnttabOp = {
  map_grant_ref: 0,
  unmap_grant_ref: 1,
  setup_table: 2,
  dump_table: 3,
  transfer: 4,
  copy: 5,
  query_size: 6,
  unmap_and_replace: 7,
  set_version: 8,
  get_status_frames: 9,
  get_version: 10,
  swap_grant_ref: 11,
  cache_flush: 12,
} as const;

/** A version 1 entry: u16 flags, u16 domid, u32 frame. */
export const GRANT_ENTRY_V1_BYTES = 8;
export const GRANT_ENTRIES_PER_FRAME = 512;

export const GTF_type_mask = 3;
export const GTF_invalid = 0;
export const GTF_permit_access = 1;
export const GTF_accept_transfer = 2;
export const GTF_readonly = 1 << 2;
export const GTF_reading = 1 << 3;
export const GTF_writing = 1 << 4;
export const GTF_sub_page = 1 << 8;

export const GNTTAB_RESERVED_CONSOLE = 0 as GrantRef;
export const GNTTAB_RESERVED_XENSTORE = 1 as GrantRef;

/** The `status` field of a grant operation. */
export const Gntst = {
  okay: 0,
  general_error: -1,
  bad_domain: -2,
  bad_gntref: -3,
  bad_handle: -4,
  bad_virt_addr: -5,
  bad_dev_addr: -6,
  no_device_space: -7,
  permission_denied: -8,
  bad_page: -9,
  bad_copy_arg: -10,
  address_too_big: -11,
  eagain: -12,
  no_space: -13,
} as const;
export type Gntst = (typeof Gntst)[keyof typeof Gntst];
