/** How much of its host a domain's process may take, with room enough for one that is well: a limit is for one that is not. */
import { existsSync, statfsSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { defaultStoreFolder } from "@xenoserver/storage/images/image-store.ts";
import { type DomainConfig, parseDisk } from "@xenoserver/toolstack/cfg/index.ts";

const MIB = 2 ** 20;
/** Node with our program takes less than half of it; see docs/memory.md. */
const PROCESS_BYTES = 512 * MIB;
const VCPU_BYTES = 64 * MIB;
/** Threads of Node's and of our own, and short helpers. */
const PROCESS_TASKS = 256;
const VCPU_TASKS = 8;

export interface GroupLimits {
  /** Undefined for no limit. */
  readonly memoryBytes: number | undefined;
  /** Processes and their threads. */
  readonly tasks: number;
}

/** Of a process with nothing in it. It reads the limit when it starts, and would keep its heaps small for ever. */
export const EMPTY: GroupLimits = { memoryBytes: undefined, tasks: PROCESS_TASKS };

/**
 * Of a process with one domain.
 * @param home  the agent's folder
 */
export function limitsOf(config: DomainConfig, home: string): GroupLimits {
  const { memoryMib, vcpus, kernel, ramdisk } = config;
  const files = [kernel, ramdisk].filter((path) => path !== undefined);
  // A file that is in memory counts as the memory of whoever wrote it.
  const isUnknown = [home, ...writtenBy(config)].some(isInMemory);
  const bytes =
    memoryMib * MIB + PROCESS_BYTES + vcpus * VCPU_BYTES + files.reduce((sum, path) => sum + sizeOf(path), 0);
  return {
    memoryBytes: isUnknown ? undefined : bytes,
    tasks: PROCESS_TASKS + vcpus * VCPU_TASKS + threadPool(),
  };
}

function writtenBy({ disks = [], p9s = [] }: Pick<DomainConfig, "disks" | "p9s">): string[] {
  const paths = disks.filter(({ format, readOnly }) => format !== "image" && !readOnly).map(({ target }) => target);
  const folders = p9s.filter(({ readOnly }) => !readOnly).map(({ path }) => path);
  // What is read of images may be fetched and kept.
  return [...paths, ...folders, ...(disks.some(({ format }) => format === "image") ? [defaultStoreFolder()] : [])];
}

/** Where a disk that is plugged in has a domain write; nowhere if it is none, which the domain says. */
export function writtenByDisk(text: string): string[] {
  try {
    return writtenBy({ disks: [parseDisk(text)] });
  } catch {
    return [];
  }
}

/** Of a process with all these. */
export const together = (all: readonly GroupLimits[]): GroupLimits =>
  all.reduce((a, b) => ({
    memoryBytes: a.memoryBytes === undefined || b.memoryBytes === undefined ? undefined : a.memoryBytes + b.memoryBytes,
    tasks: a.tasks + b.tasks,
  }));

/** They are read whole before they are in the guest's memory. */
const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

const threadPool = (): number => Number(process.env["UV_THREADPOOL_SIZE"]) || 0;

const TMPFS = 0x01021994;
const RAMFS = 0x858458f6;

/** Whether a file there, which need not be there yet, is kept in memory. */
export function isInMemory(path: string): boolean {
  let there = resolve(path);
  while (!existsSync(there)) there = dirname(there);
  const { type } = statfsSync(there);
  return type === TMPFS || type === RAMFS;
}
