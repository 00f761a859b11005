/** HYPERVISOR_sched_op. Blocking itself happens in the vcpu's loop, so that a blocked vcpu can be paused and saved. */
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { POLL_MAX_PORTS, SchedOp, SHUTDOWN_MAX, type ShutdownReason } from "../abi/sched.ts";
import { BlockKind, Field, VcpuField } from "../domain/layout.ts";
import { isOpenPort } from "../evtchn/ports.ts";
import { isPending } from "../evtchn/send.ts";
import { GuestStruct, type HypercallArgs, type HypercallContext, logOnce, recordOf } from "./context.ts";

/** A vcpu that yields most often waits for a backend; let that thread have the processor. */
const YIELD_MS = 0.05;

export function schedOp(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0);
  switch (command) {
    case SchedOp.yield: {
      const record = recordOf(ctx);
      record.wait(record.doorbell, YIELD_MS);
      return 0;
    }
    case SchedOp.block:
      recordOf(ctx).set(VcpuField.block, BlockKind.block);
      return 0;
    case SchedOp.shutdown:
      return shutdown(ctx, args, (reason) => ctx.domain.shutDown(reason));
    case SchedOp.shutdown_code:
      return shutdown(ctx, args, (reason) => {
        Atomics.compareExchange(ctx.domain.i32, Field.shutdownCode, 0, reason + 1);
      });
    case SchedOp.poll:
      return poll(ctx, args);
    default:
      logOnce(ctx, `dom${ctx.domain.domid}: sched_op ${command} is not implemented`);
      return -Errno.ENOSYS;
  }
}

function shutdown(ctx: HypercallContext, args: HypercallArgs, act: (reason: ShutdownReason) => void): HypercallResult {
  const info = GuestStruct.load(ctx, args.pointer(1), 4, args.is64);
  if (info === undefined) return -Errno.EFAULT;
  const reason = info.u32(0);
  if (reason > SHUTDOWN_MAX) return -Errno.EINVAL;
  act(reason as ShutdownReason);
  return 0;
}

/** Sleeps until one of the ports is pending or the time is up; the guest looks itself which it was. */
function poll(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const { domain } = ctx;
  const request = GuestStruct.load(ctx, args.pointer(1), args.is64 ? 24 : 16, args.is64);
  if (request === undefined) return -Errno.EFAULT;
  const count = request.u32(args.is64 ? 8 : 4);
  const timeoutNs = request.u64(args.is64 ? 16 : 8);
  if (count > POLL_MAX_PORTS) return -Errno.EINVAL;
  const list = count === 0 ? undefined : GuestStruct.load(ctx, request.pointer(0), count * 4, args.is64);
  if (count > 0 && list === undefined) return -Errno.EFAULT;
  const ports = Array.from({ length: count }, (_, n) => list!.u32(n * 4));
  if (!ports.every((port) => isOpenPort(domain, port))) return -Errno.EINVAL;

  const record = recordOf(ctx);
  record.setF64(VcpuField.pollDeadlineNsF64, timeoutNs === 0 ? Infinity : timeoutNs);
  record.set(VcpuField.pollPort, count === 1 ? ports[0] : -1);
  // 1. announce the poll, 2. look at the ports: an event between the two ends the poll again.
  record.set(VcpuField.block, BlockKind.poll);
  if (ports.some((port) => isPending(domain, port))) record.set(VcpuField.block, BlockKind.none);
  return 0;
}
