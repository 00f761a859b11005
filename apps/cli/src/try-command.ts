/** `xeno try`, which `npm start` runs: a Debian with its own disk on a terminal, and a small guest at once where none waits. */
import { StorageError } from "@xenoserver/storage/error.ts";
import { type KernelFlavour, PackageError } from "@xenoserver/toolstack/guest/index.ts";
import { ExitStatus } from "./exit-status.ts";
import { smallGuest } from "./small-guest.ts";
import { progress } from "./store-access.ts";

export interface TryOptions {
  /** The guest that is all shell, whatever the input is. */
  readonly busybox?: boolean;
  /** The Debian, whatever the input is. */
  readonly debian?: boolean;
  /** Gives the Debian a new disk in place of the one that it had. */
  readonly fresh?: boolean;
  readonly suite?: string;
  readonly flavour?: KernelFlavour;
  /** Boots the kernel as a paravirtual one. */
  readonly pv?: boolean;
  /** Shows a live migration once the guest has ended well. */
  readonly demo?: boolean;
  readonly mirror?: string;
  readonly keyring?: string;
  readonly console: string;
  readonly timeout?: number;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** Where a kernel and busybox come from, and which. */
export type SourceOptions = Pick<TryOptions, "suite" | "flavour" | "mirror" | "keyring">;

/**
 * @param overrides  settings of xl.cfg on top of the guest's, e.g. memory=512
 * @returns          the exit status
 */
export async function tryCommand(overrides: readonly string[], options: TryOptions): Promise<number> {
  const status = await runGuest(overrides, options);
  return options.demo === true && status === ExitStatus.ok ? showDemo(options) : status;
}

/** Tells it on standard error: standard output is the guest's. */
async function showDemo(options: SourceOptions): Promise<number> {
  progress("next, a domain moves between two servers while it runs; Ctrl-C ends that, --no-demo leaves it out");
  const { demoCommand } = await import("./demo-command.ts");
  try {
    return await demoCommand(options, progress);
  } catch (error) {
    if (!(error instanceof PackageError)) throw error;
    progress(`that cannot be shown here: ${error.message}`);
    return ExitStatus.ok;
  }
}

async function runGuest(overrides: readonly string[], options: TryOptions): Promise<number> {
  if (!wantsDebian(options)) return smallGuest(overrides, options);
  const { makeTemplate, runDebian } = await import("./own-debian.ts");
  try {
    const interrupted = await makeTemplate(options, progress);
    if (interrupted !== 0) return interrupted;
  } catch (error) {
    if (!(error instanceof PackageError || error instanceof StorageError)) throw error;
    progress(`no Debian can be built here, so this is the busybox guest: ${error.message}`);
    return smallGuest(overrides, options);
  }
  return runDebian(overrides, options, progress);
}

/** A script gets the same guest whether or not an image was built before; it is the one that is there at once. */
function wantsDebian({ busybox, debian, fresh, pv }: TryOptions): boolean {
  if (busybox === true || pv === true) return false;
  return debian === true || fresh === true || process.stdin.isTTY === true;
}
