/** @see xen/include/public/vcpu.h */
export const VcpuOp = {
  initialise: 0,
  up: 1,
  down: 2,
  is_up: 3,
  get_runstate_info: 4,
  register_runstate_memory_area: 5,
  set_periodic_timer: 6,
  stop_periodic_timer: 7,
  set_singleshot_timer: 8,
  stop_singleshot_timer: 9,
  register_vcpu_info: 10,
  send_nmi: 11,
  get_physid: 12,
  register_vcpu_time_memory_area: 13,
} as const;

export const VCPU_SSHOTTMR_future = 1;

export const Runstate = { running: 0, runnable: 1, blocked: 2, offline: 3 } as const;
export type Runstate = (typeof Runstate)[keyof typeof Runstate];
/** Bytes of `vcpu_runstate_info`: 64-bit guests align the times to 8, 32-bit ones to 4. */
export const RUNSTATE_INFO_BYTES_64 = 48;
export const RUNSTATE_INFO_BYTES_32 = 44;
