/** What this host's memory still has for another domain. A guest touches what it was promised when it likes, so that what is free now is not spare. */
import { readFileSync } from "node:fs";
import { freemem } from "node:os";
import type { DomainConfig } from "@xenoserver/toolstack/cfg/index.ts";
import { configOf, type DomainSpec, memoryAtStartMib } from "@xenoserver/toolstack/control/index.ts";
import { AgentError } from "./home.ts";
import { ownGroupFolder, spareBytesIn } from "./own-group.ts";
import { findProcesses } from "./spawn.ts";

const MIB = 2 ** 20;
/** Beside the guest's own memory; see docs/memory.md. */
const OVERHEAD_MIB = 200;

/** A domain that is there. */
export interface Promised {
  /** Its process's. */
  readonly folder: string;
  /** What it takes once its guest has touched all that it had from the start. */
  readonly mib: number;
}

/** Of a copy that shares its threads; see docs/snapshots.md. */
const SHARED_OVERHEAD_MIB = 12;
/** @param isShared  it is one of several copies in a process */
export const overheadMib = (isShared: boolean): number => (isShared ? SHARED_OVERHEAD_MIB : OVERHEAD_MIB);

/** @throws AgentError  this host does not have the memory for it, beside what it has promised */
export function refuseTooLarge(config: DomainConfig, others: readonly Promised[], overhead = OVERHEAD_MIB): void {
  const neededMib = memoryAtStartMib(config) + overhead;
  // The others know of containers' limits, the last also of those above the group that the agent went to.
  const freeMib = Math.floor(Math.min(freemem(), process.availableMemory(), spareBytesIn(ownGroupFolder())) / MIB);
  const untouchedMib = untouchedBy(others);
  if (neededMib <= freeMib - untouchedMib) return;
  const promised = untouchedMib === 0 ? "" : `: others have yet to touch ${untouchedMib} of ${freeMib}`;
  const spareMib = Math.max(0, freeMib - untouchedMib);
  throw new AgentError(
    409,
    `domain ${config.name} needs ${neededMib} MiB with its overhead, expected ≤ ${spareMib} that are free${promised}`,
  );
}

/** Nothing of one whose configuration cannot be read any more. */
export function promisedBy(spec: DomainSpec): number {
  try {
    return memoryAtStartMib(configOf(spec, "domain").config) + OVERHEAD_MIB;
  } catch {
    return 0;
  }
}

function untouchedBy(domains: readonly Promised[]): number {
  if (domains.length === 0) return 0;
  const processes = findProcesses();
  const untouched = domains.map(({ folder, mib }) => Math.max(0, mib - residentMib(processes.get(folder))));
  return Math.ceil(untouched.reduce((sum, mib) => sum + mib, 0));
}

/** None of one that has not begun, or has ended. */
function residentMib(pid: number | undefined): number {
  if (pid === undefined) return 0;
  try {
    return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
  } catch {
    return 0;
  }
}
