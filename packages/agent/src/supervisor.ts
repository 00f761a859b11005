/**
 * The domains of one server. Each is a process that lives by itself; the agent knows it by its row in the journal and its
 * folder, follows it at its control socket, and takes its usage over. An agent that was killed finds all of them again.
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import {
  type AfterSave,
  type ArgsOf,
  ControlClient,
  configOf,
  copyOfSpec,
  type DomainInfo,
  type DomainSpec,
  macsIn,
  type OperationName,
  type ResultOf,
} from "@xenoserver/toolstack/control/index.ts";
import { type ProcessSpec, SOCKET_FILE } from "@xenoserver/toolstack/control/process-folder.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import type { SnapshotReport } from "@xenoserver/toolstack/snapshot/index.ts";
import type { KeyTable } from "./api/key-table.ts";
import { Arrivals } from "./arrivals.ts";
import { Confinement } from "./confinement.ts";
import { makeCopies } from "./copies.ts";
import { type AwaitedDomain, type DepartureOptions, sendAway, unlessLost } from "./departure.ts";
import { readLog, startProcess } from "./domain-process.ts";
import { FollowedDomains } from "./followed-domains.ts";
import { isInMemory, writtenByDisk } from "./group-limits.ts";
import { AgentError, type AgentHome, makeHome } from "./home.ts";
import { type DomainRow, Journal, type UsageSum } from "./journal.ts";
import type { OperationTable } from "./operations/operation-table.ts";
import { unwatched, type Work } from "./operations/work.ts";
import { answerOf, outcomeAmong, outcomeIn, save, snapshot } from "./saving.ts";
import { overheadMib, type Promised, promisedBy, refuseTooLarge } from "./spare-memory.ts";
import { findProcess, processFolder, spawnDomain } from "./spawn.ts";
import { checked, refuseShared, sizeOf, specOfSaved } from "./specs.ts";
import { type Zygote, Zygotes } from "./zygotes.ts";

/** Where a domain is to run that goes on from a file. */
interface ZygotePlace {
  readonly zygote: Zygote;
  readonly isAlone: boolean;
}

interface BegunDomain {
  readonly row: DomainRow;
  /** Settles when there is a reason to look what came of it. */
  readonly told: Promise<void> | void;
}

interface CreateOptions {
  readonly paused: boolean;
  readonly overcommit: boolean;
  /** Path of the saved domain that it goes on from. */
  readonly restore?: string;
  /** Instead of a process of its own. */
  readonly place?: ZygotePlace;
}

export class Supervisor {
  /** Domains that other servers send. */
  readonly arrivals: Arrivals;
  readonly #home: AgentHome;
  readonly #journal: Journal;
  readonly #followed: FollowedDomains;
  readonly #confinement: Confinement;
  readonly #zygotes: Zygotes;

  private constructor(home: AgentHome) {
    makeHome(home);
    this.#home = home;
    this.#journal = new Journal(home.journal);
    this.#confinement = new Confinement(home);
    this.#zygotes = new Zygotes(home.zygotes, home.keepsZygote, this.#confinement);
    this.#followed = new FollowedDomains(home, this.#journal, this.#confinement.groups);
    this.arrivals = new Arrivals(home, this.#journal, this.#followed);
  }

  /** Takes up all domains that the journal knows. @throws AgentError  another agent has them */
  static async open(home: AgentHome): Promise<Supervisor> {
    const supervisor = new Supervisor(home);
    await Promise.all(supervisor.#journal.live().map((row) => supervisor.#takeUp(row)));
    void supervisor.#confinement.groups.sweep();
    return supervisor;
  }

  get operations(): OperationTable {
    return this.#journal.operations;
  }
  get keys(): KeyTable {
    return this.#journal.keys;
  }

  /**
   * Starts a domain.
   * @param work  its number becomes the domain's `runId`
   * @param overcommit  start it even if the host seems to have too little memory for it
   * @throws AgentError  with one line per mistake; nothing is left then
   */
  async create(
    spec: DomainSpec,
    { paused, overcommit, restore, place }: CreateOptions,
    work: Work = unwatched(randomUUID()),
  ): Promise<DomainInfo> {
    const { signal } = work;
    const source = restore === undefined ? {} : { restore };
    const begun = this.#begin(spec, { paused, overcommit, runId: work.id, ...(place && { place }) }, source);
    const { row } = begun;
    work.report({ kind: restore === undefined ? "create" : "restore", domid: row.domid });
    // Others may be in the same process.
    const kill = place === undefined ? (): void => this.#kill(row.domid) : (): void => {};
    signal.addEventListener("abort", kill);
    try {
      await begun.told;
      const { client, settled } = await this.#followed.follow(row, true);
      if (signal.aborted) {
        kill();
        if (place !== undefined) await client.call("destroy", {});
        await settled;
      }
      signal.throwIfAborted();
      return await client.call("info", {});
    } catch (error) {
      throw signal.aborted ? new AgentError(409, `domain ${row.name}: its creation was cancelled`) : error;
    } finally {
      signal.removeEventListener("abort", kill);
    }
  }

  #kill(domid: number): void {
    const pid = findProcess(this.#home.domain(domid));
    if (pid !== undefined) process.kill(pid, "SIGKILL");
  }

  /**
   * What came of the creation that had this number as its `runId`, when another agent began it.
   * @returns undefined if nothing was begun
   * @throws AgentError  the domain has ended
   */
  async created(runId: string): Promise<DomainInfo | undefined> {
    const row = this.#journal.findRun(runId);
    // What failed has left nothing.
    if (row === undefined || row.end?.reason === "failed") return undefined;
    if (row.end !== undefined)
      throw new AgentError(409, `domain ${row.name} was made, and has ended: ${row.end.reason}`);
    return this.call(String(row.domid), "info", {});
  }

  /** Starts a domain's process. @throws AgentError  with one line per mistake; nothing is left then */
  #begin(
    spec: DomainSpec,
    { paused, overcommit, runId, place }: Omit<CreateOptions, "restore"> & { readonly runId: string },
    source: Pick<ProcessSpec, "restore" | "arrives">,
  ): BegunDomain {
    const uuid = spec["uuid"] ?? randomUUID();
    const { config } = checked(() => configOf({ ...spec, uuid }, "domain"));
    if (!overcommit) refuseTooLarge(config, this.#promised(), overheadMib(place?.isAlone === false));
    const whole = { ...spec, name: config.name, uuid };
    const domid = this.#journal.add(config.name, runId, whole, paused);
    const start = (folder: string): Promise<void> | void =>
      place === undefined
        ? spawnDomain(folder, this.#confinement.ofDomain(folder, config))
        : place.zygote.host(folder, place.isAlone, this.#confinement.limitsOf(config));
    const process = { version: 1, runId, domid, domain: whole, paused, disks: this.#home.disks, ...source } as const;
    const told = startProcess(this.#home.domain(domid), process, start);
    this.#zygotes.expect(config);
    return { row: this.#journal.find(domid)!, told };
  }

  #promised(): Promised[] {
    return this.#journal.live().map(({ domid, spec }) => ({ folder: this.#home.domain(domid), mib: promisedBy(spec) }));
  }

  /**
   * Starts a domain where it was saved, or as a snapshot has it.
   * @param path  of the file
   * @param name  makes it another domain, with a uuid of its own
   * @throws AgentError  as `create`, and for a file that is neither
   */
  async restore(path: string, options: CreateOptions, name?: string, work?: Work): Promise<DomainInfo> {
    const spec = await specOfSaved(path);
    const own = name === undefined ? spec : copyOfSpec(spec, name, this.#takenMacs());
    if (own !== spec && this.#journal.live().some((row) => row.spec["uuid"] === spec["uuid"])) refuseShared(spec);
    const create = (more: Pick<CreateOptions, "place">): Promise<DomainInfo> =>
      this.create(own, { ...options, restore: path, ...more }, work);
    if (!this.#fitsZygote(spec)) return create({});
    const zygote = this.#zygotes.take(sizeOf(spec));
    try {
      return await create({ place: { zygote, isAlone: true } });
    } finally {
      zygote.seal();
    }
  }

  /**
   * Makes copies of a running domain, which go on from where it is at this moment, each with a name and uuid of its own. Memory is read
   * as they touch it.
   * @param prefix  of their names, which end in -1, -2 …
   * @throws AgentError  there are none then
   */
  async fork(
    ref: string,
    {
      count,
      name: prefix,
      overcommit,
    }: { readonly count: number; readonly name?: string; readonly overcommit: boolean },
    work: Work,
  ): Promise<DomainInfo[]> {
    const { domid, transfers } = this.#followed.named(ref);
    const { name, spec: original } = this.#journal.find(domid)!;
    const path = join(this.#home.folder, `fork-${randomUUID()}`);
    this.#letWrite(domid, [path]);
    const names = this.#freeNames(prefix ?? name, count);
    const taken = this.#takenMacs();
    // Copies of one domain trust one another as much as it trusts itself.
    const zygote = this.#zygotes.take(sizeOf(original));
    const place = { zygote, isAlone: count === 1 };
    // Among others a domain has neither a weight nor processors.
    const placeOf = (spec: DomainSpec) =>
      (count > 1 && (spec["cpu_weight"] ?? spec["cpus"]) !== undefined) || !this.#fitsZygote(spec) ? {} : { place };
    return makeCopies(names, path, work, {
      // What cannot be taken back of the snapshot can of the copies.
      snapshot: () =>
        transfers.snapshot({ path }, { ...work, commit: () => {} }, (snapshot) => ({
          ...{ kind: "fork", madeCount: 0, count, snapshot },
        })),
      make: (spec, own) =>
        this.create(
          copyOfSpec(spec, own, taken),
          { paused: false, overcommit, restore: path, ...placeOf(spec) },
          { ...work, id: randomUUID(), report: () => {} },
        ),
      destroy: (info) => this.call(String(info.domid), "destroy", {}),
    }).finally(() => zygote.seal());
  }

  /** What interfaces of domains are known to have. */
  #takenMacs(): Set<number> {
    return new Set(this.#journal.live().flatMap(({ spec }) => macsIn(spec)));
  }
  #fitsZygote(spec: DomainSpec): boolean {
    return this.#confinement.fitsZygote(checked(() => configOf(spec, "domain").config));
  }

  /** Names that no domain has. */
  #freeNames(prefix: string, count: number): string[] {
    const taken = new Set(this.#journal.live().map(({ name }) => name));
    const names: string[] = [];
    for (let n = 1; names.length < count; n++) if (!taken.has(`${prefix}-${n}`)) names.push(`${prefix}-${n}`);
    return names;
  }

  /**
   * Makes a place for a domain of another server.
   * @param spec  what it is there
   * @returns     the socket at which it is awaited, for half a minute
   * @throws AgentError  it cannot be here
   */
  async await(spec: DomainSpec, overcommit: boolean): Promise<AwaitedDomain> {
    const { row } = this.#begin(spec, { paused: false, overcommit, runId: randomUUID() }, { arrives: true });
    return this.arrivals.awaited(row);
  }

  /**
   * Moves a domain to another server while it runs.
   * @param to  the path of its agent's socket, or "HOST[:PORT]"
   * @throws AgentError  it runs on here, unless the message says otherwise
   */
  async migrate(ref: string, to: string, options: DepartureOptions, work: Work): Promise<MigrationReport> {
    const followed = this.#followed.named(ref);
    const { spec, name } = this.#journal.find(followed.domid)!;
    return sendAway({ ...followed, spec: { ...spec, name } }, to, options, this.#home, work);
  }

  /** Writes a domain to a file. @throws AgentError, ControlError  as `save` in saving.ts */
  async save(
    ref: string,
    args: { readonly path: string; readonly next: AfterSave },
    work: Work,
  ): Promise<{ bytes: number }> {
    const { transfers, settled, domid } = this.#followed.named(ref);
    this.#letWrite(domid, [args.path]);
    return save({ transfers, settled, connect: () => this.connect(String(domid)) }, args, work);
  }

  /** What came of a save that another agent began, when it is over. @returns undefined if nobody knows @throws ControlError  nothing is left of it */
  async saved(token: string): Promise<{ bytes: number } | undefined> {
    const ended = outcomeIn(this.#journal.findEnd(token), token);
    const live = this.#followed.all().map(({ domid, settled }) => ({
      settled,
      connect: () => this.connect(String(domid)),
    }));
    const outcome = ended ?? (await outcomeAmong(token, live));
    return outcome && answerOf(outcome);
  }

  /** @throws AgentError, ControlError  nothing is left of it, unless the message says otherwise */
  async snapshot(ref: string, path: string, work: Work): Promise<SnapshotReport> {
    const { transfers, domid } = this.#followed.named(ref);
    this.#letWrite(domid, [path]);
    return snapshot({ transfers }, path, work);
  }

  /** Files that are kept in memory are not to make a domain's process meet its limit. */
  #letWrite(domid: number, paths: readonly string[]): void {
    if (paths.some(isInMemory)) this.#confinement.groups.liftMemory(processFolder(this.#home.domain(domid)));
  }

  /** @throws AgentError  there is no such domain */
  mustHave(ref: string): void {
    this.#followed.named(ref);
  }

  async list(): Promise<DomainInfo[]> {
    const infos = this.#followed.all().map(({ client }) => client.call("info", {}).catch(() => undefined));
    return (await Promise.all(infos)).filter((info) => info !== undefined).sort((a, b) => a.domid - b.domid);
  }

  /** @param ref  a domain's name or number @throws AgentError  there is none */
  async call<N extends OperationName>(ref: string, op: N, args: ArgsOf<N>): Promise<ResultOf<N>> {
    const { client, settled, domid } = this.#followed.named(ref);
    if (op === "rename") this.#journal.rename(domid, String((args as { name?: unknown }).name));
    if (op === "block-attach") this.#letWrite(domid, writtenByDisk(String((args as { disk?: unknown }).disk)));
    if (op !== "destroy") return client.call(op, args);
    const result = await client.call(op, args).catch(unlessLost);
    // Who destroys a domain may create it again at once.
    await settled;
    return result as ResultOf<N>;
  }

  /** A connection of its own to a domain's control socket, for its console or watches. */
  connect(ref: string): Promise<ControlClient> {
    return ControlClient.connect(join(this.#home.domain(this.#followed.named(ref).domid), SOCKET_FILE));
  }

  /** What the hypervisor had to say of a domain; of a long log, its end. */
  log(ref: string): string {
    return readLog(this.#home.domain(this.#followed.named(ref).domid));
  }

  /** Settles when a domain has ended and all that it left is put away. */
  async ended(ref: string): Promise<DomainRow["end"]> {
    return this.#followed.named(ref).settled;
  }

  async usage(): Promise<UsageSum[]> {
    await this.#followed.sampleUsage();
    return this.#journal.usage();
  }

  /** Leaves all domains to themselves. */
  close(): void {
    this.#zygotes.close();
    this.#followed.close();
    this.#journal.close();
  }

  /** A domain of an earlier agent; one that is still to come is not waited for. */
  async #takeUp(row: DomainRow): Promise<void> {
    if (this.arrivals.isComing(row.domid)) this.arrivals.takeUp(row);
    else await this.#followed.follow(row).catch(() => {});
    if (this.#followed.find(row.domid) !== undefined) this.#zygotes.expect(sizeOf(row.spec));
  }
}
