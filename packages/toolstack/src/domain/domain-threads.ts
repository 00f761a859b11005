/** A domain's threads: one for each vcpu that was ever started, and one that compiles their hot code. */
import type { DomainMemory, VcpuStart } from "@xenoserver/cpu";
import type { Domain } from "@xenoserver/xen";
import { VcpuField, VcpuLife } from "@xenoserver/xen/domain/layout.ts";
import { ALL_CPUS, ConfigError, type DomainConfig, vcpusAtStart } from "../cfg/index.ts";
import type { FramesHandle } from "../snapshot/frame-source.ts";
import { translationsPlace } from "../translations/engine.ts";
import { affinityOf, pinOtherThreads } from "./affinity.ts";
import { takeVcpuWorker } from "./early-vcpu.ts";
import { RegionThread } from "./region-channel.ts";
import { type ExitReason, FIRST_DOMID, type LaunchOptions } from "./running-domain.ts";
import type { VcpuBegin } from "./vcpu-messages.ts";
import { OwnSeat, type VcpuSeat } from "./vcpu-seat.ts";
import { VcpuThread } from "./vcpu-worker.ts";
import { weighProcess } from "./weight.ts";

export interface ThreadListener {
  onLog(message: string): void;
  /** A vcpu came back from its first instructions, at a time in milliseconds since the Unix epoch. */
  onRan(vcpuId: number, atMs: number): void;
  /** A thread failed, which ends the domain. */
  onFailure(): void;
}

/**
 * Those of the vcpus that the guest has from the start are started before the domain is built: a thread takes a third of a second to
 * load its program and to make its dispatch loop, about as long as it takes to read and unpack a kernel. Another's is
 * started when its guest brings the vcpu up: it would take some 50 MiB.
 */
export class DomainThreads {
  readonly #vcpus = new Map<number, VcpuThread>();
  readonly #start: (vcpuId: number) => VcpuThread;
  /** None if all is to be interpreted. */
  readonly #regions: RegionThread | undefined;
  #domain: Domain | undefined;
  /** What every vcpu's thread is told. */
  #all: VcpuBegin | undefined;
  /** By vcpu, once any was pinned. */
  #affinity: readonly string[] | undefined;
  readonly #ownsProcess: boolean;
  /** Settles when threads that are no vcpu's run where they were last told to; never rejects. */
  #othersPinned: Promise<void> = Promise.resolve();
  #failed = false;
  #listener: ThreadListener | undefined;

  constructor(memory: DomainMemory, config: DomainConfig, { domid, translate, ownsProcess, threads }: LaunchOptions) {
    const nrVcpus = config.vcpus;
    this.#ownsProcess = ownsProcess === true;
    const translations = translationsPlace();
    if (translate !== "never")
      this.#regions = new RegionThread(memory.handle, nrVcpus, translations, threads?.shared.regions);
    const seatOf = (vcpuId: number): VcpuSeat => {
      if (threads !== undefined && config.cpus === undefined) {
        const seat = threads.isAlone ? threads.shared.seatAlone() : threads.shared.seat();
        if (seat !== undefined) return seat;
      }
      return new OwnSeat(takeVcpuWorker(vcpuId));
    };
    this.#start = (vcpuId) => {
      const data = {
        vcpuId,
        nrVcpus,
        domid: domid ?? FIRST_DOMID,
        memory: memory.handle,
        engine: translate === undefined ? {} : { translate },
        ...(this.#regions && { regions: this.#regions.ends[vcpuId]! }),
        ...(translations && { translations }),
      };
      return new VcpuThread(data, seatOf(vcpuId), {
        onLog: (message) => this.#listener?.onLog(message),
        onRan: (atMs) => this.#listener?.onRan(vcpuId, atMs),
        onFailure: () => {
          this.#failed = true;
          this.#listener?.onFailure();
        },
      });
    };
    for (let id = 0; id < vcpusAtStart(config); id++) this.#vcpus.set(id, this.#start(id));
  }

  /**
   * Lets the vcpus run in a domain that is built now.
   * @param from    how vcpu 0 starts, while the others wait for a startup IPI; or every vcpu's saved state
   * @param frames  from where those are fetched that are not in memory yet
   */
  begin(
    domain: Domain,
    from: VcpuStart | readonly Uint8Array[],
    listener: ThreadListener,
    frames?: FramesHandle,
  ): void {
    this.#listener = listener;
    this.#domain = domain;
    if (this.#failed) listener.onFailure();
    this.#regions?.start(frames);
    this.#all = { control: domain.buffer, ...(frames && { frames }) };
    for (const record of domain.vcpus) {
      if (!this.#vcpus.has(record.id)) {
        if (!record.isWanted) {
          record.set(VcpuField.absent, 1);
          continue;
        }
        this.#startPinned(record.id);
      }
      const vcpu = this.#vcpus.get(record.id)!;
      if ("mode" in from) vcpu.begin(record.id === 0 ? { ...this.#all, start: from } : this.#all);
      // What one has that waits for a startup IPI, that replaces; and it may never have had any.
      else if (record.get(VcpuField.life) === VcpuLife.uninitialised) vcpu.begin(this.#all);
      else vcpu.begin({ ...this.#all, saved: from[record.id]! });
    }
  }

  /** Starts threads for vcpus that the guest has brought up for the first time. Cheap if there are none. */
  startWanted(): void {
    const domain = this.#domain;
    if (domain === undefined || domain.shutdownReason !== undefined) return;
    for (const record of domain.vcpus) {
      if (record.get(VcpuField.absent) === 0 || !record.isWanted) continue;
      record.set(VcpuField.absent, 0);
      this.#startPinned(record.id).begin(this.#all!);
    }
  }

  /**
   * Has each vcpu run on certain processors of the host only, those that are started later too. The thread of one that ends meanwhile is passed over.
   * Once all are pinned, whatever else the domain's process does follows them.
   * @param cpus  by vcpu, as in a configuration
   * @throws ConfigError  a processor is not there, or the system does not let it
   */
  async pin(cpus: readonly string[]): Promise<void> {
    const affinity = affinityOf(cpus);
    this.#affinity = affinity;
    if (this.#ownsProcess) await this.#pinOthers(affinity);
    await Promise.all([...this.#vcpus].map(([id, vcpu]) => vcpu.pin(affinity[id]!)));
  }

  #pinOthers(affinity: readonly string[]): Promise<void> {
    const tids = Promise.all(this.#started.map((vcpu) => vcpu.tid));
    const done = tids.then((vcpus) => pinOtherThreads(vcpus, affinity));
    this.#othersPinned = done.catch(() => {});
    return done;
  }

  /**
   * Has the host weigh the domain beside others.
   * @throws ConfigError  it does not let it; nothing is changed
   */
  async weigh(weight: number): Promise<void> {
    if (!this.#ownsProcess)
      throw new ConfigError(`cpu_weight is ${weight}, expected none for a domain in a process that is not its own`);
    await weighProcess(weight);
  }

  #startPinned(id: number): VcpuThread {
    const vcpu = this.#start(id);
    this.#vcpus.set(id, vcpu);
    const affinity = this.#affinity?.[id] ?? ALL_CPUS;
    if (affinity !== ALL_CPUS)
      vcpu
        .pin(affinity, this.#othersPinned)
        .catch((error: Error) => this.#listener?.onLog(`vcpu${id}: ${error.message}`));
    return vcpu;
  }

  /** Ends threads that were never told to begin. */
  async discard(): Promise<void> {
    await Promise.all([...this.#started.map((vcpu) => vcpu.stopped(0)), this.#regions?.stop()]);
  }

  /** Waits until the vcpus have noticed that their domain ended, and stops those by force that do not. */
  async stopped(graceMs: number): Promise<void> {
    await Promise.all(this.#started.map((vcpu) => vcpu.stopped(graceMs)));
    await this.#regions?.stop();
  }

  /** What there is to say after an end that the guest's user did not ask for. */
  postMortem(reason: ExitReason): string {
    return this.#started.flatMap((vcpu) => vcpu.postMortem(reason)).join("\n");
  }
  get instructions(): number {
    return this.#started.reduce((sum, vcpu) => sum + vcpu.instructions, 0);
  }
  /** How often each kind of exit brought a vcpu back to the hypervisor. */
  get exits(): Readonly<Record<string, number>> {
    const sums: Record<string, number> = {};
    for (const vcpu of this.#started) {
      for (const [kind, count] of Object.entries(vcpu.exits)) sums[kind] = (sums[kind] ?? 0) + count;
    }
    return sums;
  }

  get #started(): VcpuThread[] {
    return [...this.#vcpus.values()];
  }
}
