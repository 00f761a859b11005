/** HYPERVISOR_vm_assist */
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { VMASST_CMD_disable, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag } from "../abi/xen.ts";
import { Field } from "../domain/layout.ts";
import { type HypercallArgs, type HypercallContext, logOnce } from "./context.ts";

export function vmAssist(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0);
  const type = args.u32(1);
  if (type !== VMASST_TYPE_runstate_update_flag) {
    logOnce(ctx, `dom${ctx.domain.domid}: vm_assist type ${type} is not implemented`);
    return -Errno.EINVAL;
  }
  if (command === VMASST_CMD_enable) Atomics.or(ctx.domain.i32, Field.vmAssist, 1 << type);
  else if (command === VMASST_CMD_disable) Atomics.and(ctx.domain.i32, Field.vmAssist, ~(1 << type));
  else return -Errno.ENOSYS;
  return 0;
}
