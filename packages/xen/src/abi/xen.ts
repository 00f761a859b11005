/**
 * Hypercall numbers, virtual interrupts, domain ids and the shared information page.
 * @see xen/include/public/xen.h, arch-x86/xen.h
 */

/** A domain's number; 0 is the host's backends. */
export type DomId = number & { readonly __brand: "DomId" };

export const DOMID_FIRST_RESERVED = 0x7ff0;
export const DOMID_SELF = 0x7ff0 as DomId;
/** The domain that the host's backends act as. */
export const DOMID_BACKEND = 0 as DomId;

export const Hypercall = {
  memory_op: 12,
  multicall: 13,
  set_timer_op: 15,
  xen_version: 17,
  console_io: 18,
  grant_table_op: 20,
  vm_assist: 21,
  vcpu_op: 24,
  sched_op: 29,
  event_channel_op: 32,
  physdev_op: 33,
  hvm_op: 34,
} as const;

/** Numbers above this have no hypercall; the hypercall page has one 32-byte stub for each number below. */
export const HYPERCALL_PAGE_STUBS = 64;
export const HYPERCALL_STUB_BYTES = 32;
/** The one number whose stub must trap: `iret` is for classic PV guests. */
export const HYPERCALL_IRET = 23;

export const Virq = { TIMER: 0, DEBUG: 1, XENOPROF: 7, ARGO: 11, XENPMU: 13 } as const;
export const NR_VIRQS = 24;
/** Virtual interrupts that every vcpu has its own of; the others are global to the domain. */
export const PER_VCPU_VIRQS: readonly number[] = [Virq.TIMER, Virq.DEBUG, Virq.XENOPROF, Virq.XENPMU];

export const VMASST_CMD_enable = 0;
export const VMASST_CMD_disable = 1;
export const VMASST_TYPE_runstate_update_flag = 5;

export const CONSOLEIO_write = 0;
export const CONSOLEIO_read = 1;

/** Vcpus whose `vcpu_info` can lie in the shared information page. */
export const XEN_LEGACY_MAX_VCPUS = 32;
export const VCPU_INFO_BYTES = 64;

/** Byte offsets inside `vcpu_info`; the fields that differ by word size are in `SharedInfoLayout`. */
export const VcpuInfo = { evtchn_upcall_pending: 0, time: 32 } as const;

/** Byte offsets inside `vcpu_time_info`, 32 bytes, the same in both word sizes. */
export const VcpuTimeInfo = {
  version: 0,
  tsc_timestamp: 8,
  system_time: 16,
  tsc_to_system_mul: 24,
  tsc_shift: 28,
  flags: 29,
  bytes: 32,
} as const;
export const PVCLOCK_TSC_STABLE_BIT = 1;
/** The vcpu stood still; the guest clears it. */
export const PVCLOCK_GUEST_STOPPED = 2;

/** Byte offsets inside `shared_info` and `vcpu_info` for one guest word size. */
export interface SharedInfoLayout {
  /** Bytes of an `unsigned long`. */
  readonly ulongBytes: 4 | 8;
  /** Ports that the two-level bitmaps hold. */
  readonly nrPorts: number;
  readonly evtchn_pending: number;
  readonly evtchn_mask: number;
  readonly wc_version: number;
  readonly wc_sec: number;
  readonly wc_nsec: number;
  readonly wc_sec_hi: number;
  /** Inside `vcpu_info`. */
  readonly evtchn_pending_sel: number;
}

export const SHARED_INFO_64: SharedInfoLayout = {
  ulongBytes: 8,
  nrPorts: 4096,
  evtchn_pending: 2048,
  evtchn_mask: 2560,
  wc_version: 3072,
  wc_sec: 3076,
  wc_nsec: 3080,
  wc_sec_hi: 3084,
  evtchn_pending_sel: 8,
};

export const SHARED_INFO_32: SharedInfoLayout = {
  ulongBytes: 4,
  nrPorts: 1024,
  evtchn_pending: 2048,
  evtchn_mask: 2176,
  wc_version: 2304,
  wc_sec: 2308,
  wc_nsec: 2312,
  // arch_shared_info follows the wall clock: six 32-bit fields, then wc_sec_hi.
  wc_sec_hi: 2340,
  evtchn_pending_sel: 4,
};
