/** Everything that a domain is built from, read and checked before anything is started. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import {
  type BootModule,
  BuildError,
  freeBytes,
  type KernelImage,
  KernelImageError,
  loadKernelImage,
} from "@xenoserver/xen/builder/index.ts";
import { placeImages } from "@xenoserver/xen/builder/placement.ts";
import {
  ConfigError,
  type DomainConfig,
  describeDisk,
  describeP9,
  describeVif,
  memoryAtStartMib,
  vcpusAtStart,
} from "../cfg/index.ts";
import { cacheDir } from "../guest/cache.ts";
import { InputFile } from "./input-file.ts";
import { readWhole } from "./read-whole.ts";
import { UnpackedKernels } from "./unpacked-kernels.ts";

export interface DomainPlan {
  readonly config: DomainConfig;
  /** What the domain starts with: its kernel, or Xen's shim that runs it. */
  readonly kernel: KernelImage;
  /** The file that it came from, which the image may still be read from. */
  readonly kernelFile: Uint8Array;
  /** The kernel's command line, or the shim's. */
  readonly cmdline: string;
  /** The ramdisk, untouched; before it a paravirtual guest's kernel. */
  readonly modules: readonly BootModule[];
}

/** @throws ConfigError  a file cannot be read, is not what its key says, or does not fit into memory */
export function planDomain(config: DomainConfig): DomainPlan {
  const { shim } = config;
  const modules: BootModule[] = [];
  const plan: DomainPlan =
    shim === undefined
      ? { config, ...readKernel("kernel", config.kernel), cmdline: config.cmdline, modules }
      : { config, ...readKernel("pvshim_path", shim.path), cmdline: shim.cmdline, modules };
  try {
    if (shim !== undefined)
      modules.push({ name: "kernel", content: openInput("kernel", config.kernel), cmdline: config.cmdline });
    if (config.ramdisk !== undefined) modules.push({ name: "ramdisk", content: openInput("ramdisk", config.ramdisk) });
    const sizes = modules.map(({ name, content }) => ({ name, sizeBytes: content.length }));
    placeImages(config.memoryMib, plan.kernel, PAGE_BYTES, sizes);
  } catch (error) {
    freePlan(plan);
    throw asConfigError(error);
  }
  return plan;
}

type InputKey = "kernel" | "ramdisk" | "pvshim_path";

function readKernel(key: InputKey, path: string): Pick<DomainPlan, "kernel" | "kernelFile"> {
  const kernelFile = readInput(key, path);
  try {
    const kernel = loadKernelImage(kernelFile, path, new UnpackedKernels(join(cacheDir(), "unpacked")));
    return { kernel, kernelFile };
  } catch (error) {
    throw asConfigError(error);
  }
}

/**
 * Gives the memory of a plan's files back at once; the plan is useless then. They are larger than all else that the
 * process has beside the guest's memory, and the garbage collector would let them lie for the whole run.
 */
export function freePlan({ kernel, kernelFile, modules }: DomainPlan): void {
  kernel.content.release();
  freeBytes(kernelFile);
  for (const { content } of modules) content.release();
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

const readInput = (key: InputKey, path: string): Uint8Array => withInput(key, path, () => readWhole(path));
/** What is read when it is wanted: straight into the guest's memory. */
const openInput = (key: InputKey, path: string): InputFile =>
  withInput(key, path, () => InputFile.open(`${key} ${path}`, path));

function withInput<T>(key: InputKey, path: string, use: () => T): T {
  try {
    if (!statSync(path).isFile()) throw new ConfigError(`${key} ${path}: is no regular file`);
    return use();
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new ConfigError(`${key} ${path}: ${REASONS[code ?? ""] ?? message}`);
  }
}

/** The plan in the words of xl.cfg, with what was found in the files as comments. */
export function describePlan({ config, kernel, modules }: DomainPlan): string {
  const hex = (n: number): string => `0x${n.toString(16)}`;
  const size = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const sizeOf = (name: string): string => size(modules.find((module) => module.name === name)?.content.length ?? 0);
  const packed = kernel.compression === "none" ? "" : `, ${kernel.compression}`;
  const image = `${kernel.format}${packed}, ${kernel.bits}-bit ELF, PVH entry ${hex(kernel.entry)}`;
  const rows: [setting: string, remark?: string][] = [
    [`name = "${config.name}"`],
    [`uuid = "${config.uuid}"`],
    [`type = "${config.type}"`],
    ...(config.shim === undefined
      ? []
      : ([[`kernel = "${config.kernel}"`, sizeOf("kernel")], [`pvshim_cmdline = "${config.shim.cmdline}"`]] as [
          string,
        ][])),
    [config.shim === undefined ? `kernel = "${config.kernel}"` : `pvshim_path = "${config.shim.path}"`, image],
    ...kernel.segments.map((s): [string, string] => [
      "",
      `  ${hex(s.gpa)}–${hex(s.gpa + s.memSizeBytes)}, ${size(s.memSizeBytes)}`,
    ]),
    ...(config.ramdisk === undefined ? [] : [[`ramdisk = "${config.ramdisk}"`, sizeOf("ramdisk")] as [string, string]]),
    [`cmdline = "${config.cmdline}"`],
    [`memory = ${memoryAtStartMib(config)}`],
    ...(config.memoryAtStartMib === undefined ? [] : [[`maxmem = ${config.memoryMib}`] as [string]]),
    [`vcpus = ${vcpusAtStart(config)}`],
    ...(config.vcpusAtStart === undefined ? [] : [[`maxvcpus = ${config.vcpus}`] as [string]]),
    ...(config.cap === undefined ? [] : [[`cap = ${config.cap}`] as [string]]),
    ...(config.weight === undefined ? [] : [[`cpu_weight = ${config.weight}`] as [string]]),
    ...(config.cpus === undefined
      ? []
      : [[`cpus = [${config.cpus.map((list) => `"${list}"`).join(", ")}]`] as [string]]),
    ...(config.disks === undefined
      ? []
      : [[`disk = [${config.disks.map((disk) => `"${describeDisk(disk)}"`).join(", ")}]`] as [string]]),
    ...(config.vifs === undefined
      ? []
      : [[`vif = [${config.vifs.map((vif) => `"${describeVif(vif)}"`).join(", ")}]`] as [string]]),
    ...(config.p9s === undefined
      ? []
      : [[`p9 = [${config.p9s.map((share) => `"${describeP9(share)}"`).join(", ")}]`] as [string]]),
    [`on_poweroff = "${config.onPoweroff}"`],
    [`on_reboot = "${config.onReboot}"`],
    [`on_crash = "${config.onCrash}"`],
  ];
  return rows.map(([setting, remark]) => [setting, remark && `# ${remark}`].filter(Boolean).join("  ")).join("\n");
}
