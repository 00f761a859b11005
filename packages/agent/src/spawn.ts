/** Starts domains' processes so that they outlive the agent. */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { END_FILE, FAILED_FILE, LOG_FILE, ZYGOTE_FILE } from "@xenoserver/toolstack/control/process-folder.ts";
import type { Confines } from "./confinement.ts";
import { withFewPrivileges } from "./privileges.ts";

const ENTRY = fileURLToPath(import.meta.resolve("@xenoserver/toolstack/control/process.ts"));
/** What a process may have open: its domains' disks, and the sockets of their networks. */
const MAX_OPEN_FILES = 4096;
/** In a process's folder. */
const CODE_FOLDER = "code";

/** @param folder  with the domain's spec in it */
export function spawnDomain(folder: string, confines: Confines): void {
  start(folder, [folder], confines, false);
}

/** A process that waits for domains, and is told of them by lines. */
export interface SpawnedZygote {
  readonly pid: number | undefined;
  readonly requests: Writable;
  /** Ends with the process. */
  readonly replies: Readable;
}

/** @param folder  its own, which it removes when it ends */
export function spawnZygote(folder: string, confines: Confines): SpawnedZygote {
  const { pid, stdin, stdout } = start(folder, ["--zygote", folder], confines, true);
  for (const pipe of [stdin!, stdout!]) {
    // It may end at any time; the folders of its domains tell that.
    pipe.on("error", () => {});
    (pipe as unknown as { unref(): void }).unref();
  }
  return { pid, requests: stdin!, replies: stdout! };
}

/**
 * The shell enters the group and sets limits, which Node cannot, and becomes Node. One that may not enter, as where the group was removed meanwhile, is better than none.
 * Its arguments: the file of the group, or nothing; how many processes and threads its user may have, or nothing, which not all shells call by the same letter; the command.
 */
const BEGIN = `ulimit -c 0; ulimit -n ${MAX_OPEN_FILES}; group=$1; tasks=$2; shift 2
[ -z "$tasks" ] || ulimit -u "$tasks" 2>/dev/null || ulimit -p "$tasks"
if [ -n "$group" ] && ! echo $$ >"$group"; then echo "its process could not enter its control group, and has no limit of memory and processes" >&2; fi
exec "$@"`;

function start(folder: string, args: readonly string[], { group, user }: Confines, isSpokenTo: boolean): ChildProcess {
  // Not with Node's permission model, which refuses to flush files.
  const flags = [...process.execArgv.filter((flag) => !/^--(test|permission|allow)/.test(flag)), "--no-warnings"];
  const log = openSync(join(folder, LOG_FILE), "a", 0o600);
  const command = withFewPrivileges([process.execPath, ...flags, ENTRY, ...args], user?.id);
  const [program, all] =
    process.platform === "win32"
      ? [command[0]!, command.slice(1)]
      : ["/bin/sh", ["-c", BEGIN, "sh", group ?? "", String(user?.maxTasks ?? ""), ...command]];
  const stdio: StdioOptions = isSpokenTo ? ["pipe", "pipe", log] : ["ignore", log, log];
  const env = user === undefined ? process.env : { ...process.env, ...environmentOf(user.id, folder) };
  const child = spawn(program, all, { detached: true, cwd: "/", stdio, env });
  // What became of it, its folder tells.
  child.on("error", () => {});
  child.unref();
  closeSync(log);
  return child;
}

/** Has a process of another user make its files for this one, and find the code that was compiled for this one: Node keeps it by user. */
function environmentOf(user: number, folder: string): NodeJS.ProcessEnv {
  const own = process.getuid!();
  const { NODE_COMPILE_CACHE: kept } = process.env;
  if (kept === undefined || !existsSync(kept)) return { XENO_FILE_OWNER: String(own) };
  const cache = join(folder, CODE_FOLDER);
  mkdirSync(cache);
  const suffix = new RegExp(`-${own}$`);
  for (const name of readdirSync(kept).filter((name) => suffix.test(name)))
    symlinkSync(join(kept, name), join(cache, name.replace(suffix, `-${user}`)));
  return { XENO_FILE_OWNER: String(own), NODE_COMPILE_CACHE: cache };
}

/** A zygote as its domains' folders name it. */
interface ZygoteName {
  readonly folder: string;
  readonly pid: number;
}

/** Says in a domain's folder which process it is to be in. */
export function nameZygote(folder: string, name: ZygoteName): void {
  writeFileSync(join(folder, ZYGOTE_FILE), JSON.stringify(name), { mode: 0o600 });
}

/** The process that serves a domain's folder, or its zygote's; undefined if there is none. */
export function findProcess(folder: string): number | undefined {
  const zygote = zygoteOf(folder);
  if (zygote === undefined) {
    for (const [pid, args] of domainProcesses()) if (args.includes(folder)) return pid;
    return undefined;
  }
  // It goes on with other domains.
  const isOver = existsSync(join(folder, END_FILE)) || existsSync(join(folder, FAILED_FILE));
  return !isOver && argvOf(zygote.pid)?.includes(zygote.folder) === true ? zygote.pid : undefined;
}

/** Of the process that a domain is in: the domain's, or its zygote's. */
export const processFolder = (folder: string): string => zygoteOf(folder)?.folder ?? folder;

function zygoteOf(folder: string): ZygoteName | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, ZYGOTE_FILE), "utf8")) as ZygoteName;
  } catch {
    return undefined;
  }
}

/** Of domains that have a process of their own, by the folder that it serves. */
export const findProcesses = (): Map<string, number> =>
  new Map([...domainProcesses()].map(([pid, args]) => [args[args.indexOf(ENTRY) + 1] ?? "", pid]));

function* domainProcesses(): Generator<[pid: number, args: readonly string[]]> {
  for (const name of readdirSync("/proc")) {
    const args = /^\d+$/.test(name) ? argvOf(Number(name)) : undefined;
    if (args !== undefined) yield [Number(name), args];
  }
}

/** The command line of one of our processes; undefined if it is none, or has ended. */
function argvOf(pid: number): readonly string[] | undefined {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return args.includes(ENTRY) ? args : undefined;
  } catch {
    return undefined;
  }
}
