/** Domains that other servers send here, from when their processes await them until they run, or will not. */
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import {
  ARRIVAL_FILE,
  type ProcessSpec,
  SOCKET_FILE,
  SPEC_FILE,
} from "@xenoserver/toolstack/control/process-folder.ts";
import type { AwaitedDomain } from "./departure.ts";
import { POLL_MS, readJson } from "./domain-process.ts";
import type { Followed, FollowedDomains } from "./followed-domains.ts";
import { AgentError, type AgentHome } from "./home.ts";
import type { DomainRow, Journal } from "./journal.ts";
import { findProcess } from "./spawn.ts";

export class Arrivals {
  readonly #home: Pick<AgentHome, "domain">;
  readonly #journal: Pick<Journal, "find">;
  readonly #followed: FollowedDomains;
  readonly #arriving = new Map<number, Promise<Followed>>();

  /** @param followed  where they are once they run */
  constructor(home: Pick<AgentHome, "domain">, journal: Pick<Journal, "find">, followed: FollowedDomains) {
    this.#home = home;
    this.#journal = journal;
    this.#followed = followed;
  }

  /**
   * Waits until a process that was started just now awaits its domain.
   * @returns  the socket at which it does, for half a minute
   * @throws AgentError  it cannot be here
   */
  async awaited(row: DomainRow): Promise<AwaitedDomain> {
    const { domid } = row;
    const socket = join(this.#home.domain(domid), ARRIVAL_FILE);
    const arriving = this.#follow(row, true);
    while (this.#arriving.has(domid) && !existsSync(socket)) await sleep(POLL_MS);
    if (!this.#arriving.has(domid)) await arriving;
    return { domid, socket };
  }

  /** Whether a domain that was awaited by an earlier agent is still to come. */
  isComing(domid: number): boolean {
    const folder = this.#home.domain(domid);
    const spec = readJson<ProcessSpec>(join(folder, SPEC_FILE));
    return spec?.arrives === true && !existsSync(join(folder, SOCKET_FILE));
  }

  /** Takes up such a one. */
  takeUp(row: DomainRow): void {
    void this.#follow(row, false);
  }

  #follow(row: DomainRow, isNew: boolean): Promise<Followed> {
    const arriving = this.#followed.follow(row, isNew).finally(() => this.#arriving.delete(row.domid));
    arriving.catch(() => {});
    this.#arriving.set(row.domid, arriving);
    return arriving;
  }

  /** The line to a process that awaits a domain. @throws AgentError  none does */
  line(domid: number): Promise<Duplex> {
    const path = join(this.#home.domain(domid), ARRIVAL_FILE);
    return new Promise((resolve, reject) => {
      const line = connect(path);
      line.once("connect", () => resolve(line));
      line.once("error", () => reject(new AgentError(404, `domain ${domid} is not awaited`)));
    });
  }

  /**
   * Settles when a domain that was awaited runs here.
   * @throws AgentError  404: it does not, and never will
   */
  async arrived(domid: number): Promise<DomainInfo> {
    await this.#arriving.get(domid)?.catch(() => {});
    const followed = this.#followed.find(domid);
    if (followed !== undefined) return followed.client.call("info", {});
    const end = this.#journal.find(domid)?.end;
    const detail = end === undefined ? "it was not awaited" : (end.detail ?? "its process ended");
    throw new AgentError(404, `domain ${domid} has not arrived: ${detail}`);
  }

  /** Gives up the place of a domain that has not come. */
  async giveUp(domid: number): Promise<void> {
    const folder = this.#home.domain(domid);
    const arriving = this.#arriving.get(domid);
    // Its process ends by itself if the domain has begun to come.
    const pid = existsSync(join(folder, ARRIVAL_FILE)) ? findProcess(folder) : undefined;
    if (arriving === undefined) return;
    if (pid !== undefined) process.kill(pid, "SIGKILL");
    await arriving.catch(() => {});
  }
}
