/** HYPERVISOR_multicall: several calls in one. */
import type { Gva } from "@xenoserver/cpu";
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { Hypercall } from "../abi/xen.ts";
import { GuestStruct, HypercallArgs, type HypercallContext } from "./context.ts";

/** More calls than any guest makes; keeps one multicall's time bounded. */
const MAX_CALLS = 512;

type Call = (ctx: HypercallContext, number: number, args: HypercallArgs) => HypercallResult;

export function multicall(ctx: HypercallContext, args: HypercallArgs, call: Call): HypercallResult {
  const first = args.pointer(0);
  const count = args.u32(1);
  if (first === undefined) return -Errno.EFAULT;
  if (count > MAX_CALLS) return -Errno.E2BIG;
  const ulongBytes = args.is64 ? 8 : 4;
  for (let n = 0; n < count; n++) {
    const entry = GuestStruct.load(ctx, (first + n * ulongBytes * 8) as Gva, ulongBytes * 8, args.is64);
    if (entry === undefined) return -Errno.EFAULT;
    const number = entry.ulong(0);
    // A multicall inside a multicall would multiply the bound.
    const result = number === Hypercall.multicall ? -Errno.EINVAL : call(ctx, number, argsOf(entry, ulongBytes));
    entry.setU32(ulongBytes, result);
    if (args.is64) entry.setU32(ulongBytes + 4, result < 0 ? 0xffffffff : 0);
    if (!entry.store()) return -Errno.EFAULT;
  }
  return 0;
}

function argsOf(entry: GuestStruct, ulongBytes: number): HypercallArgs {
  const halves = new Uint32Array(12);
  for (let n = 0; n < 6; n++) {
    const at = ulongBytes * (2 + n);
    halves[n * 2] = entry.u32(at);
    if (entry.is64) halves[n * 2 + 1] = entry.u32(at + 4);
  }
  return new HypercallArgs(entry.is64, halves);
}
