/** HYPERVISOR_console_io: the hypervisor's own console, for a kernel's earliest messages. */
import { Errno, type HypercallResult } from "../abi/errno.ts";
import { CONSOLEIO_read, CONSOLEIO_write } from "../abi/xen.ts";
import { type HypercallArgs, type HypercallContext, logOnce } from "./context.ts";

const MAX_WRITE_BYTES = 16384;

export function consoleIo(ctx: HypercallContext, args: HypercallArgs): HypercallResult {
  const command = args.u32(0);
  const lengthBytes = args.u32(1);
  switch (command) {
    case CONSOLEIO_write: {
      if (lengthBytes > MAX_WRITE_BYTES) return -Errno.E2BIG;
      const at = args.pointer(2);
      const bytes = new Uint8Array(lengthBytes);
      if (at === undefined || !ctx.vcpu.readLinear(at, bytes)) return -Errno.EFAULT;
      ctx.debugConsole?.(latin1(bytes));
      return 0;
    }
    case CONSOLEIO_read:
      // Nobody types there; zero bytes were read.
      return 0;
    default:
      logOnce(ctx, `dom${ctx.domain.domid}: console_io ${command} is not implemented`);
      return -Errno.ENOSYS;
  }
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
