/** Where the kernel, its start record and the ramdisk go in RAM. */
import { type Gpa, PAGE_BYTES } from "@xenoserver/cpu";
import { BuildError } from "./errors.ts";
import type { KernelImage } from "./image/index.ts";
import { HIGH_RAM_START, LOW_RAM_END, lowRamEnd } from "./memory-map.ts";

const MIB = 2 ** 20;
const pageUp = (address: number): number => Math.ceil(address / PAGE_BYTES) * PAGE_BYTES;
const hex = (address: number): string => `0x${address.toString(16)}`;

export interface Placement {
  readonly startInfo: Gpa;
  /** Where each module goes. */
  readonly modules: readonly Gpa[];
}

export interface ModuleSize {
  /** What messages call it. */
  readonly name: string;
  readonly sizeBytes: number;
}

/** The parts of a kernel image that placing it needs. */
export type PlacedKernel = Pick<KernelImage, "name" | "entry" | "content" | "segments" | "endGpa">;

/**
 * The kernel goes where its image says, the start record behind it, the modules behind that.
 * @throws BuildError  if they do not fit
 */
export function placeImages(
  memoryMiB: number,
  kernel: PlacedKernel,
  startInfoLengthBytes: number,
  modules: readonly ModuleSize[],
): Placement {
  const startInfo = pageUp(Math.max(kernel.endGpa, HIGH_RAM_START));
  let end = pageUp(startInfo + startInfoLengthBytes);
  const places = modules.map(({ sizeBytes }) => {
    const at = end;
    end = pageUp(at + sizeBytes);
    return at as Gpa;
  });
  const memoryBytes = lowRamEnd(memoryMiB);
  const large = modules.find(({ sizeBytes }) => sizeBytes > memoryBytes);
  if (large !== undefined) {
    const size = Math.ceil(large.sizeBytes / MIB);
    throw new BuildError(
      "ramdisk-too-large",
      `${large.name} of ${size} MiB: expected less than the ${memoryMiB} MiB of memory`,
    );
  }
  if (end > memoryBytes) {
    const needed = Math.ceil(end / MIB);
    const what = modules.length > 0 ? `kernel and ${modules.at(-1)!.name} need` : "kernel needs";
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
  return { startInfo: startInfo as Gpa, modules: places };
}
