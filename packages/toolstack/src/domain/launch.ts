/** Starting a domain in this process: backends on this thread, one worker thread per vcpu. */
import { DomainMemory, type Gfn, kickVcpu } from "@xenoserver/cpu";
import { PAGE_BYTES } from "@xenoserver/cpu/engine.ts";
import { ConsoleBackend } from "@xenoserver/devices";
import {
  type BuiltDomain,
  buildDomain,
  framesNeeded,
  HostClock,
  HostEventChannels,
  HostGrants,
  pauseDomain,
  ShutdownReason,
  unpauseDomain,
} from "@xenoserver/xen";
import { HvmParam } from "@xenoserver/xen/abi/hvm.ts";
import { Field } from "@xenoserver/xen/domain/layout.ts";
import { type LocalClient, populateDomain, XenstoreDaemon } from "@xenoserver/xenstore";
import type { GuestAgent } from "../agent/index.ts";
import { ConfigError, type DiskSpec, type DomainConfig, type VifSpec } from "../cfg/index.ts";
import { attachAgent } from "./agent-line.ts";
import { countersOf, type DomainCounters } from "./counters.ts";
import {
  closeDevices,
  DomainDevices,
  diskModule,
  diskNumber,
  type PreparedDevice,
  prepareDevices,
  vifModule,
} from "./devices.ts";
import { DomainThreads } from "./domain-threads.ts";
import { asConfigError, type DomainPlan, freePlan, planDomain } from "./plan.ts";
import {
  type DomainListener,
  type ExitReason,
  type ExitReport,
  FIRST_DOMID,
  type LaunchOptions,
  type RunningDomain,
} from "./running-domain.ts";

/** How long threads may take to notice that their domain has ended before they are stopped by force. */
const STOP_MS = 2000;
const CONSOLE_CHUNK_BYTES = 16384;

/**
 * Builds a domain and starts it.
 * @param options  how the vcpus execute, and under which number; the defaults are the engine's own and 1
 * @throws ConfigError  it cannot be built, e.g. a file is not what its key says or the host has not enough memory
 */
export async function launchDomain(
  config: DomainConfig,
  listener: DomainListener,
  options: LaunchOptions = {},
): Promise<RunningDomain> {
  const memory = reserveMemory(config);
  const threads = new DomainThreads(memory, config, options);
  try {
    const plan = planDomain(config);
    const devices = await prepareDevices(config);
    try {
      const built = build(plan, memory, options.domid ?? FIRST_DOMID);
      return new LocalDomain(config, memory, built, listener, options, devices, threads);
    } catch (error) {
      await closeDevices(devices);
      throw asConfigError(error);
    }
  } catch (error) {
    await threads.discard();
    throw error;
  }
}

/** The plan is used up: its files' bytes are given back. */
function build(plan: DomainPlan, memory: DomainMemory, domid: number): BuiltDomain {
  const { config, kernel, ramdisk } = plan;
  const description = {
    domid,
    nrVcpus: config.vcpus,
    uuid: Buffer.from(config.uuid.replaceAll("-", ""), "hex"),
    memoryMiB: config.memoryMib,
    cmdline: config.cmdline,
    kernel,
  };
  const built = buildDomain(ramdisk === undefined ? description : { ...description, ramdisk }, memory);
  freePlan(plan);
  // Xen reboots a domain after a triple fault; unless the kernel asks for that, it hides a broken guest in a loop.
  built.domain.setHvmParam(HvmParam.TRIPLE_FAULT_REASON, ShutdownReason.crash, 0);
  return built;
}

function reserveMemory({ vcpus, memoryMib }: DomainConfig): DomainMemory {
  try {
    return DomainMemory.create(vcpus, framesNeeded(memoryMib));
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new ConfigError(`memory is ${memoryMib} MiB, which this machine cannot reserve, expected less`, { cause });
  }
}

class LocalDomain implements RunningDomain {
  readonly exited: Promise<ExitReport>;
  readonly store: LocalClient;
  readonly #config: DomainConfig;
  readonly #memory: DomainMemory;
  readonly #built: BuiltDomain;
  readonly #listener: DomainListener;
  readonly #channels: HostEventChannels;
  readonly #console: ConsoleBackend;
  readonly #devices: DomainDevices;
  readonly #threads: DomainThreads;
  readonly #clock: HostClock;
  readonly #pagesAtStart: number;
  #agent: Promise<GuestAgent> | undefined;
  #drained = Promise.withResolvers<void>();
  #ended = false;
  #destroyed = false;
  #paused: Promise<void> | undefined;

  constructor(
    config: DomainConfig,
    memory: DomainMemory,
    built: BuiltDomain,
    listener: DomainListener,
    options: LaunchOptions,
    devices: readonly PreparedDevice[],
    threads: DomainThreads,
  ) {
    this.#config = config;
    this.#memory = memory;
    this.#built = built;
    this.#pagesAtStart = built.domain.get(Field.maxPages);
    this.#listener = listener;
    this.#channels = new HostEventChannels(built.domain, () => {
      if (built.domain.shutdownReason !== undefined) this.#channels.stop();
    });
    this.#console = this.#connectConsole();
    this.store = this.#connectXenstore();
    this.#devices = new DomainDevices({
      domid: this.domid,
      store: this.store,
      grants: new HostGrants(built.domain),
      channels: this.#channels,
      log: (message) => this.#log(message),
    });
    for (const device of devices) this.#devices.attach(device);
    const begin = performance.now();
    this.#clock = new HostClock(built.domain);
    if (options.paused === true) void this.pause();
    this.#threads = threads;
    threads.begin(built.domain.buffer, built.start, {
      onLog: (message) => this.#log(message),
      onFailure: () => built.domain.shutDown(ShutdownReason.crash),
    });
    this.exited = this.#serve(begin);
  }

  async writeConsole(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#ended; at += CONSOLE_CHUNK_BYTES) {
      const chunk = bytes.subarray(at, at + CONSOLE_CHUNK_BYTES);
      while (!this.#ended && !this.#console.write(chunk)) await this.#drained.promise;
    }
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
    this.#agent ??= attachAgent(this.#devices, this.exited);
    return this.#agent;
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

  async unpause(): Promise<void> {
    const paused = this.#paused;
    if (paused === undefined) return;
    await paused;
    // Somebody else may have been faster, and perhaps have paused it again.
    if (this.#paused !== paused) return;
    this.#paused = undefined;
    unpauseDomain(this.#built.domain);
  }

  limitMemory(limitBytes: number): void {
    const { memoryMib } = this.#config;
    const cut = Math.max(0, memoryMib * 2 ** 20 - limitBytes) / PAGE_BYTES;
    this.#built.domain.set(Field.maxPages, this.#pagesAtStart - Math.floor(cut));
  }

  counters(): DomainCounters {
    return countersOf(this.#built.domain, this.#clock.nowNs(), this.#devices.counters());
  }

  async destroy(): Promise<void> {
    if (this.#built.domain.shutdownReason === undefined) {
      this.#destroyed = true;
      this.#built.domain.shutDown(ShutdownReason.poweroff);
    }
    await this.exited;
  }

  #connectConsole(): ConsoleBackend {
    const backend: ConsoleBackend = new ConsoleBackend({
      name: `dom${this.domid} console`,
      ...this.#ringOf(this.#built.consoleGfn, this.#built.consolePort, () => backend.onEvent()),
      onOutput: (bytes) => {
        const taken = this.#listener.onConsole(bytes);
        if (taken === undefined) return;
        backend.holdOutput();
        void taken.finally(() => backend.releaseOutput());
      },
      onInputDrained: () => {
        this.#drained.resolve();
        this.#drained = Promise.withResolvers();
      },
      log: (message) => this.#log(message),
    });
    return backend;
  }

  #connectXenstore(): LocalClient {
    const { config, built } = { config: this.#config, built: this.#built };
    const daemon = new XenstoreDaemon({ log: (message) => this.#log(message) });
    const client = daemon.openLocal();
    populateDomain(client, {
      domid: this.domid,
      uuid: config.uuid,
      name: config.name,
      memoryKiB: config.memoryMib * 1024,
      nrVcpus: config.vcpus,
      xenstorePort: built.xenstorePort,
      xenstoreGfn: built.xenstoreGfn,
      consolePort: built.consolePort,
      consoleGfn: built.consoleGfn,
      startTime: Math.floor(Date.now() / 1000),
    });
    const connection = daemon.introduce(
      this.domid,
      this.#ringOf(built.xenstoreGfn, built.xenstorePort, () => connection.onEvent()),
    );
    return client;
  }

  /** A page that the builder shared with the backends, and the event channel beside it. */
  #ringOf(gfn: Gfn, port: number, onEvent: () => void) {
    const frame = this.#memory.frameAt(gfn);
    const channel = this.#channels.bindInterdomain(port, onEvent);
    if (frame === -1 || channel === undefined)
      throw new Error(`domain ${this.#config.name}: port ${port} was built without a page`);
    return {
      page: this.#memory.frameBytes(frame),
      notify: () => channel.notify(),
      markWritten: () => this.#memory.markWritten(frame),
    };
  }

  async #serve(begin: number): Promise<ExitReport> {
    await this.#channels.run();
    const domain = this.#built.domain;
    for (const { id } of domain.vcpus) kickVcpu(this.#memory, id);
    await this.#threads.stopped(STOP_MS);
    // The guest's last words may have arrived after its last notification was seen.
    this.#console.releaseOutput();
    this.#ended = true;
    this.#drained.resolve();
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

const EXIT_REASONS: Readonly<Record<ShutdownReason, ExitReason>> = {
  [ShutdownReason.poweroff]: "poweroff",
  [ShutdownReason.reboot]: "reboot",
  [ShutdownReason.suspend]: "suspend",
  [ShutdownReason.crash]: "crash",
  [ShutdownReason.watchdog]: "watchdog",
  [ShutdownReason.soft_reset]: "soft-reset",
};
