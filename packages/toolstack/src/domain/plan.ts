/** Everything that a domain is built from, read and checked before anything is started. */
import { readFileSync, statSync } from "node:fs";
import { type KernelImage, KernelImageError, loadKernelImage } from "@xenoserver/xen/builder/image/index.ts";
import { ConfigError, type DomainConfig } from "../cfg/index.ts";

export interface DomainPlan {
  readonly config: DomainConfig;
  readonly kernel: KernelImage;
  /** Untouched bytes of the ramdisk. */
  readonly ramdisk?: Uint8Array;
}

/** @throws ConfigError  a file cannot be read, or is not what its key says */
export function planDomain(config: DomainConfig): DomainPlan {
  const kernel = readKernel(config.kernel);
  const ramdisk = config.ramdisk === undefined ? undefined : readInput("ramdisk", config.ramdisk);
  return { config, kernel, ...(ramdisk && { ramdisk }) };
}

function readKernel(path: string): KernelImage {
  const bytes = readInput("kernel", path);
  try {
    return loadKernelImage(bytes, path);
  } catch (error) {
    if (error instanceof KernelImageError) throw new ConfigError(error.message, { cause: error.cause });
    throw error;
  }
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
