/** HYPERVISOR_hvm_op */
import type { Gfn } from "@xenoserver/cpu";
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { CallbackVia, HVM_NR_PARAMS, HvmMemType, HvmOp, HvmParam } from "../abi/hvm.ts";
import { Field, VcpuField } from "../domain/layout.ts";
import { assertUpcall, isUpcallPending } from "../evtchn/upcall.ts";
import { publishWallClock } from "../time/wallclock.ts";
import { GuestStruct, type HypercallArgs, type HypercallContext, isSelf, logOnce } from "./context.ts";

/** What a guest may read; the rest is the toolstack's. */
const READABLE: readonly number[] = [
  HvmParam.CALLBACK_IRQ,
  HvmParam.STORE_PFN,
  HvmParam.STORE_EVTCHN,
  HvmParam.CONSOLE_PFN,
  HvmParam.CONSOLE_EVTCHN,
];
/** What a guest may write once, if the toolstack left it zero. */
const WRITE_ONCE: readonly number[] = [HvmParam.STORE_EVTCHN, HvmParam.CONSOLE_EVTCHN];

export function hvmOp(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0);
  switch (command) {
    case HvmOp.set_param:
      return setParam(ctx, args);
    case HvmOp.get_param:
      return getParam(ctx, args);
    case HvmOp.pagetable_dying:
      // Only shadow paging has a use for the hint; guests ask once whether it is there.
      return -Errno.ENOSYS;
    case HvmOp.get_time:
      return getTime(ctx, args);
    case HvmOp.get_mem_type:
      return getMemType(ctx, args);
    case HvmOp.set_evtchn_upcall_vector:
      return setUpcallVector(ctx, args);
    default:
      logOnce(ctx, `dom${ctx.domain.domid}: hvm_op ${command} is not implemented`);
      return -Errno.ENOSYS;
  }
}

/** xen_hvm_param: u16 domid, u16 pad, u32 index, u64 value; the same in both ABIs. */
function loadParam(ctx: HypercallContext, args: HypercallArgs): GuestStruct | number {
  const param = GuestStruct.load(ctx, args.pointer(1), 16, args.is64);
  if (param === undefined) return -Errno.EFAULT;
  if (!isSelf(ctx, param.u16(0))) return -Errno.EPERM;
  return param.u32(4) >= HVM_NR_PARAMS ? -Errno.EINVAL : param;
}

function getParam(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const param = loadParam(ctx, args);
  if (typeof param === "number") return param;
  const index = param.u32(4);
  if (!READABLE.includes(index)) return -Errno.EPERM;
  const value = ctx.domain.hvmParam(index);
  param.setU32(8, value.lo);
  param.setU32(12, value.hi);
  return param.store() ? 0 : -Errno.EFAULT;
}

function setParam(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const param = loadParam(ctx, args);
  if (typeof param === "number") return param;
  const index = param.u32(4);
  const lo = param.u32(8);
  const hi = param.u32(12);
  if (index === HvmParam.CALLBACK_IRQ) {
    ctx.domain.setHvmParam(index, lo, hi);
    setCallback(ctx, args.is64, lo, hi);
    return 0;
  }
  if (!WRITE_ONCE.includes(index)) return -Errno.EPERM;
  const old = ctx.domain.hvmParam(index);
  if ((old.lo !== 0 || old.hi !== 0) && (old.lo !== lo || old.hi !== hi)) return -Errno.EEXIST;
  ctx.domain.setHvmParam(index, lo, hi);
  return 0;
}

function setCallback(ctx: HypercallContext, is64: boolean, lo: number, hi: number): void {
  const { domain } = ctx;
  const wasLayout = domain.sharedInfoLayout;
  domain.latchWordSize(is64);
  if (domain.sharedInfoLayout !== wasLayout) publishWallClock(domain, ctx.clock);
  const vector = hi >>> 24 === CallbackVia.vector ? lo & 0xff : 0;
  // There is no interrupt controller whose lines the other types could pull.
  domain.set(Field.callbackVector, vector >= 16 ? vector : 0);
  for (const record of domain.vcpus) if (isUpcallPending(domain, record)) record.ring();
}

function setUpcallVector(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const op = GuestStruct.load(ctx, args.pointer(1), 8, args.is64);
  if (op === undefined) return -Errno.EFAULT;
  const vector = op.view.getUint8(4);
  const record = ctx.domain.vcpus[op.u32(0)];
  if (vector < 16) return -Errno.EINVAL;
  if (record === undefined) return -Errno.ENOENT;
  record.set(VcpuField.upcallVector, vector);
  if (isUpcallPending(ctx.domain, record)) assertUpcall(record);
  return 0;
}

function getTime(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const op = GuestStruct.load(ctx, args.pointer(1), 8, args.is64);
  if (op === undefined) return -Errno.EFAULT;
  op.setU64(0, ctx.clock.nowNs());
  return op.store() ? 0 : -Errno.EFAULT;
}

function getMemType(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const op = GuestStruct.load(ctx, args.pointer(1), 16, args.is64);
  if (op === undefined) return -Errno.EFAULT;
  if (!isSelf(ctx, op.u16(0))) return -Errno.EPERM;
  const gfn = op.u64(8);
  const present = gfn <= ctx.domain.get(Field.maxGfn) && ctx.memory.frameAt(gfn as Gfn) !== -1;
  op.setU16(2, present ? HvmMemType.ram_rw : HvmMemType.mmio_dm);
  return op.store() ? 0 : -Errno.EFAULT;
}
