/** @see xen/include/public/sched.h */
export const SchedOp = {
  yield: 0,
  block: 1,
  shutdown: 2,
  poll: 3,
  remote_shutdown: 4,
  shutdown_code: 5,
  watchdog: 6,
  pin_override: 7,
} as const;

/** Ports that one poll may name. */
export const POLL_MAX_PORTS = 128;

export const ShutdownReason = {
  poweroff: 0,
  reboot: 1,
  suspend: 2,
  crash: 3,
  watchdog: 4,
  soft_reset: 5,
} as const;
export type ShutdownReason = (typeof ShutdownReason)[keyof typeof ShutdownReason];
export const SHUTDOWN_MAX = 5;

/** The field's name for a reason, as `xl` prints it. */
export function shutdownReasonName(reason: number): string {
  const entry = Object.entries(ShutdownReason).find(([, value]) => value === reason);
  return entry === undefined ? `reason ${reason}` : entry[0];
}
