/** On which of the host's processors vcpus' threads run. Node cannot say that to the kernel, so util-linux' taskset does. */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { promisify } from "node:util";
import { ALL_CPUS, ConfigError, formatCpuList, resolveCpuList } from "../cfg/index.ts";
import { Complaint } from "../cfg/readers.ts";

const ONLINE = "/sys/devices/system/cpu/online";

/** @throws ConfigError */
function refuse(missing: string, cause: unknown): never {
  throw new ConfigError(`vcpus cannot be pinned: ${missing}, expected Linux with taskset of util-linux`, { cause });
}

/**
 * Processors that this process may use, in ascending order.
 * @throws ConfigError  the system does not tell
 */
function hostCpus(): number[] {
  let allowed: string;
  let online: string;
  try {
    // Of the main thread, which nobody pins.
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
  const list = affinity === ALL_CPUS ? formatCpuList(hostCpus()) : affinity;
  try {
    await promisify(execFile)("taskset", ["-p", "-c", list, String(tid)]);
  } catch (cause) {
    if (!existsSync(`/proc/self/task/${tid}`)) return;
    const { code, stderr } = cause as { code?: unknown; stderr?: string };
    if (code === "ENOENT") refuse("there is no taskset", cause);
    throw new ConfigError(`vcpus cannot be pinned to processors ${list}: ${(stderr ?? String(cause)).trim()}`, {
      cause,
    });
  }
}
