/**
 * A domain without a terminal, from its start to its end for good: restarts it as its configuration says, keeps its
 * console, meters it, and does what its control socket asks. What a process of its own (`process.ts`) is for.
 */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { GuestAgent } from "../agent/index.ts";
import { type DomainConfig, WEIGHT } from "../cfg/index.ts";
import { addTraffic, NO_TRAFFIC, type Traffic } from "../domain/counters.ts";
import {
  type ExitReason,
  type ExitReport,
  type LaunchOptions,
  launchDomain,
  type RunningDomain,
} from "../domain/index.ts";
import { type LeaveOptions, MigrationInDoubt, type MigrationReport, MigrationTorn } from "../migrate/index.ts";
import { type SavedFile, SaveError } from "../save/index.ts";
import type { SnapshotReport } from "../snapshot/index.ts";
import { UsageMeter, type UsageReading } from "../usage/meter.ts";
import { actionFor } from "./actions.ts";
import { HostedStore } from "./hosted-store.ts";
import { LiveSettings } from "./live-settings.ts";
import {
  type AfterSave,
  ControlError,
  type DomainEnd,
  type DomainInfo,
  type DomainState,
  type ShutdownRequest,
} from "./protocol.ts";
import { SaveOutcomes, type Saving } from "./save-outcomes.ts";
import { Scrollback } from "./scrollback.ts";
import { type TransferProgress, Transfers } from "./transfers.ts";

export interface HostOptions {
  /** Names this run in usage records. */
  readonly runId: string;
  readonly domid: number;
  /** The domain's own folder, for what it leaves behind. */
  readonly folder: string;
  /** Leave it standing before its first instruction. */
  readonly paused: boolean;
  /** The process is this domain's alone. */
  readonly ownsProcess?: boolean;
  /** Disks in this folder are the domains' that have them, and leave with them. */
  readonly ownDisks?: string;
  /** Where it goes on, instead of at its kernel's entry. */
  readonly from?: SavedFile;
  readonly threads?: LaunchOptions["threads"];
  readonly log: (message: string) => void;
}

export type HostEvent =
  | { readonly event: "state"; readonly state: DomainState }
  | { readonly event: "restarted"; readonly reason: ExitReason };

/** Who asked for a transfer. */
export interface Tracked {
  /** By which it can be cancelled. */
  readonly token?: string;
  tell(progress: TransferProgress): void;
}
const UNTRACKED: Tracked = { tell: () => {} };

type Launch = (config: DomainConfig, paused: boolean, from?: SavedFile) => Promise<RunningDomain>;

const SCROLLBACK_BYTES = 256 * 1024;
const MIB = 2 ** 20;
/** A guest that reboots as soon as it runs does so once in this time. */
const RESTART_MS = 1000;

export class DomainHost {
  readonly console: Scrollback;
  readonly store: HostedStore;
  readonly meter: UsageMeter;
  readonly settings: LiveSettings;
  readonly transfers: Transfers;
  readonly saves = new SaveOutcomes();
  /** Settles when the domain has ended and will not be restarted. */
  readonly ended: Promise<DomainEnd>;
  readonly #options: HostOptions;
  readonly #launch: Launch;
  readonly #listeners = new Set<(event: HostEvent) => void>();
  readonly #startedAt = Math.floor(Date.now() / 1000);
  #domain: RunningDomain;
  #state: DomainState;
  #destroyed = false;
  #moving = false;
  #moved: MigrationReport | undefined;
  #restarts = 0;
  /** Of earlier starts of the guest within this process. */
  #pastRanNs = 0;
  #pastTraffic: Traffic = NO_TRAFFIC;

  private constructor(
    config: DomainConfig,
    options: HostOptions,
    console: Scrollback,
    launch: Launch,
    domain: RunningDomain,
  ) {
    this.console = console;
    this.#launch = launch;
    this.#options = options;
    this.#domain = domain;
    this.#state = options.paused ? "paused" : "running";
    this.settings = new LiveSettings(config, {
      running: () => this.#domain,
      home: () => this.#home,
      write: (path, value) => this.store.write(path, value),
      record: (cause) => this.meter.record(cause),
      log: options.log,
      refuseEnded: () => this.#refuseEnded(),
      refuseMoving: () => this.#refuseMoving(),
    });
    this.store = new HostedStore(domain.store);
    this.transfers = new Transfers(options.from?.whole);
    options.from?.whole.catch((error: Error) => options.log(error.message));
    this.meter = new UsageMeter(options.folder, options.runId, () => this.#reading());
    this.ended = this.#live();
  }

  /** @throws ConfigError  the domain cannot be built */
  static async start(config: DomainConfig, options: HostOptions): Promise<DomainHost> {
    const { domid, log, ownsProcess = false, threads } = options;
    const console = new Scrollback(SCROLLBACK_BYTES);
    const listener = { onConsole: (bytes: Uint8Array) => console.append(bytes), onLog: log };
    const launch: Launch = (of, paused, from) =>
      launchDomain(of, listener, { domid, paused, ownsProcess, ...(from && { from }), ...(threads && { threads }) });
    return new DomainHost(config, options, console, launch, await launch(config, options.paused, options.from));
  }

  onEvent(listener: (event: HostEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  info(): DomainInfo {
    const { domid, runId } = this.#options;
    const { vcpus, memoryBytes, devices } = this.#domain.counters();
    const { config, name, memoryTargetBytes, vcpusWanted, affinity } = this.settings;
    return {
      runId,
      domid,
      name,
      uuid: config.uuid,
      pid: process.pid,
      state: this.#state,
      startedAt: this.#startedAt,
      restarts: this.#restarts,
      memoryBytes,
      memoryTargetBytes,
      memoryMaxBytes: config.memoryMib * MIB,
      vcpus,
      vcpusWanted,
      weight: config.weight ?? WEIGHT.default,
      capPercent: config.cap ?? 0,
      affinity,
      devices,
      usage: this.meter.totals,
      consoleBytes: this.console.end,
    };
  }

  type(bytes: Uint8Array): Promise<void> {
    return this.#domain.writeConsole(bytes);
  }

  /**
   * The agent in the guest, which answers.
   * @throws ControlError  it does not within `readyMs`, or the guest has none
   */
  async agent(readyMs: number): Promise<GuestAgent> {
    this.#refuseEnded();
    const agent = await this.#domain.agent();
    try {
      await agent.ready(readyMs);
    } catch (error) {
      throw new ControlError("conflict", (error as Error).message);
    }
    return agent;
  }

  async pause(): Promise<void> {
    this.#refuseEnded();
    await this.#domain.pause();
    this.#become("paused");
  }

  async unpause(): Promise<void> {
    this.#refuseEnded();
    await this.#domain.unpause();
    this.#become("running");
  }

  /**
   * Writes the domain to a file, from which it can go on.
   * @param next  what becomes of the domain then
   * @throws SaveError  nothing is left of the file, and the domain is as it was
   */
  save(path: string, next: AfterSave, by: Tracked = UNTRACKED): Promise<number> {
    return this.saves.keep(by.token, path, next, (saving) => this.#save(path, next, by, saving));
  }

  #save(path: string, next: AfterSave, { token, tell }: Tracked, saving: Saving): Promise<number> {
    return this.transfers.run(token, async ({ signal }) => {
      this.#refuseEnded();
      const wasRunning = this.#state === "running";
      await this.pause();
      let bytes: number;
      try {
        const onProgress = (share: number): void => {
          signal.throwIfAborted();
          saving.mustGoOn();
          tell({ share });
        };
        bytes = await this.#domain.save(path, this.settings.spec, onProgress, (whole) => saving.succeed(whole));
      } catch (error) {
        if (wasRunning) await this.unpause();
        throw error;
      }
      if (next === "destroy") await this.destroy();
      else if (next === "run" && wasRunning) await this.unpause();
      return bytes;
    });
  }

  /** @throws ControlError  nothing is left of the file, and the domain runs on */
  snapshot(path: string, { token, tell }: Tracked = UNTRACKED): Promise<SnapshotReport> {
    return this.transfers.run(token, async (hand) => {
      this.#refuseStanding();
      try {
        return await this.#domain.snapshot(path, this.settings.spec, tell, hand);
      } catch (error) {
        throw error instanceof SaveError ? new ControlError("conflict", error.message) : error;
      }
    });
  }

  /**
   * Sends the domain to a process that awaits it, and ends it here.
   * @throws ControlError  it runs on here; or, in doubt, it is paused here and may run there; or, with post-copy, it runs there without all of its memory
   */
  migrate(
    socket: string,
    wishes: Pick<LeaveOptions, "copyStorage" | "postCopy">,
    { token, tell }: Tracked = UNTRACKED,
  ): Promise<MigrationReport> {
    return this.transfers.run(token, async (hand) => {
      this.#refuseStanding();
      const link = connect(socket);
      link.on("error", () => {});
      let report: MigrationReport;
      const { ownDisks, folder } = this.#options;
      this.#moving = true;
      try {
        const options = { ...wishes, folder, ...(ownDisks !== undefined && { ownDisks }) };
        report = await this.#domain.migrate(link, this.settings.spec, options, tell, hand);
      } catch (error) {
        this.#moving = false;
        if (!(error instanceof SaveError)) throw error;
        const isInDoubt = error instanceof MigrationInDoubt;
        if (isInDoubt || error instanceof MigrationTorn) this.#become("paused");
        throw new ControlError(isInDoubt ? "in-doubt" : "conflict", error.message);
      }
      this.#moved = report;
      await this.destroy();
      return report;
    });
  }

  /** @throws ControlError  the guest has not said that it listens, and none but it can do this */
  shutdown(request: ShutdownRequest): void {
    this.#refuseEnded();
    if (this.#state === "paused")
      throw new ControlError(
        "conflict",
        `domain ${this.settings.name} is paused, expected it to run and hear of its end`,
      );
    this.store.write(`${this.#home}/control/shutdown`, request);
  }

  sysrq(key: string): void {
    this.#refuseEnded();
    this.store.write(`${this.#home}/control/sysrq`, key);
  }

  /** @param runsElsewhere  it was found to have moved, and so have disks that went along */
  async destroy(runsElsewhere = false): Promise<void> {
    if (runsElsewhere) await this.#domain.removeLuggage();
    this.#destroyed = true;
    await this.#domain.destroy();
    await this.ended;
  }

  get #home(): string {
    // A domain that was restored keeps the number that its guest knows.
    return `/local/domain/${this.#domain.domid}`;
  }

  #refuseEnded(): void {
    if (this.#state === "ended") throw new ControlError("conflict", `domain ${this.settings.name} has ended`);
  }

  /** The other server would not know of what is changed now. */
  #refuseMoving(): void {
    if (this.#moving)
      throw new ControlError(
        "conflict",
        `domain ${this.settings.name} is on its way to another server, expected it to be here`,
      );
  }

  #refuseStanding(): void {
    this.#refuseEnded();
    if (this.#state === "paused")
      throw new ControlError("conflict", `domain ${this.settings.name} is paused, expected it to run`);
  }

  #become(state: DomainState): void {
    if (this.#state === state) return;
    this.meter.record(state);
    this.#state = state;
    this.#tell({ event: "state", state });
  }

  #tell(event: HostEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #reading(): UsageReading {
    const { vcpus, memoryBytes, devices, traffic } = this.#domain.counters();
    const disks = devices.filter((device) => device.kind === "disk");
    const { memoryTargetBytes, vcpusWanted } = this.settings;
    return {
      vcpuRanNs: vcpus.reduce((sum, { ranNs }) => sum + ranNs, this.#pastRanNs),
      // A guest has what it was asked to give back until it does, and may bring up vcpus that it was not offered.
      vcpusReserved: Math.max(vcpusWanted, vcpus.filter(({ state }) => state !== "offline").length),
      memoryBytes,
      memoryReservedBytes: Math.max(memoryBytes, memoryTargetBytes),
      diskStoredBytes: disks.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      diskReservedBytes: disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      traffic: addTraffic(this.#pastTraffic, traffic),
    };
  }

  /** Until the end for good. */
  async #live(): Promise<DomainEnd> {
    for (;;) {
      const report = await this.#domain.exited;
      if (this.#destroyed || actionFor(this.settings.config, report.reason) === "destroy") return this.#end(report);
      const failure = await this.#restart(report);
      if (failure !== undefined) return this.#end({ ...report, detail: failure });
    }
  }

  /** @returns why the guest could not be started again */
  async #restart({ reason, runMs }: ExitReport): Promise<string | undefined> {
    this.#options.log(`${this.settings.name} ${reason === "reboot" ? "reboots" : `is restarted after ${reason}`}`);
    await sleep(Math.max(0, RESTART_MS - runMs));
    const started = this.settings.config;
    let next: RunningDomain;
    try {
      next = await this.#launch(started, this.#destroyed);
    } catch (error) {
      return `it could not be started again: ${error instanceof Error ? error.message : String(error)}`;
    }
    const { vcpus, traffic } = this.#domain.counters();
    this.#pastRanNs += vcpus.reduce((sum, { ranNs }) => sum + ranNs, 0);
    this.#pastTraffic = addTraffic(this.#pastTraffic, traffic);
    this.#domain = next;
    this.#restarts++;
    this.store.follow(next.store);
    this.settings.restarted(started);
    this.meter.record("restarted");
    this.#tell({ event: "restarted", reason });
    if (this.#state === "paused") this.#become("running");
    // Whoever wants its end while it had ended by itself already.
    if (this.#destroyed) await next.destroy();
    return undefined;
  }

  #end({ reason, detail, runMs, instructions, exits }: ExitReport): DomainEnd {
    this.#state = "ended";
    this.meter.close("end");
    const saves = this.saves.end();
    return {
      reason: this.#destroyed ? "destroyed" : reason,
      ...(detail !== undefined && !this.#destroyed && { detail }),
      ...{ runMs, instructions, exits, restarts: this.#restarts },
      endedAt: Math.floor(Date.now() / 1000),
      ...(this.#moved && { moved: this.#moved }),
      ...(saves.length > 0 && { saves }),
    };
  }
}
