/** @see xen/include/public/version.h, features.h */
export const XenVer = {
  version: 0,
  extraversion: 1,
  compile_info: 2,
  capabilities: 3,
  changeset: 4,
  platform_parameters: 5,
  get_features: 6,
  pagesize: 7,
  guest_handle: 8,
  commandline: 9,
  build_id: 10,
} as const;

export const XenFeat = {
  writable_page_tables: 0,
  auto_translated_physmap: 2,
  hvm_callback_vector: 8,
  hvm_safe_pvclock: 9,
  not_direct_mapped: 16,
} as const;

/** The interface version that the hypervisor speaks. */
export const XEN_MAJOR = 4;
export const XEN_MINOR = 17;
