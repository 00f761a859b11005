/**
 * A control group for each process of domains, with limits that one which is well does not meet. It is there as long as the process's folder is.
 *
 * Where each lies is kept in a folder, since the agent after this one may have been started elsewhere.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { GroupLimits } from "./group-limits.ts";
import type { DomainsGroup } from "./own-group.ts";

const POLL_MS = 20;
/** A process that is gone for others may be in its group for a moment. */
const MAX_POLLS = 100;
const UNLIMITED = "max";

export class DomainGroups {
  readonly #records: string;
  readonly #within: DomainsGroup | undefined;

  /**
   * @param records  folder that says where groups are, by what tells their processes' folders apart
   * @param within   where to make them; without, there are none for new processes
   */
  constructor(records: string, within: DomainsGroup | undefined) {
    this.#records = records;
    this.#within = within;
  }

  /**
   * Makes a group for a process.
   * @param folder  the process's
   * @returns       the file to which its number is to be written; undefined if it gets none
   */
  make(folder: string, limits: GroupLimits): string | undefined {
    if (this.#within === undefined) return undefined;
    const group = join(this.#within.folder, groupName(folder));
    try {
      mkdirSync(this.#records, { recursive: true, mode: 0o700 });
      writeFileSync(this.#record(folder), JSON.stringify({ folder, group }), { mode: 0o600 });
      mkdirSync(group, { recursive: true });
      limit(group, limits);
    } catch {
      return undefined;
    }
    return join(group, "cgroup.procs");
  }

  /** Gives a process's group other limits, if it has one. */
  limit(folder: string, limits: GroupLimits): void {
    const group = this.#groupOf(folder);
    if (group !== undefined) limit(group, limits);
  }

  /** Of what it writes from now on, files may stay in memory. */
  liftMemory(folder: string): void {
    const group = this.#groupOf(folder);
    if (group !== undefined) setIfThere(join(group, "memory.max"), UNLIMITED);
  }

  /** Removes the groups of processes that are gone, and ends what those have left running. */
  async sweep(): Promise<void> {
    const names = existsSync(this.#records) ? readdirSync(this.#records) : [];
    await Promise.all(names.map((name) => this.#remove(join(this.#records, name))));
  }

  async #remove(record: string): Promise<void> {
    const known = readRecord(record);
    if (known === undefined || existsSync(known.folder)) return;
    const { group } = known;
    for (let n = 0; n < MAX_POLLS && existsSync(group); n++) {
      if (n > 0) await sleep(POLL_MS, undefined, { ref: false });
      try {
        setIfThere(join(group, "cgroup.kill"), "1");
        rmdirSync(group);
      } catch {
        // Somebody is in it still.
      }
    }
    // Otherwise later.
    if (!existsSync(group)) rmSync(record, { force: true });
  }

  #record(folder: string): string {
    return join(this.#records, groupName(folder));
  }

  #groupOf(folder: string): string | undefined {
    return readRecord(this.#record(folder))?.group;
  }
}

interface GroupRecord {
  readonly folder: string;
  /** A folder of cgroupfs. */
  readonly group: string;
}

function readRecord(path: string): GroupRecord | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as GroupRecord;
  } catch {
    return undefined;
  }
}

/** Unlike that of any other process, also of another agent: "domain-7-1f0c2a9b". */
function groupName(folder: string): string {
  const kind = basename(dirname(folder)).replace(/s$/, "");
  return `${kind}-${basename(folder)}-${createHash("sha256").update(folder).digest("hex").slice(0, 8)}`;
}

function limit(group: string, { memoryBytes, tasks }: GroupLimits): void {
  setIfThere(join(group, "memory.max"), memoryBytes === undefined ? UNLIMITED : String(memoryBytes));
  setIfThere(join(group, "pids.max"), String(tasks));
}

/** The files of controllers that it does not have are not there. */
function setIfThere(path: string, value: string): void {
  if (existsSync(path)) writeFileSync(path, value);
}
