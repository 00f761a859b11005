/**
 * User ids for domains' processes of root's agent, so that one can neither signal another process, nor look into it, nor write settings of the kernel, and so that what it starts can be counted.
 * A user id is a process's for as long as there is one with it; nothing of it is kept.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import type { DomainConfig } from "@xenoserver/toolstack/cfg/index.ts";
import { AgentError } from "./home.ts";
import { canBeOthers } from "./privileges.ts";

interface Range {
  readonly first: number;
  readonly last: number;
}
/** Where systemd, its containers and shadow's subordinate ids have none. */
const DEFAULT: Range = { first: 0x7800_0000, last: 0x780f_ffff };
/** The number that stands for none. */
const MAX_UID = 0xffff_fffe;

export class OwnUsers {
  readonly #range: Range;

  private constructor(range: Range) {
    this.#range = range;
  }

  /**
   * @param named  "FIRST-LAST"; "0" for none
   * @returns undefined where processes have the agent's user id, since that is not root's, or others have the range
   * @throws AgentError  `named` is neither
   */
  static open(named: string | undefined): OwnUsers | undefined {
    const range = named === undefined ? DEFAULT : parseRange(named);
    if (range === undefined || !canBeOthers()) return undefined;
    if (!isMapped(range, read("/proc/self/uid_map")) || !isMapped(range, read("/proc/self/gid_map"))) return undefined;
    if (named === undefined && isTaken(range)) return undefined;
    return new OwnUsers(range);
  }

  /** One that no process has. @param folder  of the process that is to have it */
  pick(folder: string): number {
    const { first, last } = this.#range;
    const count = last - first + 1;
    const used = usersOfProcesses();
    let n = createHash("sha256").update(folder).digest().readUInt32LE() % count;
    for (let tries = 0; used.has(first + n) && tries < count; tries++) n = (n + 1) % count;
    return first + n;
  }
}

/** Whether a domain's process has to be root's: it makes files with a guest's owners, or starts what becomes another user. */
export const needsRoot = ({ p9s = [], vifs = [] }: DomainConfig): boolean =>
  p9s.length > 0 || vifs.some(({ network }) => network.kind === "passt");

/** @throws AgentError */
function parseRange(named: string): Range | undefined {
  if (named === "0") return undefined;
  const [, first, last] = /^(\d+)-(\d+)$/.exec(named) ?? [];
  const range = { first: Number(first), last: Number(last) };
  if (range.first > 0 && range.first <= range.last && range.last <= MAX_UID) return range;
  throw new AgentError(400, `XENO_AGENT_UIDS is ${JSON.stringify(named)}, expected FIRST-LAST, or 0 for none`);
}

/** @param map  of a user namespace: lines of first id, the host's for it, and how many */
export function isMapped({ first, last }: Range, map: string): boolean {
  return linesOf(map, /\s+/).some(
    ([inside, , count]) => first >= Number(inside) && last < Number(inside) + Number(count),
  );
}

function isTaken(range: Range): boolean {
  const users = ["/etc/passwd", "/etc/group"].flatMap((path) => linesOf(read(path), ":").map(([, , id]) => [id, "1"]));
  const subordinate = ["/etc/subuid", "/etc/subgid"].flatMap((path) =>
    linesOf(read(path), ":").map(([, first, count]) => [first, count]),
  );
  return [...users, ...subordinate].some(
    ([first, count]) => Number(first) <= range.last && Number(first) + Number(count) > range.first,
  );
}

const read = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8") : "");
const linesOf = (text: string, by: string | RegExp): string[][] =>
  text
    .split("\n")
    .map((line) => line.trim().split(by))
    .filter(({ length }) => length >= 3);

function usersOfProcesses(): Set<number> {
  const users = new Set<number>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const uid = statSync(`/proc/${name}`, { throwIfNoEntry: false })?.uid;
    if (uid !== undefined) users.add(uid);
  }
  return users;
}
