/** On which of the host's processors a domain's threads run. Node cannot say that to the kernel, so util-linux' taskset does. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { ALL_CPUS, ConfigError, formatCpuList, resolveCpuList } from "../cfg/index.ts";
import { Complaint } from "../cfg/readers.ts";
import { processThreads } from "./process-threads.ts";

const ONLINE = "/sys/devices/system/cpu/online";
/** Pins threads one by one, and passes over those that are gone. */
const PIN =
  'command -v taskset >/dev/null || exit 127; for tid; do taskset -p -c "$0" "$tid" >/dev/null || [ ! -e /proc/$PPID/task/$tid ] || exit 1; done';
const NO_TASKSET = 127;

/** What this process may use altogether, as it was before anything of it was pinned. */
let usable: number[] | undefined;
/** Where threads are that are no vcpu's. */
let others: string | undefined = ALL_CPUS;

/** @throws ConfigError */
function refuse(missing: string, cause: unknown): never {
  throw new ConfigError(`vcpus cannot be pinned: ${missing}, expected Linux with taskset of util-linux`, { cause });
}

/**
 * Processors that this process may use, in ascending order.
 * @throws ConfigError  the system does not tell
 */
function hostCpus(): number[] {
  usable ??= readHostCpus();
  return usable;
}

/** @throws ConfigError */
function readHostCpus(): number[] {
  let allowed: string;
  let online: string;
  try {
    allowed = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]!;
    online = readFileSync(ONLINE, "utf8").trim();
  } catch (cause) {
    return refuse(`/proc/self/status and ${ONLINE} do not tell which processors there are`, cause);
  }
  const present = new Set(expand(online));
  return expand(allowed).filter((cpu) => present.has(cpu));
}

/** A list as the kernel writes it. */
const expand = (list: string): number[] =>
  list.split(",").flatMap((run) => {
    const [first, last] = run.split("-").map(Number) as [number, number?];
    return Array.from({ length: (last ?? first) - first + 1 }, (_, n) => first + n);
  });

/**
 * What lists of a configuration mean on this host.
 * @param cpus  by vcpu
 * @returns     by vcpu, as xl and taskset write it: "0,2-3"; "all" for all
 * @throws ConfigError  a processor is not there, or this system pins nothing
 */
export function affinityOf(cpus: readonly string[]): string[] {
  if (cpus.every((list) => list === ALL_CPUS)) return [...cpus];
  const all = hostCpus();
  return cpus.map((list, id) => {
    try {
      const chosen = resolveCpuList(list, all);
      return chosen.length === all.length ? ALL_CPUS : formatCpuList(chosen);
    } catch (error) {
      if (!(error instanceof Complaint)) throw error;
      throw new ConfigError(`cpus of vcpu ${id} ${error.message}`);
    }
  });
}

/**
 * Has a thread of this process run on these processors only; nothing happens if it is gone.
 * @param tid       what `threadId` gave
 * @param affinity  of `affinityOf`
 * @throws ConfigError  the system cannot, or does not let it
 */
export async function pinThread(tid: number | undefined, affinity: string): Promise<void> {
  if (tid === undefined) refuse("/proc/thread-self does not tell which thread is a vcpu's", undefined);
  await pinThreads([tid], affinity);
}

/**
 * Has all threads of this process that are no vcpu's run where vcpus may, if each of those was pinned; so do threads that they start from then on.
 * @param vcpus     what `threadId` gave
 * @param affinity  of `affinityOf`
 * @throws ConfigError  as above
 */
export async function pinOtherThreads(
  vcpus: readonly (number | undefined)[],
  affinity: readonly string[],
): Promise<void> {
  const wanted = unionOf(affinity);
  if (wanted === others) return;
  others = undefined;
  const done = new Set<number | undefined>(vcpus);
  for (;;) {
    // One that was not pinned yet may have started another meanwhile.
    const left = [...processThreads()].filter((tid) => !done.has(tid));
    if (left.length === 0) break;
    await pinThreads(left, wanted);
    for (const tid of left) done.add(tid);
  }
  others = wanted;
}

/** Those that any vcpu may use. */
function unionOf(affinity: readonly string[]): string {
  if (affinity.includes(ALL_CPUS)) return ALL_CPUS;
  const union = [...new Set(affinity.flatMap(expand))].sort((a, b) => a - b);
  return union.length === hostCpus().length ? ALL_CPUS : formatCpuList(union);
}

/** @throws ConfigError */
async function pinThreads(tids: readonly number[], affinity: string): Promise<void> {
  const list = affinity === ALL_CPUS ? formatCpuList(hostCpus()) : affinity;
  try {
    await promisify(execFile)("/bin/sh", ["-c", PIN, list, ...tids.map(String)]);
  } catch (cause) {
    const { code, stderr } = cause as { code?: unknown; stderr?: string };
    if (code === NO_TASKSET) refuse("there is no taskset", cause);
    throw new ConfigError(`vcpus cannot be pinned to processors ${list}: ${(stderr || String(cause)).trim()}`, {
      cause,
    });
  }
}
