/** What a machine's process has taken of the host, read from Linux's /proc. */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import { layOutMemory } from "@xenoserver/cpu/state/layout.ts";
import { framesNeeded } from "@xenoserver/xen/builder/index.ts";

export interface MemoryUse {
  /** Most that was ever resident. */
  readonly peakBytes: number;
  /** Guest memory that is resident now: what the guest has touched, for none is ever given back. */
  readonly guestBytes: number;
}

const PRESENT = 0x80;
/** Linux counts processor time for user programs in these, on every architecture. */
const TICKS_PER_SECOND = 100;

/** Processor time of all threads so far, in user and kernel mode; undefined where /proc does not tell. */
export function cpuSecondsOf(pid: number): number | undefined {
  try {
    // Fields from the third on follow the name, which is in brackets and may hold anything.
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return undefined;
  }
}

/** @returns undefined where /proc does not tell, e.g. on another system than Linux */
export function memoryOf(pid: number, memoryMib: number, vcpuCount: number): MemoryUse | undefined {
  try {
    const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    const layout = layOutMemory(vcpuCount, framesNeeded(memoryMib));
    const base = findMapping(readFileSync(`/proc/${pid}/maps`, "utf8"), layout.totalBytes);
    if (peak === null || base === undefined) return undefined;
    const frames = { at: base + layout.framesOffset, count: layout.frameCount };
    return { peakBytes: Number(peak[1]) * 1024, guestBytes: countPresent(pid, frames.at, frames.count) * PAGE_BYTES };
  } catch {
    return undefined;
  }
}

/** The domain's memory is a stretch of its size; parts of it may have properties of their own, and are listed one by one. */
function findMapping(maps: string, bytes: number): number | undefined {
  let starts: number[] = [];
  let before = 0;
  for (const [, from, to] of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm)) {
    const [start, end] = [Number.parseInt(from!, 16), Number.parseInt(to!, 16)];
    if (start !== before) starts = [];
    starts.push(start);
    const found = starts.find((at) => end - at === bytes);
    if (found !== undefined) return found;
    before = end;
  }
  return undefined;
}

/** One 64-bit word for each page; bit 63 says that it is present. */
function countPresent(pid: number, address: number, pages: number): number {
  const file = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    const words = Buffer.alloc(pages * 8);
    const count = readSync(file, words, 0, words.length, (address / PAGE_BYTES) * 8);
    let present = 0;
    for (let at = 7; at < count; at += 8) if (words[at]! & PRESENT) present++;
    return present;
  } finally {
    closeSync(file);
  }
}
