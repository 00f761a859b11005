/**
 * A domain's weight, as Xen's schedulers have it: where domains want more than there is, they share it as their weights are to each other. The host's
 * scheduler does the sharing, and knows weights as nice values; see docs/decisions/0027-weights.md.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, WEIGHT } from "../cfg/index.ts";
import { processThreads } from "./process-threads.ts";

/** Linux weighs each nice value so many times as heavily as the next. */
const STEP = 1.25;
const NICE = { min: -20, max: 19 } as const;
const GROUP = "/proc/self/autogroup";
/** Users other than root may change a group ten times a second. */
const GROUP_MS = 110;

interface NiceValues {
  readonly threads: number;
  /** Of the scheduling group that Linux makes of a session, if the session is this process's own. */
  readonly group: number | undefined;
}

/** Those that the process was started with: a domain of the default weight has them. */
let initial: NiceValues | undefined;
let weighing: Promise<void> = Promise.resolve();

/** By how many nice values a domain stands behind one of the default weight; below 0 for a heavier one. */
export const nicenessOf = (weight: number): number => Math.round(Math.log(WEIGHT.default / weight) / Math.log(STEP));

/**
 * Weighs all threads of this process, and those that they will start. One call follows another.
 * @throws ConfigError  this user may not; nothing is changed
 */
export function weighProcess(weight: number): Promise<void> {
  weighing = weighing.catch(() => {}).then(() => weigh(weight));
  return weighing;
}

async function weigh(weight: number): Promise<void> {
  initial ??= { threads: getPriority(), group: groupNice() };
  const by = nicenessOf(weight);
  setThreadsNice(weight, within(initial.threads + by));
  if (initial.group !== undefined) await setGroupNice(within(initial.group + by));
}

const within = (nice: number): number => Math.min(NICE.max, Math.max(NICE.min, nice));

/** @throws ConfigError */
function setThreadsNice(weight: number, nice: number): void {
  const before = getPriority();
  try {
    for (const thread of processThreads()) setThreadNice(thread, nice);
  } catch (cause) {
    if (!["EACCES", "EPERM"].includes(codeOf(cause) ?? "")) throw cause;
    throw new ConfigError(
      `cpu_weight is ${weight}, which takes a nice value of ${nice}: this user may not go below ${before}, expected less weight`,
      { cause },
    );
  }
}

function setThreadNice(thread: number, nice: number): void {
  try {
    setPriority(thread, nice);
  } catch (error) {
    // It has ended meanwhile.
    if (codeOf(error) !== "ESRCH") throw error;
  }
}

/** Node puts the code of a failed `setPriority` beside its own. */
const codeOf = (error: unknown): string | undefined =>
  (error as { readonly info?: { readonly code?: string } }).info?.code ?? (error as NodeJS.ErrnoException).code;

/** Undefined where the kernel has no such groups, or this one is others' too, as in a terminal. */
function groupNice(): number | undefined {
  try {
    // Behind the name, which may have spaces: state, parent, group, session.
    const session = readFileSync("/proc/self/stat", "utf8").split(") ").at(-1)!.split(" ")[3];
    if (session !== String(process.pid)) return undefined;
    const nice = / nice (-?\d+)$/.exec(readFileSync(GROUP, "utf8").trim())?.[1];
    return nice === undefined ? undefined : Number(nice);
  } catch {
    return undefined;
  }
}

async function setGroupNice(nice: number): Promise<void> {
  for (;;) {
    try {
      return writeFileSync(GROUP, String(nice));
    } catch (error) {
      if (codeOf(error) !== "EAGAIN") throw error;
      await sleep(GROUP_MS);
    }
  }
}
