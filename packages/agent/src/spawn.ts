/** Starts a domain's process so that it outlives the agent. */
import { spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ENTRY = fileURLToPath(import.meta.resolve("@xenoserver/toolstack/control/process.ts"));
/** What a domain may have open: its disks, and the sockets of its networks. */
const MAX_OPEN_FILES = 4096;

/** What a domain's process writes to its standard output and error. */
export const LOG_FILE = "log";

/** @param folder  with the domain's spec in it */
export function spawnDomain(folder: string): void {
  // Not with Node's permission model, which refuses to flush files.
  const flags = [...process.execArgv.filter((flag) => !/^--(test|permission|allow)/.test(flag)), "--no-warnings"];
  const log = openSync(join(folder, LOG_FILE), "a", 0o600);
  const command = [process.execPath, ...flags, ENTRY, folder];
  // The shell sets limits that Node cannot, and becomes Node.
  const limits = `ulimit -c 0; ulimit -n ${MAX_OPEN_FILES}; exec "$@"`;
  const [program, args] =
    process.platform === "win32" ? [command[0]!, command.slice(1)] : ["/bin/sh", ["-c", limits, "sh", ...command]];
  const child = spawn(program, args, { detached: true, cwd: "/", stdio: ["ignore", log, log] });
  // What became of it, its folder tells.
  child.on("error", () => {});
  child.unref();
  closeSync(log);
}

/** The process that serves a domain's folder, by its command line; undefined if there is none. */
export function findProcess(folder: string): number | undefined {
  for (const [pid, args] of domainProcesses()) if (args.includes(folder)) return pid;
  return undefined;
}

/** By the folder that it serves. */
export const findProcesses = (): Map<string, number> =>
  new Map([...domainProcesses()].map(([pid, args]) => [args[args.indexOf(ENTRY) + 1] ?? "", pid]));

function* domainProcesses(): Generator<[pid: number, args: readonly string[]]> {
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const args = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0");
      if (args.includes(ENTRY)) yield [Number(name), args];
    } catch {
      // It ended meanwhile.
    }
  }
}
