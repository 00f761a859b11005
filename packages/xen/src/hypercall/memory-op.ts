/** HYPERVISOR_memory_op: what is where in the guest-physical map, and how much of it there is. */
import type { Frame, Gfn, Gva } from "@xenoserver/cpu";
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { E820_ENTRY_BYTES, MEMOP_CMD_MASK, XENMAPIDX_grant_table_status, XenMapSpace, XenMem } from "../abi/memory.ts";
import { E820_WORDS, Field, MAX_E820 } from "../domain/layout.ts";
import { depopulate, isUsableGfn, moveRam, populate, showHypervisorFrame } from "../domain/physmap.ts";
import { growGrantTable } from "../grant/table.ts";
import { publishWallClock } from "../time/wallclock.ts";
import { GuestStruct, type HypercallArgs, type HypercallContext, isSelf, logOnce } from "./context.ts";

/** Pages that one call changes at most; what is left is reported as not done, which callers must expect anyway. */
const MAX_PAGES_PER_CALL = 4096;
const MAX_BATCH = 1024;

export function memoryOp(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0) & MEMOP_CMD_MASK;
  switch (command) {
    case XenMem.decrease_reservation:
    case XenMem.populate_physmap:
      return changeReservation(ctx, args, command === XenMem.populate_physmap);
    case XenMem.maximum_ram_page:
      return ctx.memory.frameCount - 1;
    case XenMem.current_reservation:
      return reservation(ctx, args, Field.currentPages);
    case XenMem.maximum_reservation:
      return reservation(ctx, args, Field.maxPages);
    case XenMem.maximum_gpfn:
      return reservation(ctx, args, Field.maxGfn);
    case XenMem.add_to_physmap:
      return addToPhysmap(ctx, args);
    case XenMem.add_to_physmap_batch:
      return addToPhysmapBatch(ctx, args);
    case XenMem.remove_from_physmap:
      return removeFromPhysmap(ctx, args);
    case XenMem.memory_map:
      return memoryMap(ctx, args);
    case XenMem.set_memory_map:
      return setMemoryMap(ctx, args);
    default:
      logOnce(ctx, `dom${ctx.domain.domid}: memory_op ${command} is not implemented`);
      return -Errno.ENOSYS;
  }
}

function reservation(ctx: HypercallContext, args: HypercallArgs, field: number): HypercallResult {
  const which = GuestStruct.load(ctx, args.pointer(1), 2, args.is64);
  if (which === undefined) return -Errno.EFAULT;
  return isSelf(ctx, which.u16(0)) ? ctx.domain.get(field) : -Errno.EPERM;
}

/** Returns how many extents were done; a bad extent ends the call there. */
function changeReservation(ctx: HypercallContext, args: HypercallArgs, adding: boolean): HypercallResult {
  const { domain } = ctx;
  const is64 = args.is64;
  const request = GuestStruct.load(ctx, args.pointer(1), is64 ? 32 : 20, is64);
  if (request === undefined) return -Errno.EFAULT;
  const list = request.pointer(0);
  const count = request.ulong(is64 ? 8 : 4);
  const order = request.u32(is64 ? 16 : 8);
  if (!isSelf(ctx, request.u16(is64 ? 24 : 16))) return -Errno.EPERM;
  if (order > 9) return -Errno.EPERM;
  if (list === undefined) return -Errno.EFAULT;
  const pages = 2 ** order;
  const limit = Math.min(count, Math.floor(MAX_PAGES_PER_CALL / pages));
  let done = 0;
  for (; done < limit; done++) {
    const first = loadUlong(ctx, list, done, is64);
    if (first === undefined || !changeExtent(ctx, first, pages, adding)) break;
  }
  domain.physmapChanged();
  return done;
}

function changeExtent(ctx: HypercallContext, first: number, pages: number, adding: boolean): boolean {
  const { domain } = ctx;
  if (!isUsableGfn(first) || !isUsableGfn(first + pages - 1)) return false;
  for (let n = 0; n < pages; n++) {
    const gfn = (first + n) as Gfn;
    if (!(adding ? populate(domain, gfn) : depopulate(domain, gfn))) return false;
  }
  return true;
}

/** The n-th `unsigned long` of a guest array. */
function loadUlong(ctx: HypercallContext, list: number, n: number, is64: boolean): number | undefined {
  const width = is64 ? 8 : 4;
  return GuestStruct.load(ctx, (list + n * width) as Gva, width, is64)?.ulong(0);
}

function addToPhysmap(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const is64 = args.is64;
  const request = GuestStruct.load(ctx, args.pointer(1), is64 ? 24 : 16, is64);
  if (request === undefined) return -Errno.EFAULT;
  if (!isSelf(ctx, request.u16(0))) return -Errno.EPERM;
  const space = request.u32(4);
  const index = request.ulong(8);
  const gfn = request.ulong(is64 ? 16 : 12);
  if (space === XenMapSpace.gmfn_range) {
    const size = request.u16(2);
    if (size > MAX_BATCH) return -Errno.E2BIG;
    for (let n = 0; n < size; n++) {
      const result = mapOne(ctx, XenMapSpace.gmfn, index + n, gfn + n, is64);
      if (result !== 0) return result;
    }
    return 0;
  }
  return mapOne(ctx, space, index, gfn, is64);
}

function mapOne(ctx: HypercallContext, space: number, index: number, gfn: number, is64: boolean): HypercallResult {
  const { domain } = ctx;
  if (!isUsableGfn(gfn)) return -Errno.EINVAL;
  switch (space) {
    case XenMapSpace.shared_info:
      if (index !== 0) return -Errno.EINVAL;
      if (!showHypervisorFrame(domain, domain.sharedInfoFrame, gfn as Gfn, Field.sharedInfoGfn)) return -Errno.ENOMEM;
      domain.latchWordSize(is64);
      publishWallClock(domain, ctx.clock);
      return 0;
    case XenMapSpace.grant_table: {
      if (index >= XENMAPIDX_grant_table_status) return -Errno.EINVAL;
      const frame = growGrantTable(domain, index + 1) ? domain.get(Field.grantFrames + index) : -1;
      if (frame === -1) return -Errno.EINVAL;
      return showHypervisorFrame(domain, frame as Frame, gfn as Gfn, Field.grantGfns + index) ? 0 : -Errno.ENOMEM;
    }
    case XenMapSpace.gmfn:
      if (!isUsableGfn(index)) return -Errno.EINVAL;
      return moveRam(domain, index as Gfn, gfn as Gfn) ? 0 : -Errno.EINVAL;
    default:
      logOnce(ctx, `dom${domain.domid}: add_to_physmap space ${space} is not implemented`);
      return -Errno.ENOSYS;
  }
}

function addToPhysmapBatch(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const is64 = args.is64;
  const request = GuestStruct.load(ctx, args.pointer(1), is64 ? 32 : 20, is64);
  if (request === undefined) return -Errno.EFAULT;
  if (!isSelf(ctx, request.u16(0))) return -Errno.EPERM;
  const space = request.u16(2);
  const count = request.u16(4);
  const width = is64 ? 8 : 4;
  const indices = request.pointer(8);
  const gfns = request.pointer(8 + width);
  const errors = request.pointer(8 + 2 * width);
  if (indices === undefined || gfns === undefined || errors === undefined) return -Errno.EFAULT;
  if (count > MAX_BATCH) return -Errno.E2BIG;
  for (let n = 0; n < count; n++) {
    const index = loadUlong(ctx, indices, n, is64);
    const gfn = loadUlong(ctx, gfns, n, is64);
    if (index === undefined || gfn === undefined) return -Errno.EFAULT;
    const result = new Int32Array([mapOne(ctx, space, index, gfn, is64)]);
    if (!ctx.vcpu.writeLinear((errors + n * 4) as Gva, new Uint8Array(result.buffer))) return -Errno.EFAULT;
  }
  return 0;
}

function removeFromPhysmap(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const is64 = args.is64;
  const request = GuestStruct.load(ctx, args.pointer(1), is64 ? 16 : 8, is64);
  if (request === undefined) return -Errno.EFAULT;
  if (!isSelf(ctx, request.u16(0))) return -Errno.EPERM;
  const gfn = request.ulong(is64 ? 8 : 4);
  if (!isUsableGfn(gfn)) return -Errno.EINVAL;
  if (!depopulate(ctx.domain, gfn as Gfn)) return -Errno.ENOENT;
  ctx.domain.physmapChanged();
  return 0;
}

function memoryMap(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const { domain } = ctx;
  const is64 = args.is64;
  const request = GuestStruct.load(ctx, args.pointer(1), is64 ? 16 : 8, is64);
  if (request === undefined) return -Errno.EFAULT;
  const room = request.u32(0);
  const buffer = request.pointer(is64 ? 8 : 4);
  const count = domain.get(Field.e820Count);
  if (count === 0) return -Errno.ENOSYS;
  const entries = Math.min(room, count);
  const bytes = new Uint8Array(entries * E820_ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  for (let n = 0; n < entries * E820_WORDS; n++) view.setInt32(n * 4, domain.get(Field.e820 + n), true);
  if (buffer === undefined || !ctx.vcpu.writeLinear(buffer, bytes)) return -Errno.EFAULT;
  request.setU32(0, entries);
  return request.store() ? 0 : -Errno.EFAULT;
}

/** A boot loader that put pages into the map tells the next kernel of them this way. */
function setMemoryMap(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const { domain } = ctx;
  const is64 = args.is64;
  const request = GuestStruct.load(ctx, args.pointer(1), is64 ? 24 : 12, is64);
  if (request === undefined) return -Errno.EFAULT;
  if (!isSelf(ctx, request.u16(0))) return -Errno.EPERM;
  const count = request.u32(is64 ? 8 : 4);
  if (count === 0 || count > MAX_E820) return -Errno.EINVAL;
  const entries = GuestStruct.load(ctx, request.pointer(is64 ? 16 : 8), count * E820_ENTRY_BYTES, is64);
  if (entries === undefined) return -Errno.EFAULT;
  for (let n = 0; n < count * E820_WORDS; n++) domain.set(Field.e820 + n, entries.u32(n * 4) | 0);
  domain.set(Field.e820Count, count);
  return 0;
}
