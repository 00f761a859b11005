/** HYPERVISOR_event_channel_op */
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { EvtchnOp, EvtchnStatus, FIFO_LINK_BITS } from "../abi/event-channel.ts";
import {
  allocUnbound,
  bindInterdomain,
  bindIpi,
  bindVcpu,
  bindVirq,
  closePort,
  portStatus,
  resetPorts,
  setPriority,
} from "../evtchn/bind.ts";
import { expandArray, initControl } from "../evtchn/fifo-setup.ts";
import { isOpenPort } from "../evtchn/ports.ts";
import { sendFromGuest, unmask } from "../evtchn/send.ts";
import { GuestStruct, type HypercallArgs, type HypercallContext, isSelf, logOnce } from "./context.ts";

type Operation = (ctx: HypercallContext, op: GuestStruct) => HypercallResult;

/** Stores a new port into the structure; without it the guest could never close the port, so it is closed again. */
function givePort(ctx: HypercallContext, op: GuestStruct, at: number, port: number): HypercallResult {
  if (port < 0) return port;
  op.setU32(at, port);
  if (op.store()) return 0;
  closePort(ctx.domain, port);
  return -Errno.EFAULT;
}

function status(ctx: HypercallContext, op: GuestStruct): HypercallResult {
  if (!isSelf(ctx, op.u16(0))) return -Errno.EPERM;
  const found = portStatus(ctx.domain, op.u32(4));
  if (found === undefined) return -Errno.EINVAL;
  op.setU32(8, found.status);
  op.setU32(12, found.vcpu);
  op.setU32(16, 0);
  op.setU32(20, 0);
  if (found.status === EvtchnStatus.unbound) op.setU16(16, found.remote);
  if (found.status === EvtchnStatus.interdomain) {
    op.setU16(16, found.remote);
    op.setU32(20, found.remotePort);
  }
  if (found.status === EvtchnStatus.virq) op.setU32(16, found.remote);
  return op.store() ? 0 : -Errno.EFAULT;
}

function unmaskPort(ctx: HypercallContext, op: GuestStruct): HypercallResult {
  const port = op.u32(0);
  if (!isOpenPort(ctx.domain, port)) return -Errno.EINVAL;
  unmask(ctx.domain, port);
  return 0;
}

function initControlBlock(ctx: HypercallContext, op: GuestStruct): HypercallResult {
  const result = initControl(ctx.domain, op.u64(0), op.u32(8), op.u32(12));
  if (result !== 0) return result;
  op.view.setUint8(16, FIFO_LINK_BITS);
  return op.store() ? 0 : -Errno.EFAULT;
}

/** Length of each operation's structure in bytes (the same in both ABIs), and what it does. */
const operations = new Map<number, readonly [lengthBytes: number, run: Operation]>([
  [EvtchnOp.alloc_unbound, [8, (ctx, op) => givePort(ctx, op, 4, allocUnbound(ctx.domain, op.u16(0), op.u16(2)))]],
  [
    EvtchnOp.bind_interdomain,
    [12, (ctx, op) => givePort(ctx, op, 8, bindInterdomain(ctx.domain, op.u16(0), op.u32(4)))],
  ],
  [EvtchnOp.bind_virq, [12, (ctx, op) => givePort(ctx, op, 8, bindVirq(ctx.domain, op.u32(0), op.u32(4)))]],
  [EvtchnOp.bind_ipi, [8, (ctx, op) => givePort(ctx, op, 4, bindIpi(ctx.domain, op.u32(0)))]],
  [EvtchnOp.close, [4, (ctx, op) => closePort(ctx.domain, op.u32(0))]],
  [EvtchnOp.send, [4, (ctx, op) => sendFromGuest(ctx.domain, op.u32(0))]],
  [EvtchnOp.status, [24, status]],
  [EvtchnOp.bind_vcpu, [8, (ctx, op) => bindVcpu(ctx.domain, op.u32(0), op.u32(4))]],
  [EvtchnOp.unmask, [4, unmaskPort]],
  [EvtchnOp.reset, [2, (ctx, op) => (isSelf(ctx, op.u16(0)) ? resetPorts(ctx.domain) : -Errno.EPERM)]],
  [EvtchnOp.init_control, [24, initControlBlock]],
  [EvtchnOp.expand_array, [8, (ctx, op) => expandArray(ctx.domain, op.u64(0))]],
  [EvtchnOp.set_priority, [8, (ctx, op) => setPriority(ctx.domain, op.u32(0), op.u32(4))]],
]);

export function eventChannelOp(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0);
  const operation = operations.get(command);
  if (operation === undefined) {
    logOnce(ctx, `dom${ctx.domain.domid}: event_channel_op ${command} is not implemented`);
    return -Errno.ENOSYS;
  }
  const [lengthBytes, run] = operation;
  const op = GuestStruct.load(ctx, args.pointer(1), lengthBytes, args.is64);
  return op === undefined ? -Errno.EFAULT : run(ctx, op);
}
