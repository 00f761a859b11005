/** HYPERVISOR_vcpu_op */
import type { Frame, Gfn, Gva } from "@xenoserver/cpu";
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { VCPU_SSHOTTMR_future, VcpuOp } from "../abi/vcpu.ts";
import { VCPU_INFO_BYTES } from "../abi/xen.ts";
import { apicIdOf } from "../apic/icr.ts";
import { fitsPage } from "../domain/guest-words.ts";
import { Field, VcpuField, VcpuLife } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { selectAll2l } from "../evtchn/two-level.ts";
import { markUpcallPending } from "../evtchn/upcall.ts";
import { publishSecondaryTime, publishVcpuTime } from "../time/pvclock.ts";
import { encodeRunstate, publishRunstate } from "../time/runstate.ts";
import { setPeriodic, setSingleshot } from "../time/timers.ts";
import { GuestStruct, type HypercallArgs, type HypercallContext, logOnce, recordOf } from "./context.ts";

const MIN_PERIOD_NS = 1_000_000;
/** The longest time span that Xen's timers accept. */
const MAX_PERIOD_NS = 2 ** 55;

export function vcpuOp(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0);
  const target = ctx.domain.vcpus[args.u32(1)];
  if (target === undefined) return -Errno.ENOENT;
  const isOwn = target === recordOf(ctx);
  switch (command) {
    case VcpuOp.up:
      return up(target);
    case VcpuOp.down:
      return down(target);
    case VcpuOp.is_up:
      return target.get(VcpuField.life) === VcpuLife.online ? 1 : 0;
    case VcpuOp.get_runstate_info: {
      const at = args.pointer(2);
      const info = encodeRunstate(target, ctx.clock.nowNs(), args.is64);
      return at !== undefined && ctx.vcpu.writeLinear(at, info) ? 0 : -Errno.EFAULT;
    }
    case VcpuOp.register_runstate_memory_area:
      return registerRunstateArea(ctx, args, target);
    case VcpuOp.set_periodic_timer:
      return isOwn ? setPeriodicTimer(ctx, args, target) : -Errno.EINVAL;
    case VcpuOp.stop_periodic_timer:
      if (isOwn) setPeriodic(target, 0, 0);
      return isOwn || target.get(VcpuField.life) !== VcpuLife.online ? 0 : -Errno.EINVAL;
    case VcpuOp.set_singleshot_timer:
      return isOwn ? setSingleshotTimer(ctx, args, target) : -Errno.EINVAL;
    case VcpuOp.stop_singleshot_timer:
      if (!isOwn) return -Errno.EINVAL;
      setSingleshot(target, Infinity);
      return 0;
    case VcpuOp.register_vcpu_info:
      return registerVcpuInfo(ctx, args, target);
    case VcpuOp.get_physid:
      return getPhysid(ctx, args, target);
    case VcpuOp.register_vcpu_time_memory_area:
      return registerTimeArea(ctx, args, target);
    default:
      logOnce(ctx, `dom${ctx.domain.domid}: vcpu_op ${command} is not implemented`);
      return -Errno.ENOSYS;
  }
}

function up(target: VcpuRecord): HypercallResult {
  if (target.get(VcpuField.life) === VcpuLife.uninitialised) return -Errno.EINVAL;
  if (target.replace(VcpuField.life, VcpuLife.down, VcpuLife.online)) target.ring();
  return 0;
}

function down(target: VcpuRecord): HypercallResult {
  if (target.replace(VcpuField.life, VcpuLife.online, VcpuLife.down)) target.ring();
  return 0;
}

function registerRunstateArea(ctx: HypercallContext, args: HypercallArgs, target: VcpuRecord): HypercallResult {
  const area = GuestStruct.load(ctx, args.pointer(2), 8, args.is64);
  if (area === undefined) return -Errno.EFAULT;
  const at = area.pointer(0);
  const nowNs = ctx.clock.nowNs();
  if (at === undefined || !ctx.vcpu.writeLinear(at, encodeRunstate(target, nowNs, args.is64))) return -Errno.EFAULT;
  target.setF64(VcpuField.runstateAreaF64, at);
  target.set(VcpuField.runstateRegistered, 1);
  if (target === recordOf(ctx)) publishRunstate(ctx.domain, target, ctx.vcpu, nowNs);
  return 0;
}

function setPeriodicTimer(ctx: HypercallContext, args: HypercallArgs, target: VcpuRecord): HypercallResult {
  const set = GuestStruct.load(ctx, args.pointer(2), 8, args.is64);
  if (set === undefined) return -Errno.EFAULT;
  const periodNs = set.u64(0);
  if (periodNs < MIN_PERIOD_NS || periodNs > MAX_PERIOD_NS) return -Errno.EINVAL;
  setPeriodic(target, periodNs, ctx.clock.nowNs());
  return 0;
}

function setSingleshotTimer(ctx: HypercallContext, args: HypercallArgs, target: VcpuRecord): HypercallResult {
  const set = GuestStruct.load(ctx, args.pointer(2), 12, args.is64);
  if (set === undefined) return -Errno.EFAULT;
  const deadlineNs = set.u64(0);
  const mustBeFuture = (set.u32(8) & VCPU_SSHOTTMR_future) !== 0;
  if (mustBeFuture && deadlineNs < ctx.clock.nowNs()) return -Errno.ETIME;
  setSingleshot(target, deadlineNs);
  return 0;
}

/** Moves `vcpu_info` out of the shared information page; once per vcpu, for it cannot be taken back. */
function registerVcpuInfo(ctx: HypercallContext, args: HypercallArgs, target: VcpuRecord): HypercallResult {
  const { domain, memory } = ctx;
  const place = GuestStruct.load(ctx, args.pointer(2), 16, args.is64);
  if (place === undefined) return -Errno.EFAULT;
  const gfn = place.u64(0);
  const offset = place.u32(8);
  if (!fitsPage(offset, VCPU_INFO_BYTES, 8)) return -Errno.EINVAL;
  if (target.get(VcpuField.vcpuInfoFrame) !== -1) return -Errno.EINVAL;
  const frame = gfn <= domain.get(Field.maxGfn) ? memory.frameAt(gfn as Gfn) : -1;
  if (frame === -1) return -Errno.EINVAL;
  const words = domain.guest.words;
  const from = target.wordAt(VcpuField.vcpuInfoWord);
  const to = domain.guest.wordOf(frame as Frame) + offset / 4;
  for (let n = 0; n < VCPU_INFO_BYTES / 4; n++) words[to + n] = words[from + n];
  domain.placeVcpuInfo(target, frame, offset);
  memory.markWritten(frame as Frame);
  publishVcpuTime(domain, target);
  // An event may have gone to the old place while it was copied; let the guest look at all of them.
  if (domain.get(Field.fifo) === 1) markUpcallPending(domain, target);
  else selectAll2l(domain, target);
  return 0;
}

function getPhysid(ctx: HypercallContext, args: HypercallArgs, target: VcpuRecord): HypercallResult {
  const at = args.pointer(2);
  const physid = new Uint32Array([apicIdOf(target.id), target.id]);
  return at !== undefined && ctx.vcpu.writeLinear(at, new Uint8Array(physid.buffer)) ? 0 : -Errno.EFAULT;
}

function registerTimeArea(ctx: HypercallContext, args: HypercallArgs, target: VcpuRecord): HypercallResult {
  const area = GuestStruct.load(ctx, args.pointer(2), 8, args.is64);
  if (area === undefined) return -Errno.EFAULT;
  const at = area.pointer(0);
  if (at === undefined) return -Errno.EFAULT;
  if (at === 0) {
    target.set(VcpuField.timeAreaRegistered, 0);
    return 0;
  }
  if (!publishSecondaryTime(ctx.vcpu, at as Gva)) return -Errno.EFAULT;
  target.setF64(VcpuField.timeAreaF64, at);
  target.set(VcpuField.timeAreaRegistered, 1);
  return 0;
}
