/** What lies where in a PVH domain's guest-physical address space. */
import { type Gfn, type Gpa, PAGE_BYTES } from "@xenoserver/cpu";
import { MemmapType } from "../abi/start-info.ts";
import { BuildError } from "./errors.ts";

export const LOW_RAM_END = 0xa0000 as Gpa;
export const HIGH_RAM_START = 0x100000 as Gpa;
/**
 * Where firmware and option ROMs would be. Kernels search these 256 KiB for signatures; were nothing mapped, each read
 * would be an exit, some ninety thousand in all. Zeroed frames that nobody writes cost the host nothing.
 */
export const BIOS_START = 0xc0000 as Gpa;
export const BIOS_PAGES = 64;
export const ACPI_START = 0xfc000000 as Gpa;
export const ACPI_PAGES = 4;
export const SPECIAL_START = 0xfeff8000 as Gpa;
export const SPECIAL_END = 0xff000000 as Gpa;
export const XENSTORE_GFN = 0xfeffc as Gfn;
export const CONSOLE_GFN = 0xfefff as Gfn;

const MIB = 2 ** 20;
export const MIN_MEMORY_MIB = 2;
/** V8 allows 16 GiB for a memory, of which the engine's tables take up to half a GiB. */
export const MAX_MEMORY_MIB = 15 * 1024;
/** Where RAM below 4 GiB ends at the latest; the rest of a larger domain's lies from there on. */
const BELOW_4G_END = 3584 * MIB;
const ABOVE_4G_START = 2 ** 32;
/** Frames beside RAM: shared info, 64 grant frames, console and xenstore, BIOS area, ACPI tables, and a few to spare. */
const HYPERVISOR_FRAMES = 1 + 64 + 2 + BIOS_PAGES + ACPI_PAGES + 9;

export interface MemoryRange {
  readonly start: Gpa;
  readonly sizeBytes: number;
  readonly type: MemmapType;
}

/** @throws BuildError  if the engine cannot take so much, or no kernel could live in so little */
export function checkMemorySize(memoryMiB: number): void {
  if (!Number.isInteger(memoryMiB) || memoryMiB < MIN_MEMORY_MIB) {
    throw new BuildError("memory-too-small", `memory ${memoryMiB} MiB: expected at least ${MIN_MEMORY_MIB} MiB`);
  }
  if (memoryMiB > MAX_MEMORY_MIB) {
    throw new BuildError("memory-too-large", `memory ${memoryMiB} MiB: expected at most ${MAX_MEMORY_MIB} MiB`);
  }
}

/** Where RAM below 4 GiB ends: the hole for the legacy video memory is part of the size, as under `xl`. */
export const lowRamEnd = (memoryMiB: number): Gpa => Math.min(memoryMiB * MIB, BELOW_4G_END) as Gpa;
const bytesAbove4G = (memoryMiB: number): number => memoryMiB * MIB - lowRamEnd(memoryMiB);

/** The last gfn that the map may hold anything at. */
export const maxGfn = (memoryMiB: number): Gfn => ((ABOVE_4G_START + bytesAbove4G(memoryMiB)) / PAGE_BYTES - 1) as Gfn;

/** The map in ascending order, as the guest gets it. */
export function memoryMap(memoryMiB: number): MemoryRange[] {
  const above = { start: ABOVE_4G_START as Gpa, sizeBytes: bytesAbove4G(memoryMiB), type: MemmapType.ram };
  return [
    { start: 0 as Gpa, sizeBytes: LOW_RAM_END, type: MemmapType.ram },
    { start: HIGH_RAM_START, sizeBytes: lowRamEnd(memoryMiB) - HIGH_RAM_START, type: MemmapType.ram },
    { start: ACPI_START, sizeBytes: ACPI_PAGES * PAGE_BYTES, type: MemmapType.acpi },
    { start: SPECIAL_START, sizeBytes: SPECIAL_END - SPECIAL_START, type: MemmapType.reserved },
    ...(above.sizeBytes > 0 ? [above] : []),
  ];
}

/** Pages of RAM that a domain of this size owns. */
export function ramPages(memoryMiB: number): number {
  return (memoryMiB * MIB - (HIGH_RAM_START - LOW_RAM_END)) / PAGE_BYTES;
}

/** How many frames guest memory must have for a domain of this size. */
export function framesNeeded(memoryMiB: number): number {
  return ramPages(memoryMiB) + HYPERVISOR_FRAMES;
}
