/** A domain's threads: one for each vcpu, and one that compiles their hot code. */
import type { DomainMemory, VcpuStart } from "@xenoserver/cpu";
import type { DomainConfig } from "../cfg/index.ts";
import type { SnapshotFramesHandle } from "../snapshot/frames.ts";
import { RegionThread } from "./region-channel.ts";
import { type ExitReason, FIRST_DOMID, type LaunchOptions } from "./running-domain.ts";
import { VcpuThread } from "./vcpu-worker.ts";

export interface ThreadListener {
  onLog(message: string): void;
  /** A thread failed, which ends the domain. */
  onFailure(): void;
}

/**
 * They are started before the domain is built: a thread takes a third of a second to load its program and to make its dispatch loop,
 * about as long as it takes to read and unpack a kernel.
 */
export class DomainThreads {
  readonly #vcpus: readonly VcpuThread[];
  /** None if all is to be interpreted. */
  readonly #regions: RegionThread | undefined;
  #failed = false;
  #listener: ThreadListener | undefined;

  constructor(memory: DomainMemory, { vcpus }: DomainConfig, { domid, translate }: LaunchOptions) {
    if (translate !== "never") this.#regions = new RegionThread(memory.handle, vcpus);
    this.#vcpus = Array.from({ length: vcpus }, (_, vcpuId) => {
      const data = {
        vcpuId,
        nrVcpus: vcpus,
        domid: domid ?? FIRST_DOMID,
        memory: memory.handle,
        engine: translate === undefined ? {} : { translate },
        ...(this.#regions && { regions: this.#regions.ends[vcpuId]! }),
      };
      return new VcpuThread(
        data,
        (message) => this.#listener?.onLog(message),
        () => {
          this.#failed = true;
          this.#listener?.onFailure();
        },
      );
    });
  }

  /**
   * Lets the vcpus run in a domain that is built now.
   * @param control  the domain's control block
   * @param from     how vcpu 0 starts, while the others wait for a startup IPI; or every vcpu's saved state
   * @param frames   from where those are fetched that are not in memory yet
   */
  begin(
    control: SharedArrayBuffer,
    from: VcpuStart | readonly Uint8Array[],
    listener: ThreadListener,
    frames?: SnapshotFramesHandle,
  ): void {
    this.#listener = listener;
    if (this.#failed) listener.onFailure();
    this.#regions?.start(frames);
    const all = { control, ...(frames && { frames }) };
    this.#vcpus.forEach((vcpu, id) => {
      if ("mode" in from) vcpu.begin(id === 0 ? { ...all, start: from } : all);
      else vcpu.begin({ ...all, saved: from[id]! });
    });
  }

  /** Ends threads that were never told to begin. */
  async discard(): Promise<void> {
    await Promise.all([...this.#vcpus.map((vcpu) => vcpu.stopped(0)), this.#regions?.stop()]);
  }

  /** Waits until the vcpus have noticed that their domain ended, and stops those by force that do not. */
  async stopped(graceMs: number): Promise<void> {
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.stopped(graceMs)));
    await this.#regions?.stop();
  }

  /** What there is to say after an end that the guest's user did not ask for. */
  postMortem(reason: ExitReason): string {
    return this.#vcpus.flatMap((vcpu) => vcpu.postMortem(reason)).join("\n");
  }
  get instructions(): number {
    return this.#vcpus.reduce((sum, vcpu) => sum + vcpu.instructions, 0);
  }
  /** How often each kind of exit brought a vcpu back to the hypervisor. */
  get exits(): Readonly<Record<string, number>> {
    const sums: Record<string, number> = {};
    for (const vcpu of this.#vcpus) {
      for (const [kind, count] of Object.entries(vcpu.exits)) sums[kind] = (sums[kind] ?? 0) + count;
    }
    return sums;
  }
}
