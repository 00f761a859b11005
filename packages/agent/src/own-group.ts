/**
 * The control group (version 2) in which an agent makes others for its domains: where it may, and where the kernel has a controller there that is of use.
 *
 *     OWN/                 where the agent was started, which must be its own: systemd's `Delegate=yes`, a container's, or the host's root
 *     OWN/agent/           the agent itself: the kernel gives controllers to groups below one only if no process is in it
 *     OWN/xenoserver/*     domains
 */
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/**
 * Not `cpu`: nice values, which weights are, count within a group only.
 */
const CONTROLLERS = ["memory", "pids"] as const;
export type Controller = (typeof CONTROLLERS)[number];

const AGENT_GROUP = "agent";
const DOMAINS_GROUP = "xenoserver";

/** A folder of cgroupfs below which domains have groups. */
export interface DomainsGroup {
  readonly folder: string;
  readonly controllers: readonly Controller[];
}

/**
 * Of the process whose /proc files these are.
 * @param cgroup     of `/proc/PID/cgroup`
 * @param mountinfo  of `/proc/PID/mountinfo`
 * @returns          undefined if no cgroup2 is mounted that has it
 */
export function groupFolderOf(cgroup: string, mountinfo: string): string | undefined {
  const path = /^0::(\/.*)$/m.exec(cgroup)?.[1];
  if (path === undefined || path.startsWith("/..")) return undefined;
  for (const line of mountinfo.split("\n")) {
    const [fields = "", type = ""] = line.split(" - ");
    const [root = "", at = ""] = fields.split(" ").slice(3, 5).map(unescaped);
    if (!type.startsWith("cgroup2 ") || !`${path}/`.startsWith(root === "/" ? "/" : `${root}/`)) continue;
    return join(at, path.slice(root === "/" ? 0 : root.length));
  }
  return undefined;
}

/** Blanks and the like are octal there. */
const unescaped = (field: string): string =>
  field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** This process's. */
export function ownGroupFolder(): string | undefined {
  try {
    return groupFolderOf(readFileSync("/proc/self/cgroup", "utf8"), readFileSync("/proc/self/mountinfo", "utf8"));
  } catch {
    return undefined;
  }
}

/**
 * Prepares a group for domains. What cannot be done is left as it was.
 * @param named  a folder of cgroupfs to take instead of the own group; "0" for none
 * @returns      undefined where there can be none, or no controller in it
 */
export function openDomainsGroup(named?: string): DomainsGroup | undefined {
  if (named === "0") return undefined;
  try {
    if (named !== undefined) return below(named);
    const own = ownGroupFolder();
    return own === undefined ? undefined : belowOwn(own);
  } catch {
    return undefined;
  }
}

/** @param own  group of this process */
export function belowOwn(own: string): DomainsGroup | undefined {
  // An earlier agent, or systemd's `DelegateSubgroup=agent`.
  const isLeaf = basename(own) === AGENT_GROUP && existsSync(join(own, "..", "cgroup.type"));
  const base = isLeaf ? dirname(own) : own;
  if (!isUsable(base)) return undefined;
  // The root of all groups alone may have processes beside groups with controllers; it has no type.
  if (!isLeaf && existsSync(join(own, "cgroup.type")) && !leave(own)) return undefined;
  return below(base);
}

/** Whether groups can be made in it that would be of use. */
function isUsable(folder: string): boolean {
  if (controllersIn(folder, "cgroup.controllers").length === 0) return false;
  for (const name of ["", "cgroup.procs", "cgroup.subtree_control"]) accessSync(join(folder, name), constants.W_OK);
  return true;
}

/** @returns whether nobody is left in it: processes of others are not this one's to move */
function leave(own: string): boolean {
  const read = (): number[] => readFileSync(join(own, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
  // Who waits for it may have started it, as the command does under another Node.
  const movable = [process.pid, process.ppid];
  if (!read().every((pid) => movable.includes(pid))) return false;
  const leaf = join(own, AGENT_GROUP);
  mkdirSync(leaf, { recursive: true });
  for (const pid of read()) writeFileSync(join(leaf, "cgroup.procs"), String(pid));
  return true;
}

function below(base: string): DomainsGroup | undefined {
  const folder = join(base, DOMAINS_GROUP);
  const wanted = controllersIn(base, "cgroup.controllers");
  if (wanted.length === 0) return undefined;
  enable(base, wanted);
  mkdirSync(folder, { recursive: true });
  enable(folder, controllersIn(folder, "cgroup.controllers"));
  const controllers = controllersIn(folder, "cgroup.subtree_control");
  return controllers.length === 0 ? undefined : { folder, controllers };
}

/** Each by itself: one may be refused. */
function enable(folder: string, controllers: readonly Controller[]): void {
  const there = controllersIn(folder, "cgroup.subtree_control");
  for (const name of controllers) {
    if (there.includes(name)) continue;
    try {
      writeFileSync(join(folder, "cgroup.subtree_control"), `+${name}`);
    } catch {
      // It is not among those that are told then.
    }
  }
}

function controllersIn(folder: string, file: string): Controller[] {
  const names = readFileSync(join(folder, file), "utf8").trim().split(" ");
  return CONTROLLERS.filter((name) => names.includes(name));
}

/**
 * What the groups above leave of their limits, of which Node knows only the innermost.
 * @param folder  of cgroupfs
 * @returns       bytes; infinity if none is limited
 */
export function spareBytesIn(folder: string | undefined): number {
  let spare = Number.POSITIVE_INFINITY;
  if (folder === undefined) return spare;
  for (let at = folder; existsSync(join(at, "cgroup.procs")); at = dirname(at)) spare = Math.min(spare, spareOf(at));
  return spare;
}

function spareOf(folder: string): number {
  try {
    const limit = readFileSync(join(folder, "memory.max"), "utf8").trim();
    if (limit === "max") return Number.POSITIVE_INFINITY;
    const used = Number(readFileSync(join(folder, "memory.current"), "utf8"));
    // Files' pages that nobody has used lately are given up first.
    const idle = Number(/^inactive_file (\d+)$/m.exec(readFileSync(join(folder, "memory.stat"), "utf8"))?.[1] ?? 0);
    return Math.max(0, Number(limit) - used + idle);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
