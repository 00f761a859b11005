/** Everything that a domain is built from, read and checked before anything is started. */
import { readFileSync, statSync } from "node:fs";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import { BuildError, type KernelImage, KernelImageError, loadKernelImage } from "@xenoserver/xen/builder/index.ts";
import { placeImages } from "@xenoserver/xen/builder/placement.ts";
import { ConfigError, type DomainConfig } from "../cfg/index.ts";

export interface DomainPlan {
  readonly config: DomainConfig;
  readonly kernel: KernelImage;
  /** Untouched bytes of the ramdisk. */
  readonly ramdisk?: Uint8Array;
}

/** @throws ConfigError  a file cannot be read, is not what its key says, or does not fit into memory */
export function planDomain(config: DomainConfig): DomainPlan {
  const kernel = readKernel(config.kernel);
  const ramdisk = config.ramdisk === undefined ? undefined : readInput("ramdisk", config.ramdisk);
  try {
    placeImages(config.memoryMib, kernel, PAGE_BYTES, ramdisk?.length ?? 0);
  } catch (error) {
    throw asConfigError(error);
  }
  return { config, kernel, ...(ramdisk && { ramdisk }) };
}

function readKernel(path: string): KernelImage {
  const bytes = readInput("kernel", path);
  try {
    return loadKernelImage(bytes, path);
  } catch (error) {
    throw asConfigError(error);
  }
}

/** What the builder refuses is a mistake in the configuration; anything else is passed through. */
export function asConfigError(error: unknown): unknown {
  const refused = error instanceof KernelImageError || error instanceof BuildError;
  return refused ? new ConfigError(error.message, { cause: error.cause }) : error;
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "may not be read by this user",
};

function readInput(key: "kernel" | "ramdisk", path: string): Uint8Array {
  try {
    if (!statSync(path).isFile()) throw new ConfigError(`${key} ${path}: is no regular file`);
    return readFileSync(path);
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new ConfigError(`${key} ${path}: ${REASONS[code ?? ""] ?? message}`);
  }
}

/** The plan in the words of xl.cfg, with what was found in the files as comments. */
export function describePlan({ config, kernel, ramdisk }: DomainPlan): string {
  const hex = (n: number): string => `0x${n.toString(16)}`;
  const size = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const packed = kernel.compression === "none" ? "" : `, ${kernel.compression}`;
  const image = `${kernel.format}${packed}, ${kernel.bits}-bit ELF, PVH entry ${hex(kernel.entry)}`;
  const rows: [setting: string, remark?: string][] = [
    [`name = "${config.name}"`],
    [`uuid = "${config.uuid}"`],
    [`type = "${config.type}"`],
    [`kernel = "${config.kernel}"`, image],
    ...kernel.segments.map((s): [string, string] => [
      "",
      `  ${hex(s.gpa)}–${hex(s.gpa + s.memSizeBytes)}, ${size(s.memSizeBytes)}`,
    ]),
    ...(ramdisk === undefined ? [] : [[`ramdisk = "${config.ramdisk}"`, size(ramdisk.length)] as [string, string]]),
    [`cmdline = "${config.cmdline}"`],
    [`memory = ${config.memoryMib}`],
    [`vcpus = ${config.vcpus}`],
    [`on_poweroff = "${config.onPoweroff}"`],
    [`on_reboot = "${config.onReboot}"`],
    [`on_crash = "${config.onCrash}"`],
  ];
  return rows.map(([setting, remark]) => [setting, remark && `# ${remark}`].filter(Boolean).join("  ")).join("\n");
}
