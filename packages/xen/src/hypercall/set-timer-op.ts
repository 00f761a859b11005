/** HYPERVISOR_set_timer_op: the older form of the single-shot timer. */
import type { HypercallResult } from "../abi/errno.ts";
import { setSingleshot } from "../time/timers.ts";
import { type HypercallArgs, type HypercallContext, recordOf } from "./context.ts";

export function setTimerOp(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  // In the 32-bit ABI the 64-bit timeout takes two arguments.
  const lo = args.u32(0);
  const hi = args.is64 ? args.hi(0) : args.u32(1);
  const timeoutNs = (hi | 0) * 0x1_0000_0000 + lo;
  setSingleshot(recordOf(ctx), timeoutNs === 0 ? Infinity : timeoutNs);
  return 0;
}
