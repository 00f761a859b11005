/** Where the kernel, its start record and the ramdisk go in RAM. */
import { type Gpa, PAGE_BYTES } from "@xenoserver/cpu";
import { BuildError } from "./errors.ts";
import type { KernelImage } from "./image/index.ts";
import { HIGH_RAM_START, LOW_RAM_END, ramEnd } from "./memory-map.ts";

const MIB = 2 ** 20;
const pageUp = (address: number): number => Math.ceil(address / PAGE_BYTES) * PAGE_BYTES;
const hex = (address: number): string => `0x${address.toString(16)}`;

export interface Placement {
  readonly startInfo: Gpa;
  /** Meaningless without a ramdisk. */
  readonly ramdisk: Gpa;
}

/** The parts of a kernel image that placing it needs. */
export type PlacedKernel = Pick<KernelImage, "name" | "entry" | "segments" | "endGpa">;

/**
 * The kernel goes where its image says, the start record behind it, the ramdisk behind that.
 * @throws BuildError  if they do not fit
 */
export function placeImages(
  memoryMiB: number,
  kernel: PlacedKernel,
  startInfoLengthBytes: number,
  ramdiskBytes: number,
): Placement {
  const startInfo = pageUp(Math.max(kernel.endGpa, HIGH_RAM_START));
  const ramdisk = pageUp(startInfo + startInfoLengthBytes);
  const end = ramdisk + ramdiskBytes;
  const memoryBytes = ramEnd(memoryMiB);
  if (ramdiskBytes > memoryBytes) {
    const size = Math.ceil(ramdiskBytes / MIB);
    throw new BuildError(
      "ramdisk-too-large",
      `ramdisk of ${size} MiB: expected less than the ${memoryMiB} MiB of memory`,
    );
  }
  if (end > memoryBytes) {
    const needed = Math.ceil(end / MIB);
    const what = ramdiskBytes > 0 ? "kernel and ramdisk need" : "kernel needs";
    throw new BuildError("memory-too-small", `memory ${memoryMiB} MiB: ${what} ${needed} MiB, expected more`);
  }
  for (const { gpa, memSizeBytes } of kernel.segments) {
    if (gpa < HIGH_RAM_START && gpa + memSizeBytes > LOW_RAM_END) {
      throw new BuildError(
        "kernel-placement",
        `kernel ${kernel.name}: segment ${hex(gpa)}–${hex(gpa + memSizeBytes)} lies in the hole, ` +
          `expected none in ${hex(LOW_RAM_END)}–${hex(HIGH_RAM_START)}`,
      );
    }
  }
  return { startInfo: startInfo as Gpa, ramdisk: ramdisk as Gpa };
}
