/** Starting a domain in this process: backends on this thread, one worker thread per vcpu. */
import { Worker } from "node:worker_threads";
import { DomainMemory, type Gfn, kickVcpu } from "@xenoserver/cpu";
import { ConsoleBackend } from "@xenoserver/devices";
import {
  type BuiltDomain,
  buildDomain,
  framesNeeded,
  HostEventChannels,
  HostGrants,
  ShutdownReason,
} from "@xenoserver/xen";
import { HvmParam } from "@xenoserver/xen/abi/hvm.ts";
import { type LocalClient, populateDomain, XenstoreDaemon } from "@xenoserver/xenstore";
import type { GuestAgent } from "../agent/index.ts";
import { ConfigError, type DiskSpec, type DomainConfig, type VifSpec } from "../cfg/index.ts";
import { attachAgent } from "./agent-line.ts";
import {
  closeDevices,
  DomainDevices,
  diskModule,
  diskNumber,
  type PreparedDevice,
  prepareDevices,
  vifModule,
} from "./devices.ts";
import { asConfigError, type DomainPlan, freePlan } from "./plan.ts";
import { RegionThread } from "./region-channel.ts";
import type { DomainListener, EngineChoice, ExitReason, ExitReport, RunningDomain } from "./running-domain.ts";
import type { VcpuMessage, VcpuThreadData } from "./vcpu-messages.ts";

/** A process holds one domain, and it is the first beside the host's. */
const DOMID = 1;
/** How long threads may take to notice that their domain has ended before they are stopped by force. */
const STOP_MS = 2000;
const CONSOLE_CHUNK_BYTES = 16384;

/**
 * Builds a domain and starts it. The plan is used up: its files' bytes are given back.
 * @param engine  how the vcpus execute; the default is the engine's own
 * @throws ConfigError  the plan cannot be built, e.g. a disk cannot be opened or the host has not enough memory
 */
export async function launchDomain(
  plan: DomainPlan,
  listener: DomainListener,
  engine: EngineChoice = {},
): Promise<RunningDomain> {
  const devices = await prepareDevices(plan.config);
  try {
    const { memory, built } = build(plan);
    return new LocalDomain(plan.config, memory, built, listener, engine, devices);
  } catch (error) {
    await closeDevices(devices);
    throw asConfigError(error);
  }
}

function build(plan: DomainPlan): { memory: DomainMemory; built: BuiltDomain } {
  const { config, kernel, ramdisk } = plan;
  const memory = reserveMemory(config);
  const description = {
    domid: DOMID,
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
  return { memory, built };
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
  readonly #config: DomainConfig;
  readonly #memory: DomainMemory;
  readonly #built: BuiltDomain;
  readonly #listener: DomainListener;
  readonly #engine: EngineChoice;
  readonly #channels: HostEventChannels;
  readonly #console: ConsoleBackend;
  readonly #devices: DomainDevices;
  readonly #threads: VcpuThread[];
  /** Compiles hot code, unless all is to be interpreted. */
  readonly #regions: RegionThread | undefined;
  #agent: Promise<GuestAgent> | undefined;
  #drained = Promise.withResolvers<void>();
  #ended = false;
  #destroyed = false;

  constructor(
    config: DomainConfig,
    memory: DomainMemory,
    built: BuiltDomain,
    listener: DomainListener,
    engine: EngineChoice,
    devices: readonly PreparedDevice[],
  ) {
    this.#config = config;
    this.#memory = memory;
    this.#built = built;
    this.#listener = listener;
    this.#engine = engine;
    this.#channels = new HostEventChannels(built.domain, () => {
      if (built.domain.shutdownReason !== undefined) this.#channels.stop();
    });
    this.#console = this.#connectConsole();
    this.#devices = new DomainDevices({
      domid: DOMID,
      store: this.#connectXenstore(),
      grants: new HostGrants(built.domain),
      channels: this.#channels,
      log: (message) => this.#log(message),
    });
    for (const device of devices) this.#devices.attach(device);
    const begin = performance.now();
    if (engine.translate !== "never") this.#regions = new RegionThread(memory.handle, config.vcpus);
    this.#threads = built.domain.vcpus.map(({ id }) => this.#startVcpu(id));
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

  async destroy(): Promise<void> {
    if (this.#built.domain.shutdownReason === undefined) {
      this.#destroyed = true;
      this.#built.domain.shutDown(ShutdownReason.poweroff);
    }
    await this.exited;
  }

  #connectConsole(): ConsoleBackend {
    const backend: ConsoleBackend = new ConsoleBackend({
      name: `dom${DOMID} console`,
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
      domid: DOMID,
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
      DOMID,
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

  #startVcpu(vcpuId: number): VcpuThread {
    const data: VcpuThreadData = {
      vcpuId,
      memory: this.#memory.handle,
      control: this.#built.domain.buffer,
      engine: this.#engine,
      ...(vcpuId === 0 && { start: this.#built.start }),
      ...(this.#regions && { regions: this.#regions.ends[vcpuId]! }),
    };
    return new VcpuThread(
      data,
      (message) => this.#log(message),
      () => this.#built.domain.shutDown(ShutdownReason.crash),
    );
  }

  async #serve(begin: number): Promise<ExitReport> {
    await this.#channels.run();
    const domain = this.#built.domain;
    for (const { id } of domain.vcpus) kickVcpu(this.#memory, id);
    await Promise.all(this.#threads.map((thread) => thread.stopped(STOP_MS)));
    await this.#regions?.stop();
    // The guest's last words may have arrived after its last notification was seen.
    this.#console.releaseOutput();
    this.#ended = true;
    this.#drained.resolve();
    await this.#devices.stop();

    const reason = this.#destroyed ? "destroyed" : EXIT_REASONS[domain.shutdownReason ?? ShutdownReason.crash];
    const wanted = reason === "poweroff" || reason === "reboot";
    const detail = this.#threads.flatMap((thread) => thread.postMortem(reason)).join("\n");
    const exits: Record<string, number> = {};
    for (const thread of this.#threads) {
      for (const [kind, count] of Object.entries(thread.exits)) exits[kind] = (exits[kind] ?? 0) + count;
    }
    return {
      reason,
      ...(!wanted && detail !== "" && { detail }),
      runMs: performance.now() - begin,
      instructions: this.#threads.reduce((sum, thread) => sum + thread.instructions, 0),
      exits,
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

const POST_MORTEMS: Readonly<Record<ExitReason, string>> = {
  poweroff: "powered off",
  reboot: "rebooted",
  suspend: "the guest suspended itself",
  crash: "the guest reported a crash",
  watchdog: "the guest's watchdog expired",
  "soft-reset": "the guest asked for a soft reset",
  destroyed: "was running when it was destroyed",
};

/** A vcpu's worker thread as the main thread sees it. */
class VcpuThread {
  instructions = 0;
  exits: Readonly<Record<string, number>> = {};
  readonly #id: number;
  readonly #worker: Worker;
  readonly #exit: Promise<void>;
  /** What the vcpu died of, if the guest did not ask for its end itself. */
  #fault: string | undefined;
  #registers: string | undefined;

  constructor(data: VcpuThreadData, onLog: (message: string) => void, onFailure: () => void) {
    this.#id = data.vcpuId;
    this.#worker = new Worker(new URL("./vcpu-thread.ts", import.meta.url), {
      workerData: data,
      transferList: data.regions ? [data.regions.port] : [],
      name: `vcpu${data.vcpuId}`,
    });
    this.#worker.on("message", (message: VcpuMessage) => {
      if (message.kind === "end") {
        this.instructions = message.instructions;
        this.exits = message.exits;
        this.#registers = message.registers;
        return;
      }
      if (/: (triple fault|engine fault)/.test(message.message)) this.#fault = message.message;
      onLog(message.message);
    });
    this.#worker.on("error", (error) => {
      this.#fault = `vcpu${this.#id}: its thread failed: ${error instanceof Error ? error.stack : String(error)}`;
      onFailure();
    });
    this.#exit = new Promise((resolve) => this.#worker.on("exit", () => resolve()));
  }

  /** Waits for the thread's end, and brings it about after `graceMs`. */
  async stopped(graceMs: number): Promise<void> {
    const timer = setTimeout(() => void this.#worker.terminate(), graceMs);
    await this.#exit;
    clearTimeout(timer);
  }

  /** What there is to say after an end that the guest's user did not ask for. */
  postMortem(reason: ExitReason): string[] {
    if (this.#fault !== undefined) return [this.#fault];
    if (this.#registers === undefined || this.instructions === 0) return [];
    return [`vcpu${this.#id}: ${POST_MORTEMS[reason]}\n${this.#registers}`];
  }
}
