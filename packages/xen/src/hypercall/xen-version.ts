/** HYPERVISOR_xen_version */
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { XEN_MAJOR, XEN_MINOR, XenFeat, XenVer } from "../abi/version.ts";
import { Field } from "../domain/layout.ts";
import { GuestStruct, type HypercallArgs, type HypercallContext, logOnce } from "./context.ts";

const EXTRAVERSION = ".0-xenoserver";
const CAPABILITIES = "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";

/** What a PVH domain can rely on; the rest of the bits describe classic PV. */
const FEATURES =
  (1 << XenFeat.writable_page_tables) |
  (1 << XenFeat.auto_translated_physmap) |
  (1 << XenFeat.hvm_callback_vector) |
  (1 << XenFeat.hvm_safe_pvclock) |
  (1 << XenFeat.not_direct_mapped);

export function xenVersion(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0);
  switch (command) {
    case XenVer.version:
      return (XEN_MAJOR << 16) | XEN_MINOR;
    case XenVer.extraversion:
      return putText(ctx, args, EXTRAVERSION, 16);
    case XenVer.compile_info:
      return putCompileInfo(ctx, args);
    case XenVer.capabilities:
      return putText(ctx, args, CAPABILITIES, 1024);
    case XenVer.changeset:
      return putText(ctx, args, "unavailable", 64);
    case XenVer.platform_parameters:
      return putBytes(ctx, args, new Uint8Array(args.is64 ? 8 : 4));
    case XenVer.get_features:
      return getFeatures(ctx, args);
    case XenVer.pagesize:
      return args.isNull(1) ? 4096 : -Errno.EINVAL;
    case XenVer.guest_handle:
      return putBytes(ctx, args, new Uint8Array(ctx.domain.buffer, Field.uuid * 4, 16).slice());
    case XenVer.commandline:
      return putText(ctx, args, "<denied>", 1024);
    case XenVer.build_id:
      return -Errno.ENODATA;
    default:
      logOnce(ctx, `dom${ctx.domain.domid}: xen_version ${command} is not implemented`);
      return -Errno.ENOSYS;
  }
}

function putBytes(ctx: HypercallContext, args: HypercallArgs, bytes: Uint8Array): HypercallResult {
  const at = args.pointer(1);
  return at !== undefined && ctx.vcpu.writeLinear(at, bytes) ? 0 : -Errno.EFAULT;
}

/** Text in a zero-filled field of fixed length. */
function putText(ctx: HypercallContext, args: HypercallArgs, text: string, fieldBytes: number): HypercallResult {
  const bytes = new Uint8Array(fieldBytes);
  new TextEncoder().encodeInto(text, bytes.subarray(0, fieldBytes - 1));
  return putBytes(ctx, args, bytes);
}

function putCompileInfo(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const bytes = new Uint8Array(144);
  const encoder = new TextEncoder();
  encoder.encodeInto("TypeScript", bytes.subarray(0, 63));
  encoder.encodeInto("xenoserver", bytes.subarray(64, 79));
  return putBytes(ctx, args, bytes);
}

function getFeatures(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const info = GuestStruct.load(ctx, args.pointer(1), 8, args.is64);
  if (info === undefined) return -Errno.EFAULT;
  const submap = info.u32(0);
  if (submap > 0) return -Errno.EINVAL;
  info.setU32(4, FEATURES);
  return info.store() ? 0 : -Errno.EFAULT;
}
