/** HYPERVISOR_grant_table_op */
import { type Frame, type Gfn, type Gva, PAGE_BYTES } from "@xenoserver/cpu";
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { Gntst, GnttabOp } from "../abi/grant-table.ts";
import { Field, MAX_GRANT_FRAMES } from "../domain/layout.ts";
import { isUsableGfn } from "../domain/physmap.ts";
import { growGrantTable, type PinnedGrant, pinGrant, unpinGrants } from "../grant/table.ts";
import { GuestStruct, type HypercallArgs, type HypercallContext, isSelf, logOnce } from "./context.ts";

/** Structures that one call may name; keeps its time bounded. */
const MAX_COUNT = 1024;

/** Fills in the output fields of one structure. */
type Operation = (ctx: HypercallContext, op: GuestStruct) => void;

interface Described {
  readonly bytes64: number;
  readonly bytes32: number;
  readonly run: Operation;
}

const operations = new Map<number, Described>([
  [GnttabOp.map_grant_ref, { bytes64: 32, bytes32: 32, run: (_, op) => op.view.setInt16(18, Gntst.bad_domain, true) }],
  [
    GnttabOp.unmap_grant_ref,
    { bytes64: 24, bytes32: 24, run: (_, op) => op.view.setInt16(20, Gntst.bad_handle, true) },
  ],
  [GnttabOp.setup_table, { bytes64: 24, bytes32: 16, run: setupTable }],
  [GnttabOp.copy, { bytes64: 40, bytes32: 24, run: copy }],
  [GnttabOp.query_size, { bytes64: 16, bytes32: 16, run: querySize }],
]);

export function grantTableOp(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0);
  const first = args.pointer(1);
  const count = args.u32(2);
  if (command === GnttabOp.set_version) return setVersion(ctx, args);
  if (command === GnttabOp.get_version) return getVersion(ctx, args);
  const operation = operations.get(command);
  if (operation === undefined) {
    logOnce(ctx, `dom${ctx.domain.domid}: grant_table_op ${command} is not implemented`);
    return -Errno.ENOSYS;
  }
  if (first === undefined) return -Errno.EFAULT;
  if (count > MAX_COUNT) return -Errno.EINVAL;
  if (command === GnttabOp.setup_table && count !== 1) return -Errno.EINVAL;
  const lengthBytes = args.is64 ? operation.bytes64 : operation.bytes32;
  for (let n = 0; n < count; n++) {
    const op = GuestStruct.load(ctx, (first + n * lengthBytes) as Gva, lengthBytes, args.is64);
    if (op === undefined) return -Errno.EFAULT;
    operation.run(ctx, op);
    if (!op.store()) return -Errno.EFAULT;
  }
  return 0;
}

function querySize(ctx: HypercallContext, op: GuestStruct): void {
  if (!isSelf(ctx, op.u16(0))) {
    op.view.setInt16(12, Gntst.permission_denied, true);
    return;
  }
  op.setU32(4, ctx.domain.get(Field.nrGrantFrames));
  op.setU32(8, MAX_GRANT_FRAMES);
  op.view.setInt16(12, Gntst.okay, true);
}

function setupTable(ctx: HypercallContext, op: GuestStruct): void {
  const finish = (status: Gntst): void => op.view.setInt16(8, status, true);
  if (!isSelf(ctx, op.u16(0))) return finish(Gntst.permission_denied);
  const count = op.u32(4);
  if (!growGrantTable(ctx.domain, count)) return finish(Gntst.general_error);
  const list = op.pointer(op.is64 ? 16 : 12);
  const width = op.is64 ? 8 : 4;
  const gfns = new Uint8Array(count * width).fill(0xff);
  const view = new DataView(gfns.buffer);
  for (let n = 0; n < count; n++) {
    const gfn = ctx.domain.get(Field.grantGfns + n);
    // A frame that the guest has not mapped yet has no gfn: all ones.
    if (gfn === -1) continue;
    view.setUint32(n * width, gfn, true);
    if (op.is64) view.setUint32(n * width + 4, 0, true);
  }
  finish(list !== undefined && ctx.vcpu.writeLinear(list, gfns) ? Gntst.okay : Gntst.bad_virt_addr);
}

function setVersion(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const op = GuestStruct.load(ctx, args.pointer(1), 4, args.is64);
  if (op === undefined) return -Errno.EFAULT;
  const wanted = op.u32(0);
  if (wanted !== 1 && wanted !== 2) return -Errno.EINVAL;
  op.setU32(0, 1);
  if (!op.store()) return -Errno.EFAULT;
  return wanted === 1 ? 0 : -Errno.ENOSYS;
}

function getVersion(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const op = GuestStruct.load(ctx, args.pointer(1), 8, args.is64);
  if (op === undefined) return -Errno.EFAULT;
  if (!isSelf(ctx, op.u16(0))) return -Errno.EPERM;
  op.setU32(4, 1);
  return op.store() ? 0 : -Errno.EFAULT;
}

const SOURCE_GREF = 1;
const DEST_GREF = 2;

/** One end of a copy: a page of the caller, by gfn or by a grant that the caller made to itself. */
interface CopyEnd {
  readonly frame: Frame;
  readonly grant?: PinnedGrant;
}

function copy(ctx: HypercallContext, op: GuestStruct): void {
  const endBytes = op.is64 ? 16 : 8;
  const word = op.is64 ? 8 : 4;
  const lengthBytes = op.u16(2 * endBytes);
  const flags = op.u16(2 * endBytes + 2);
  const finish = (status: Gntst): void => op.view.setInt16(2 * endBytes + 4, status, true);
  const fromOffset = op.u16(word + 2);
  const toOffset = op.u16(endBytes + word + 2);
  if (fromOffset + lengthBytes > PAGE_BYTES || toOffset + lengthBytes > PAGE_BYTES) return finish(Gntst.bad_copy_arg);
  const from = copyEnd(ctx, op, 0, word, (flags & SOURCE_GREF) !== 0, false);
  if (typeof from === "number") return finish(from);
  const to = copyEnd(ctx, op, endBytes, word, (flags & DEST_GREF) !== 0, true);
  if (typeof to !== "number") {
    const source = ctx.memory.frameBytes(from.frame).subarray(fromOffset, fromOffset + lengthBytes);
    ctx.memory.frameBytes(to.frame).set(source, toOffset);
    ctx.memory.markWritten(to.frame);
    if (to.grant !== undefined) unpinGrants(ctx.domain, [to.grant]);
  }
  if (from.grant !== undefined) unpinGrants(ctx.domain, [from.grant]);
  finish(typeof to === "number" ? to : Gntst.okay);
}

function copyEnd(
  ctx: HypercallContext,
  op: GuestStruct,
  at: number,
  word: number,
  byGrant: boolean,
  writable: boolean,
): CopyEnd | Gntst {
  if (!isSelf(ctx, op.u16(at + word))) return Gntst.bad_domain;
  if (byGrant) {
    const grant = pinGrant(ctx.domain, op.u32(at), ctx.domain.domid, writable);
    return typeof grant === "number" ? grant : { frame: grant.frame, grant };
  }
  const gfn = op.ulong(at);
  const frame = isUsableGfn(gfn) ? ctx.memory.frameAt(gfn as Gfn) : -1;
  return frame === -1 ? Gntst.bad_page : { frame };
}
