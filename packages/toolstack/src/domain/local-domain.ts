/** A domain in this process: backends on this thread, one worker thread per vcpu. */
import type { Duplex } from "node:stream";
import { type DomainMemory, kickVcpu, saveVcpu, type VcpuStart } from "@xenoserver/cpu";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import {
  type BuiltDomain,
  FrameReclaimer,
  HostClock,
  HostEventChannels,
  HostGrants,
  isResting,
  pauseDomain,
  ShutdownReason,
  saveControl,
  unpauseDomain,
} from "@xenoserver/xen";
import { Field } from "@xenoserver/xen/domain/layout.ts";
import { setCap } from "@xenoserver/xen/vcpu/cap.ts";
import type { LocalClient } from "@xenoserver/xenstore";
import type { GuestAgent } from "../agent/index.ts";
import { AGENT_CONSOLE } from "../agent/program.ts";
import {
  configOf,
  type DiskSpec,
  type DomainConfig,
  type DomainSpec,
  describeDisk,
  type VifSpec,
} from "../cfg/index.ts";
import {
  type Hand,
  type LeaveOptions,
  Leaving,
  type MigrationProgress,
  type MigrationReport,
} from "../migrate/index.ts";
import { type MovingDomain, sendDomain } from "../migrate/send.ts";
import { type SavedBackends, type SavedHeader, type SavedParts, SaveError, writeSaved } from "../save/index.ts";
import { type SnapshotProgress, type SnapshotReport, takeSnapshot } from "../snapshot/take.ts";
import { attachAgent, type CopiedGuest, copiedGuest } from "./agent-line.ts";
import { countersOf, type DomainCounters, ranNs } from "./counters.ts";
import { DomainDevices, diskModule, diskNumber, type PreparedDevice, vifModule } from "./devices.ts";
import { discardAll, discardOf } from "./discard.ts";
import type { DomainThreads } from "./domain-threads.ts";
import { HANDOVER_MS } from "./handover-store.ts";
import type { DomainListener, ExitReason, ExitReport, LaunchOptions, RunningDomain } from "./running-domain.ts";
import { SpecialRings } from "./special-rings.ts";

/** How long threads may take to notice that their domain has ended before they are stopped by force. */
const STOP_MS = 2000;
const CALL_AGENT_MS = 1000;

/** A domain whose vcpus may run. */
export interface ReadyDomain extends Omit<BuiltDomain, "start"> {
  /** Where vcpu 0 starts, or every vcpu's saved state. */
  readonly from: VcpuStart | readonly Uint8Array[];
  readonly mostPages: number;
  readonly backends?: SavedBackends;
}

export class LocalDomain implements RunningDomain {
  readonly exited: Promise<ExitReport>;
  readonly store: LocalClient;
  readonly #config: DomainConfig;
  readonly #memory: DomainMemory;
  readonly #built: ReadyDomain;
  readonly #listener: DomainListener;
  readonly #channels: HostEventChannels;
  readonly #rings: SpecialRings;
  readonly #devices: DomainDevices;
  readonly #threads: DomainThreads;
  readonly #clock: HostClock;
  readonly #ranBeforeNs: readonly number[];
  #agent: Promise<GuestAgent> | undefined;
  /** If others may go on from the same moment. */
  readonly #copy: CopiedGuest | undefined;
  #destroyed = false;
  #paused: Promise<void> | undefined;
  /** Its devices were let go for another server. */
  #released = false;
  /** What it takes along when it moves. */
  #leaving: Leaving | undefined;

  constructor(
    config: DomainConfig,
    memory: DomainMemory,
    built: ReadyDomain,
    listener: DomainListener,
    options: LaunchOptions,
    devices: readonly PreparedDevice[],
    threads: DomainThreads,
  ) {
    this.#config = config;
    this.#memory = memory;
    this.#built = built;
    this.#listener = listener;
    this.#channels = new HostEventChannels(built.domain, () => {
      if (built.domain.shutdownReason !== undefined) this.#channels.stop();
      threads.startWanted();
      reclaimer.look();
    });
    const reclaimer = new FrameReclaimer(
      built.domain,
      memory,
      () => discardOf(memory),
      (error) => this.#log(error.message),
    );
    this.#rings = new SpecialRings({
      config,
      memory,
      built,
      channels: this.#channels,
      listener,
      saved: built.backends,
    });
    this.store = this.#rings.store;
    this.#devices = new DomainDevices({
      domid: this.domid,
      store: this.store,
      grants: new HostGrants(built.domain),
      channels: this.#channels,
      log: (message) => this.#log(message),
    });
    for (const device of devices) this.#devices.attach(device, savedOf(built, device.deviceClass, device.devid));
    if (built.backends !== undefined) this.#channels.dispatchAll();
    const begin = performance.now();
    this.#clock = new HostClock(built.domain);
    const isMoved = built.backends !== undefined;
    this.#ranBeforeNs = isMoved ? built.domain.vcpus.map((record) => ranNs(record, this.#clock.nowNs())) : [];
    if (options.paused === true) void this.pause();
    this.#threads = threads;
    const threadListener = {
      onLog: (message: string) => this.#log(message),
      onRan: (vcpuId: number, atMs: number) => {
        if (isMoved) this.#log(`vcpu${vcpuId}: goes on since ${new Date(atMs).toISOString()}`);
      },
      onFailure: () => built.domain.shutDown(ShutdownReason.crash),
    };
    threads.begin(built.domain, built.from, threadListener, options.from?.frames);
    this.exited = this.#serve(begin).finally(() => {
      options.from?.closeFrames();
      // The process may go on, with other domains or the next start of this one.
      discardAll(memory);
    });
    this.#copy = options.from && copiedGuest(config, options.from, (message) => this.#log(message));
    // Its guest goes on writing to the line that it has.
    if (savedOf(built, "console", AGENT_CONSOLE) !== undefined) void this.agent();
    else if (this.#copy !== undefined) this.#callAgentLater();
  }

  writeConsole(bytes: Uint8Array): Promise<void> {
    return this.#rings.writeConsole(bytes);
  }

  async attachDisk(disk: DiskSpec): Promise<void> {
    const { name, vcpus } = this.#config;
    const { prepareDisk } = await diskModule();
    const prepared = await prepareDisk(disk, name, vcpus);
    try {
      this.#devices.attach(prepared);
    } catch (error) {
      await prepared.close();
      throw error;
    }
  }

  detachDisk(vdev: string): Promise<boolean> {
    return this.#devices.detach("vbd", diskNumber(vdev));
  }

  growDisk(vdev: string, sizeBytes: number): Promise<void> {
    return this.#devices.grow("vbd", diskNumber(vdev), sizeBytes);
  }

  async attachVif(vif: VifSpec): Promise<number> {
    const devid = this.#devices.freeNumber("vif");
    const prepared = await (await vifModule()).prepareVif(vif, devid, this.#config.vcpus);
    try {
      this.#devices.attach(prepared);
    } catch (error) {
      await prepared.close();
      throw error;
    }
    return devid;
  }

  detachVif(devid: number): Promise<boolean> {
    return this.#devices.detach("vif", devid);
  }

  agent(): Promise<GuestAgent> {
    const saved = savedOf(this.#built, "console", AGENT_CONSOLE);
    this.#agent ??= attachAgent(this.#devices, this.exited, saved, this.#copy);
    return this.#agent;
  }

  /** A copy's agent is to hear of random numbers of its own; a guest that gets its line does nothing else for a while. */
  #callAgentLater(): void {
    const timer = setTimeout(() => void this.agent(), CALL_AGENT_MS).unref();
    void this.exited.then(() => clearTimeout(timer));
  }

  get domid(): number {
    return this.#built.domain.domid;
  }

  get isPaused(): boolean {
    return this.#paused !== undefined;
  }

  pause(): Promise<void> {
    this.#paused ??= pauseDomain(this.#built.domain);
    return this.#paused;
  }

  async save(...[path, spec, onProgress, onWhole]: Parameters<RunningDomain["save"]>): Promise<number> {
    if (this.#paused === undefined) throw new SaveError(`domain ${this.#config.name} runs, expected it to be paused`);
    await this.#paused;
    try {
      return await writeSaved(path, await this.#standStill(spec), this.#memory, onProgress, onWhole);
    } finally {
      for (const device of this.#devices.all) device.resume();
    }
  }

  migrate(
    link: Duplex,
    spec: DomainSpec,
    options: LeaveOptions = {},
    onProgress?: (progress: MigrationProgress) => void,
    hand?: Hand,
  ): Promise<MigrationReport> {
    return sendDomain(link, this.#moving(spec, options), onProgress, hand, options.postCopy);
  }

  async removeLuggage(): Promise<void> {
    await this.#leaving?.remove();
    this.#leaving = undefined;
  }

  snapshot(
    path: string,
    spec: DomainSpec,
    onProgress?: (progress: SnapshotProgress) => void,
    hand?: Hand,
  ): Promise<SnapshotReport> {
    const freeze = async (): Promise<() => Promise<DomainSpec>> => {
      const finish = await this.#devices.freeze();
      return async () => withDisks(spec, await finish());
    };
    return takeSnapshot(path, { ...this.#moving(spec), freeze }, onProgress, hand);
  }

  #moving(spec: DomainSpec, options: LeaveOptions = {}): MovingDomain {
    const { domain } = this.#built;
    return {
      leave: async () => {
        this.#leaving = await Leaving.begin(await this.#devices.leave(options), this.#config, options.folder);
        return this.#leaving;
      },
      memory: this.#memory,
      header: this.#headerOf(spec),
      isResting: (vcpuId) => isResting(domain, vcpuId),
      settle: () => this.#devices.flush(),
      rehearse: () => void this.#parts(spec),
      holdDisks: () => this.#devices.hold("vbd"),
      halt: async () => {
        await this.pause();
        if (domain.shutdownReason !== undefined) throw new SaveError("it has ended meanwhile");
        return this.#standStill(spec);
      },
      release: () => {
        this.#released = true;
        return this.#devices.release();
      },
      resume: () => this.unpause(),
    };
  }

  /** Of a domain that is paused: nothing is in flight afterwards. */
  async #standStill(spec: DomainSpec): Promise<SavedParts> {
    // What the guest asked of the host before it stood still is taken in, and what was begun is ended.
    this.#channels.dispatch();
    const devices = this.#devices.all;
    for (const device of devices) device.pause();
    await Promise.all(devices.map((device) => device.paused()));
    return this.#parts(spec);
  }
  #headerOf(spec: DomainSpec): SavedHeader {
    const { mostPages } = this.#built;
    return { spec, domid: this.domid, systemNs: this.#clock.nowNs(), savedAtMs: Date.now(), mostPages };
  }
  #parts(spec: DomainSpec): SavedParts {
    const { domain } = this.#built;
    return {
      header: this.#headerOf(spec),
      control: saveControl(domain),
      vcpus: domain.vcpus.map(({ id }) => saveVcpu(this.#memory.memory, id)),
      backends: {
        ...this.#rings.exportState(),
        devices: this.#devices.all.map((device) => device.exportState()),
      },
    };
  }

  async unpause(): Promise<void> {
    const paused = this.#paused;
    if (paused === undefined) {
      for (const device of this.#devices.all) device.resume();
      return;
    }
    await paused;
    if (this.#released) {
      await this.#devices.retake(HANDOVER_MS);
      this.#released = false;
      await this.#leaving?.stay();
    }
    // Somebody else may have been faster, and perhaps have paused it again.
    if (this.#paused !== paused) return;
    for (const device of this.#devices.all) device.resume();
    this.#paused = undefined;
    unpauseDomain(this.#built.domain);
  }

  limitMemory(limitBytes: number): void {
    const { memoryMib } = this.#config;
    const cut = Math.max(0, memoryMib * 2 ** 20 - limitBytes) / PAGE_BYTES;
    this.#built.domain.set(Field.maxPages, this.#built.mostPages - Math.floor(cut));
  }

  setCap(percent: number): void {
    setCap(this.#built.domain, percent);
  }

  setWeight(weight: number): Promise<void> {
    return this.#threads.weigh(weight);
  }

  pin(cpus: readonly string[]): Promise<void> {
    return this.#threads.pin(cpus);
  }

  counters(): DomainCounters {
    return countersOf(this.#built.domain, this.#clock.nowNs(), this.#devices.counters(), this.#ranBeforeNs);
  }

  async destroy(): Promise<void> {
    if (this.#built.domain.shutdownReason === undefined) {
      this.#destroyed = true;
      this.#built.domain.shutDown(ShutdownReason.poweroff);
    }
    await this.exited;
  }

  async #serve(begin: number): Promise<ExitReport> {
    await this.#channels.run();
    const domain = this.#built.domain;
    for (const { id } of domain.vcpus) kickVcpu(this.#memory, id);
    await this.#threads.stopped(STOP_MS);
    this.#rings.end();
    await this.#devices.stop();

    const reason = this.#destroyed ? "destroyed" : EXIT_REASONS[domain.shutdownReason ?? ShutdownReason.crash];
    const wanted = reason === "poweroff" || reason === "reboot";
    const detail = this.#threads.postMortem(reason);
    return {
      reason,
      ...(!wanted && detail !== "" && { detail }),
      runMs: performance.now() - begin,
      instructions: this.#threads.instructions,
      exits: this.#threads.exits,
    };
  }

  #log(message: string): void {
    this.#listener.onLog?.(message);
  }
}

/** What a device exported, if the domain was saved with it. */
const savedOf = ({ backends }: ReadyDomain, deviceClass: string, devid: number) =>
  backends?.devices.find((saved) => saved.kind === deviceClass && saved.devid === devid);

/** A configuration with disks that were kept, in the place of those of the same name. */
function withDisks(spec: DomainSpec, kept: readonly DiskSpec[]): DomainSpec {
  const { config } = configOf(spec, "domain");
  const disks = config.disks?.map((disk) => kept.find(({ vdev }) => vdev === disk.vdev) ?? disk);
  return disks === undefined ? spec : { ...spec, disk: disks.map(describeDisk) };
}

const EXIT_REASONS: Readonly<Record<ShutdownReason, ExitReason>> = {
  [ShutdownReason.poweroff]: "poweroff",
  [ShutdownReason.reboot]: "reboot",
  [ShutdownReason.suspend]: "suspend",
  [ShutdownReason.crash]: "crash",
  [ShutdownReason.watchdog]: "watchdog",
  [ShutdownReason.soft_reset]: "soft-reset",
};
