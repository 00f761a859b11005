/** Debian's kernel with a shell, for tests of devices. Built once, kept in the cache. */
import { randomUUID } from "node:crypto";
import { type DomainConfig, SHIM_CMDLINE } from "../cfg/index.ts";
import {
  buildInitramfs,
  type FetchedKernel,
  fetchKernel,
  fetchShim,
  type InitramfsOptions,
  type KernelFlavour,
  openPackageSource,
  PackageError,
  type PackageSource,
} from "../guest/index.ts";

export class DebianGuest {
  readonly kernel: FetchedKernel;
  readonly source: PackageSource;

  private constructor(source: PackageSource, kernel: FetchedKernel) {
    this.source = source;
    this.kernel = kernel;
  }

  /** @returns the reason why there is none, if no source of packages can be reached */
  static async open(suite = "bookworm", flavour: KernelFlavour = "cloud"): Promise<DebianGuest | string> {
    const mirror = process.env["XENO_DEBIAN_MIRROR"];
    try {
      const source = await openPackageSource({ suite, ...(mirror !== undefined && { mirror }) });
      return new DebianGuest(source, await fetchKernel(source, flavour, () => {}));
    } catch (error) {
      if (error instanceof PackageError) return error.message;
      throw error;
    }
  }

  /** What has the kernel run as a paravirtual guest. */
  async paravirtual(): Promise<Pick<DomainConfig, "type" | "shim">> {
    const path = await fetchShim(this.source, () => {});
    // Its own messages would stand between those of the guest.
    return { type: "pv", shim: { path, cmdline: `${SHIM_CMDLINE} loglvl=none guest_loglvl=none` } };
  }

  /** The configuration of a guest with packages and kernel modules. */
  async config(
    contents: Pick<InitramfsOptions, "packages" | "customise" | "script"> & { readonly modules?: readonly string[] },
    changes: Partial<DomainConfig> = {},
  ): Promise<DomainConfig> {
    const { modules, ...options } = contents;
    const withModules = modules === undefined ? {} : { modules: { kernel: this.kernel, names: modules } };
    return {
      name: "debian",
      type: "pvh",
      kernel: this.kernel.path,
      ramdisk: await buildInitramfs(this.source, { ...options, ...withModules }, () => {}),
      cmdline: "console=hvc0 quiet loglevel=4",
      memoryMib: 256,
      vcpus: 1,
      uuid: randomUUID(),
      onPoweroff: "destroy",
      onReboot: "destroy",
      onCrash: "destroy",
      ...changes,
    };
  }
}
