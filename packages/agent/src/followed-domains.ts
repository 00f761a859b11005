/**
 * The domains whose processes this agent has a line to: each from when it can be reached until it has ended. Then what it used
 * and its end are in the journal, and its folder is gone.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ControlClient, type DomainEnd } from "@xenoserver/toolstack/control/index.ts";
import { END_FILE } from "@xenoserver/toolstack/control/process-folder.ts";
import { lastRecords, readRecords, SPOOL_FILE } from "@xenoserver/toolstack/usage/meter.ts";
import type { DomainGroups } from "./domain-groups.ts";
import { POLL_MS, reachProcess, readJson } from "./domain-process.ts";
import { AgentError, type AgentHome } from "./home.ts";
import type { DomainRow, Journal } from "./journal.ts";
import { findProcess } from "./spawn.ts";
import { TransferCalls } from "./transfer-calls.ts";

export interface Followed {
  readonly domid: number;
  readonly client: ControlClient;
  readonly transfers: TransferCalls;
  /** Settles with the domain's end when that is in the journal and its folder gone. */
  readonly settled: Promise<DomainRow["end"]>;
}

const COLLECT_MS = 10_000;

export class FollowedDomains {
  readonly #home: Pick<AgentHome, "domain">;
  readonly #journal: Journal;
  readonly #groups: Pick<DomainGroups, "sweep">;
  readonly #byDomid = new Map<number, Followed>();
  readonly #timer: NodeJS.Timeout;

  /** Takes over what they have used every ten seconds, until `close`. */
  constructor(home: Pick<AgentHome, "domain">, journal: Journal, groups: Pick<DomainGroups, "sweep">) {
    this.#home = home;
    this.#journal = journal;
    this.#groups = groups;
    this.#timer = setInterval(() => void this.#collect(), COLLECT_MS);
  }

  all(): Followed[] {
    return [...this.#byDomid.values()];
  }

  find(domid: number): Followed | undefined {
    return this.#byDomid.get(domid);
  }

  /** @param ref  a domain's name or number @throws AgentError  there is no such domain */
  named(ref: string): Followed {
    for (const { domid, name } of this.#journal.live()) {
      const followed = this.#byDomid.get(domid);
      if (followed !== undefined && (name === ref || String(domid) === ref)) return followed;
    }
    throw new AgentError(404, `domain ${ref} is not there`);
  }

  /**
   * Waits until a domain's process can be reached, and follows it to its end.
   * @param isNew  its process was started just now, and may not be seen yet
   * @throws AgentError  it ended, or never began; that is in the journal then
   */
  async follow(row: DomainRow, isNew = false): Promise<Followed> {
    const { domid } = row;
    const client = await reachProcess(this.#home.domain(domid), isNew);
    if (!(client instanceof ControlClient)) {
      this.#putAway(row, client);
      throw new AgentError(400, client.detail ?? `domain ${row.name} ended before it could be reached`);
    }
    const { promise: settled, resolve } = Promise.withResolvers<DomainRow["end"]>();
    const followed = { domid, client, transfers: new TransferCalls(client), settled };
    this.#byDomid.set(domid, followed);
    // An agent that is closed has let go of it: the domain goes on.
    void client.closed.then(async () => {
      if (this.#byDomid.get(domid) !== followed) return;
      while (findProcess(this.#home.domain(domid)) !== undefined) await sleep(POLL_MS);
      if (this.#byDomid.get(domid) !== followed) return;
      const end = this.#putAway(row, { reason: "killed", endedAt: Math.floor(Date.now() / 1000) });
      this.#byDomid.delete(domid);
      resolve(end);
    });
    return followed;
  }

  /** Has all of them tell what they have used by now, and takes it over. */
  async sampleUsage(): Promise<void> {
    await Promise.all(this.all().map(({ client }) => client.call("usage-sample", {}).catch(() => {})));
    await this.#collect();
  }

  /** Leaves all of them to themselves. */
  close(): void {
    clearInterval(this.#timer);
    for (const { client } of this.all()) client.close();
    this.#byDomid.clear();
  }

  /** The last of a domain: its usage and its end into the journal, then its folder away. @returns its end */
  #putAway({ domid }: DomainRow, otherwise: NonNullable<DomainRow["end"]>): NonNullable<DomainRow["end"]> {
    const folder = this.#home.domain(domid);
    const end = readJson<DomainEnd>(join(folder, END_FILE)) ?? otherwise;
    this.#journal.end(domid, end, existsSync(folder) ? lastRecords(folder) : []);
    rmSync(folder, { recursive: true, force: true });
    void this.#groups.sweep();
    return end;
  }

  /** Takes over what they have used. */
  async #collect(): Promise<void> {
    await Promise.all(this.all().map((followed) => this.#collectFrom(followed).catch(() => {})));
  }

  async #collectFrom({ domid, client }: Followed): Promise<void> {
    const records = readRecords(join(this.#home.domain(domid), SPOOL_FILE));
    const last = records.at(-1);
    if (last === undefined) return;
    this.#journal.keep(records);
    await client.call("usage-forget", { upToSeq: last.seq });
  }
}
