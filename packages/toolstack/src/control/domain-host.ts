/**
 * A domain without a terminal, from its start to its end for good: restarts it as its configuration says, keeps its
 * console, meters it, and does what its control socket asks. What a process of its own (`process.ts`) is for.
 */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { formatMac } from "@xenoserver/network/wire/ethernet.ts";
import type { GuestAgent } from "../agent/index.ts";
import {
  CAP,
  type DomainConfig,
  type DomainSpec,
  memoryAtStartMib,
  parseDisk,
  parseVif,
  pinned,
  specOfConfig,
  vcpusAtStart,
  WEIGHT,
  weighed,
} from "../cfg/index.ts";
import { affinityOf } from "../domain/affinity.ts";
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
import { cpusOf, repinned } from "./pinning.ts";
import {
  type AfterSave,
  ControlError,
  type DomainEnd,
  type DomainInfo,
  type DomainState,
  type ShutdownRequest,
} from "./protocol.ts";
import { read } from "./read.ts";
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
/** Less would starve any guest. */
const LEAST_MEMORY_BYTES = 4 * MIB;
/** A guest that reboots as soon as it runs does so once in this time. */
const RESTART_MS = 1000;

export class DomainHost {
  readonly console: Scrollback;
  readonly store: HostedStore;
  readonly meter: UsageMeter;
  readonly transfers: Transfers;
  readonly saves = new SaveOutcomes();
  /** Settles when the domain has ended and will not be restarted. */
  readonly ended: Promise<DomainEnd>;
  readonly #options: HostOptions;
  readonly #launch: Launch;
  readonly #listeners = new Set<(event: HostEvent) => void>();
  readonly #startedAt = Math.floor(Date.now() / 1000);
  /** As it would be started again: with the devices that it has now. */
  #config: DomainConfig;
  #name: string;
  #domain: RunningDomain;
  #state: DomainState;
  #destroyed = false;
  #moving = false;
  #moved: MigrationReport | undefined;
  #restarts = 0;
  #memoryTargetBytes: number;
  #vcpusWanted: number;
  /** By vcpu: processors of the host. */
  #affinity: readonly string[];
  #pinning: Promise<void> = Promise.resolve();
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
    this.#config = config;
    this.#name = config.name;
    this.#domain = domain;
    this.#state = options.paused ? "paused" : "running";
    this.#memoryTargetBytes = memoryAtStartMib(config) * MIB;
    this.#vcpusWanted = vcpusAtStart(config);
    this.#affinity = affinityOf(cpusOf(config));
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
    return {
      runId,
      domid,
      name: this.#name,
      uuid: this.#config.uuid,
      pid: process.pid,
      state: this.#state,
      startedAt: this.#startedAt,
      restarts: this.#restarts,
      memoryBytes,
      memoryTargetBytes: this.#memoryTargetBytes,
      memoryMaxBytes: this.#config.memoryMib * MIB,
      vcpus,
      vcpusWanted: this.#vcpusWanted,
      weight: this.#config.weight ?? WEIGHT.default,
      capPercent: this.#config.cap ?? 0,
      affinity: this.#affinity,
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
        bytes = await this.#domain.save(path, this.#spec, onProgress, (whole) => saving.succeed(whole));
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
        return await this.#domain.snapshot(path, this.#spec, tell, hand);
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
        report = await this.#domain.migrate(link, this.#spec, options, tell, hand);
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
      throw new ControlError("conflict", `domain ${this.#name} is paused, expected it to run and hear of its end`);
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

  rename(name: string): void {
    this.#name = name;
    this.#showName();
  }

  /**
   * What it has then, it has again when it reboots.
   * @throws ControlError  more than it may be given, or too little
   */
  setMemory(targetBytes: number): void {
    this.#refuseEnded();
    const mostBytes = this.#config.memoryMib * MIB;
    if (targetBytes < LEAST_MEMORY_BYTES || targetBytes > mostBytes) {
      const range = `${LEAST_MEMORY_BYTES / MIB} to ${mostBytes / MIB} MiB`;
      throw new ControlError("invalid", `memory of ${this.#name}: ${targetBytes / MIB} MiB, expected ${range}`);
    }
    this.meter.record("memory");
    this.#memoryTargetBytes = targetBytes;
    this.#domain.limitMemory(targetBytes);
    this.store.write(`${this.#home}/memory/target`, String(targetBytes / 1024));
    this.#config = { ...this.#config, memoryAtStartMib: Math.ceil(targetBytes / MIB) };
    this.meter.record("memory");
  }

  /** Kept as `setMemory` is. @throws ControlError  more than it may be given, or none */
  setVcpus(count: number): void {
    this.#refuseEnded();
    const most = this.#config.vcpus;
    if (count < 1 || count > most) {
      throw new ControlError("invalid", `vcpus of ${this.#name}: ${count}, expected 1 to ${most}`);
    }
    this.meter.record("vcpus");
    this.#vcpusWanted = count;
    for (let id = 0; id < most; id++) {
      this.store.write(`${this.#home}/cpu/${id}/availability`, id < count ? "online" : "offline");
    }
    this.#config = { ...this.#config, vcpusAtStart: count };
    this.meter.record("vcpus");
  }

  /** Kept as `setMemory` is. @throws ControlError, ConfigError  nothing is changed */
  async setWeight(weight: number): Promise<void> {
    this.#refuseEnded();
    this.#refuseMoving();
    if (weight < WEIGHT.min || weight > WEIGHT.max)
      throw new ControlError("invalid", `weight of ${this.#name}: ${weight}, expected ${WEIGHT.min} to ${WEIGHT.max}`);
    await this.#domain.setWeight(weight);
    const { weight: _, ...others } = this.#config;
    this.#config = { ...others, ...weighed(weight) };
  }

  /** Kept as `setMemory` is. @throws ControlError  out of range */
  setCap(percent: number): void {
    this.#refuseEnded();
    if (percent < CAP.min || percent > CAP.max)
      throw new ControlError("invalid", `cap of ${this.#name}: ${percent} %, expected ${CAP.min} to ${CAP.max}`);
    this.#domain.setCap(percent);
    const { cap: _, ...others } = this.#config;
    this.#config = percent === 0 ? others : { ...others, cap: percent };
  }

  /**
   * Kept as `setMemory` is. One follows another.
   * @param cpus  as in xl.cfg
   * @throws ControlError, ConfigError  nothing is changed
   */
  pinVcpus(vcpu: number | "all", cpus: string): Promise<void> {
    this.#pinning = this.#pinning.catch(() => {}).then(() => this.#pin(vcpu, cpus));
    return this.#pinning;
  }

  async #pin(vcpu: number | "all", written: string): Promise<void> {
    this.#refuseEnded();
    this.#refuseMoving();
    const before = cpusOf(this.#config);
    const next = repinned(this.#config, this.#name, vcpu, written);
    // Kept first, so that a guest that reboots meanwhile starts with it.
    this.#keepPins(next);
    try {
      await this.#domain.pin(next);
    } catch (error) {
      this.#keepPins(before);
      await this.#domain.pin(before).catch(() => {});
      throw error;
    }
  }

  /** @throws ConfigError  a processor is not there; nothing is changed */
  #keepPins(cpus: readonly string[]): void {
    this.#affinity = affinityOf(cpus);
    const { cpus: _, ...others } = this.#config;
    this.#config = { ...others, ...pinned(cpus) };
  }

  async attachDisk(text: string): Promise<void> {
    this.#refuseEnded();
    this.#refuseMoving();
    const disk = read(`disk ${JSON.stringify(text)}`, () => parseDisk(text));
    await this.#domain.attachDisk(disk);
    this.#config = { ...this.#config, disks: [...(this.#config.disks ?? []), disk] };
    this.meter.record("devices");
  }

  async detachDisk(vdev: string): Promise<boolean> {
    this.#refuseEnded();
    this.#refuseMoving();
    const agreed = await this.#domain.detachDisk(vdev);
    this.#config = { ...this.#config, disks: (this.#config.disks ?? []).filter((disk) => disk.vdev !== vdev) };
    this.meter.record("devices");
    return agreed;
  }

  async attachVif(text: string): Promise<number> {
    this.#refuseEnded();
    this.#refuseMoving();
    const vif = read(`vif ${JSON.stringify(text)}`, () => parseVif(text));
    const devid = await this.#domain.attachVif(vif);
    this.#config = { ...this.#config, vifs: [...(this.#config.vifs ?? []), vif] };
    this.meter.record("devices");
    return devid;
  }

  async detachVif(devid: number): Promise<boolean> {
    this.#refuseEnded();
    this.#refuseMoving();
    const gone = this.#domain.counters().devices.find((device) => device.kind === "vif" && device.devid === devid);
    const agreed = await this.#domain.detachVif(devid);
    const vifs = this.#config.vifs ?? [];
    this.#config = {
      ...this.#config,
      vifs: vifs.filter(({ mac }) => gone?.kind !== "vif" || formatMac(mac) !== gone.mac),
    };
    this.meter.record("devices");
    return agreed;
  }

  /** Its configuration as it is now. */
  get #spec(): DomainSpec {
    return specOfConfig({ ...this.#config, name: this.#name });
  }

  get #home(): string {
    // A domain that was restored keeps the number that its guest knows.
    return `/local/domain/${this.#domain.domid}`;
  }

  #refuseEnded(): void {
    if (this.#state === "ended") throw new ControlError("conflict", `domain ${this.#name} has ended`);
  }

  /** The other server would not know of what is changed now. */
  #refuseMoving(): void {
    if (this.#moving)
      throw new ControlError(
        "conflict",
        `domain ${this.#name} is on its way to another server, expected it to be here`,
      );
  }

  #refuseStanding(): void {
    this.#refuseEnded();
    if (this.#state === "paused")
      throw new ControlError("conflict", `domain ${this.#name} is paused, expected it to run`);
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

  #showName(): void {
    this.store.write(`${this.#home}/name`, this.#name);
    this.store.write(`/vm/${this.#config.uuid}/name`, this.#name);
  }

  #reading(): UsageReading {
    const { vcpus, memoryBytes, devices, traffic } = this.#domain.counters();
    const disks = devices.filter((device) => device.kind === "disk");
    return {
      vcpuRanNs: vcpus.reduce((sum, { ranNs }) => sum + ranNs, this.#pastRanNs),
      // A guest has what it was asked to give back until it does, and may bring up vcpus that it was not offered.
      vcpusReserved: Math.max(this.#vcpusWanted, vcpus.filter(({ state }) => state !== "offline").length),
      memoryBytes,
      memoryReservedBytes: Math.max(memoryBytes, this.#memoryTargetBytes),
      diskStoredBytes: disks.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      diskReservedBytes: disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      traffic: addTraffic(this.#pastTraffic, traffic),
    };
  }

  /** Until the end for good. */
  async #live(): Promise<DomainEnd> {
    for (;;) {
      const report = await this.#domain.exited;
      if (this.#destroyed || actionFor(this.#config, report.reason) === "destroy") return this.#end(report);
      const failure = await this.#restart(report);
      if (failure !== undefined) return this.#end({ ...report, detail: failure });
    }
  }

  /** @returns why the guest could not be started again */
  async #restart({ reason, runMs }: ExitReport): Promise<string | undefined> {
    this.#options.log(`${this.#name} ${reason === "reboot" ? "reboots" : `is restarted after ${reason}`}`);
    await sleep(Math.max(0, RESTART_MS - runMs));
    const started = this.#config;
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
    // Those that were pinned while it was built.
    if (this.#config.cpus !== started.cpus)
      next.pin(cpusOf(this.#config)).catch((error: Error) => this.#options.log(error.message));
    this.#restarts++;
    this.#memoryTargetBytes = memoryAtStartMib(this.#config) * MIB;
    this.#vcpusWanted = vcpusAtStart(this.#config);
    this.meter.record("restarted");
    this.store.follow(next.store);
    if (this.#name !== this.#config.name) this.#showName();
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
