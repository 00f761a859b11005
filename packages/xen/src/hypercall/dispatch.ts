/** From a hypercall number to its implementation. */
import { Gpr } from "@xenoserver/cpu";
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { Hypercall } from "../abi/xen.ts";
import { consoleIo } from "./console-io.ts";
import { HypercallArgs, type HypercallContext, logOnce } from "./context.ts";
import { eventChannelOp } from "./event-channel-op.ts";
import { grantTableOp } from "./grant-table-op.ts";
import { hvmOp } from "./hvm-op.ts";
import { memoryOp } from "./memory-op.ts";
import { multicall } from "./multicall.ts";
import { schedOp } from "./sched-op.ts";
import { setTimerOp } from "./set-timer-op.ts";
import { vcpuOp } from "./vcpu-op.ts";
import { vmAssist } from "./vm-assist.ts";
import { xenVersion } from "./xen-version.ts";

/**
 * One hypercall: takes its arguments, returns 0, a positive value or a negated errno. Never throws, whatever a guest
 * passes, and takes bounded time and memory.
 */
export type HypercallHandler = (ctx: HypercallContext, args: HypercallArgs) => HypercallResult;

const handlers = new Map<number, HypercallHandler>([
  [Hypercall.memory_op, memoryOp],
  [Hypercall.multicall, (ctx, args) => multicall(ctx, args, call)],
  [Hypercall.set_timer_op, setTimerOp],
  [Hypercall.xen_version, xenVersion],
  [Hypercall.console_io, consoleIo],
  [Hypercall.grant_table_op, grantTableOp],
  [Hypercall.vm_assist, vmAssist],
  [Hypercall.vcpu_op, vcpuOp],
  [Hypercall.sched_op, schedOp],
  [Hypercall.event_channel_op, eventChannelOp],
  [Hypercall.hvm_op, hvmOp],
]);

function call(ctx: HypercallContext, number: number, args: HypercallArgs): HypercallResult {
  const handler = handlers.get(number);
  if (handler !== undefined) return handler(ctx, args);
  logOnce(ctx, `dom${ctx.domain.domid} vcpu${ctx.vcpu.id}: hypercall ${number} is not implemented`);
  return -Errno.ENOSYS;
}

/** Executes the hypercall that the vcpu's registers ask for and puts the result into RAX. */
export function executeHypercall(ctx: HypercallContext): void {
  const { vcpu } = ctx;
  const is64 = vcpu.is64;
  const tooBig = is64 && vcpu.gprHi(Gpr.rax) !== 0;
  const number = tooBig ? -1 : vcpu.gprLo(Gpr.rax);
  // User code must not reach the hypervisor past its kernel.
  const result = vcpu.cpl !== 0 ? -Errno.EPERM : call(ctx, number, HypercallArgs.fromRegisters(vcpu));
  const hi = is64 && result < 0 ? 0xffffffff : 0;
  vcpu.setGpr(Gpr.rax, result >>> 0, hi);
}
