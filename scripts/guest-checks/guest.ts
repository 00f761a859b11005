/** Boots the guests that checks run in. */
import { domainConfig, parseCfg } from "@xenoserver/toolstack/cfg/index.ts";
import type { EngineChoice } from "@xenoserver/toolstack/domain/index.ts";
import {
  buildInitramfs,
  type FetchedKernel,
  fetchKernel,
  openPackageSource,
  type PackageSource,
  type Progress,
  type RootTree,
} from "@xenoserver/toolstack/guest/index.ts";
import { GuestShell } from "@xenoserver/toolstack/testing/guest-shell.ts";
import type { Check } from "./checks.ts";

const BOOT_TIMEOUT_SECONDS = 300;

export type GuestNeeds = Pick<Check, "packages" | "without" | "files" | "memoryMib">;

export class Guests {
  readonly #source: PackageSource;
  readonly #kernel: FetchedKernel;
  readonly #progress: Progress;

  private constructor(source: PackageSource, kernel: FetchedKernel, progress: Progress) {
    this.#source = source;
    this.#kernel = kernel;
    this.#progress = progress;
  }

  /** @throws PackageError  no source of Debian packages can be reached */
  static async open(progress: Progress): Promise<Guests> {
    const mirror = process.env["XENO_DEBIAN_MIRROR"];
    const source = await openPackageSource({ progress, ...(mirror !== undefined && { mirror }) });
    return new Guests(source, await fetchKernel(source, "cloud", progress), progress);
  }

  get release(): string {
    return this.#kernel.release;
  }

  async boot(needs: GuestNeeds, vcpus = 1, engine: EngineChoice = {}): Promise<GuestShell> {
    const { packages, without = [], files = {}, memoryMib } = needs;
    const customise = (tree: RootTree): void => {
      tree.remove(...without);
      for (const [path, text] of Object.entries(files)) tree.file(path, text);
    };
    const ramdisk = await buildInitramfs(this.#source, { packages, customise }, this.#progress);
    const cfg = `kernel="${this.#kernel.path}"; ramdisk="${ramdisk}"; memory=${memoryMib}; vcpus=${vcpus}; cmdline="console=hvc0"`;
    const { config } = domainConfig(parseCfg(cfg, "check"), "check");
    return GuestShell.boot(config, BOOT_TIMEOUT_SECONDS, engine);
  }
}
