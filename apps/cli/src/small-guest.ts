/** `xeno try --busybox`: fetches a Debian kernel, builds an initramfs around busybox, and gives the user its shell. */
import { applyOverrides, type CfgSetting, domainConfig } from "@xenoserver/toolstack/cfg/index.ts";
import {
  buildInitramfs,
  fetchKernel,
  fetchShim,
  openPackageSource,
  type PackageSource,
  type Progress,
} from "@xenoserver/toolstack/guest/index.ts";
import { runForeground } from "./foreground.ts";
import { progress } from "./store-access.ts";
import type { SourceOptions, TryOptions } from "./try-command.ts";

/** Errors below "critical" are hidden, as the kernel counts the absence of PCI and of an I/O APIC among them. */
const CMDLINE = "console=hvc0 quiet loglevel=3";

/** Where packages come from, as the command line says it. @throws PackageError */
export function openSource({ suite, mirror, keyring }: SourceOptions, progress: Progress): Promise<PackageSource> {
  return openPackageSource({
    progress,
    ...(suite !== undefined && { suite }),
    ...(mirror !== undefined && { mirror }),
    ...(keyring !== undefined && { keyring }),
  });
}

/**
 * @param overrides  settings of xl.cfg on top of the built guest, e.g. memory=512
 * @returns          the exit status
 */
export async function smallGuest(overrides: readonly string[], options: TryOptions): Promise<number> {
  const source = await openSource(options, progress);
  const kernel = await fetchKernel(source, options.flavour ?? "cloud", progress);
  const modules = { kernel, names: ["xen-netfront"] };
  const initramfs = await buildInitramfs(source, { modules }, progress);

  const settings = new Map<string, CfgSetting>();
  const own = { name: "debian", kernel: kernel.path, ramdisk: initramfs, cmdline: CMDLINE };
  if (options.pv === true) Object.assign(own, { type: "pv", pvshim_path: await fetchShim(source, progress) });
  const defaults = [...Object.entries(own).map(([key, value]) => `${key}="${value}"`), 'vif=[""]'];
  applyOverrides(settings, [...defaults, ...overrides]);
  const { config } = domainConfig(settings, "command line");
  progress(
    `starting Linux ${kernel.release} with ${config.memoryMib} MiB and ${config.vcpus} vcpu${config.vcpus === 1 ? "" : "s"}`,
  );
  return runForeground(config, {
    console: options.console,
    endsWithInput: true,
    ...(options.timeout !== undefined && { timeoutSeconds: options.timeout }),
    ...(options.json && { json: true }),
    ...(options.verbose && { verbose: true }),
    onBooted: (bootMs, note) => {
      note(`xeno: booted in ${(bootMs / 1000).toFixed(1)} s. poweroff -f powers off, Ctrl-] leaves.`);
    },
  });
}
