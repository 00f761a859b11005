/** A vcpu's worker thread as the main thread sees it. */
import type { Worker } from "node:worker_threads";
import { pinThread } from "./affinity.ts";
import { takeVcpuWorker } from "./early-vcpu.ts";
import type { ExitReason } from "./running-domain.ts";
import type { VcpuBegin, VcpuMessage, VcpuThreadData } from "./vcpu-messages.ts";

const POST_MORTEMS: Readonly<Record<ExitReason, string>> = {
  poweroff: "powered off",
  reboot: "rebooted",
  suspend: "the guest suspended itself",
  crash: "the guest reported a crash",
  watchdog: "the guest's watchdog expired",
  "soft-reset": "the guest asked for a soft reset",
  destroyed: "was running when it was destroyed",
};

export class VcpuThread {
  instructions = 0;
  exits: Readonly<Record<string, number>> = {};
  readonly #id: number;
  readonly #worker: Worker;
  readonly #exit: Promise<void>;
  readonly #tid = Promise.withResolvers<number | undefined>();
  /** The system's number of the thread; undefined if it does not tell, or has ended. */
  readonly tid = this.#tid.promise;
  #hasExited = false;
  /** Settles when it runs where it was last told to; never rejects. */
  #pinned: Promise<void> | undefined;
  /** What the vcpu died of, if the guest did not ask for its end itself. */
  #fault: string | undefined;
  #registers: string | undefined;

  constructor(data: VcpuThreadData, onLog: (message: string) => void, onFailure: () => void) {
    this.#id = data.vcpuId;
    this.#worker = takeVcpuWorker(data.vcpuId);
    this.#worker.postMessage(data, data.regions ? [data.regions.port] : []);
    this.#worker.on("message", (message: VcpuMessage) => {
      if (message.kind === "thread") return this.#tid.resolve(message.tid);
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
    void this.#exit.then(() => {
      this.#hasExited = true;
      this.#tid.resolve(undefined);
    });
  }

  /** Before its first instruction, the vcpu is where it was pinned to. */
  begin(message: VcpuBegin): void {
    if (this.#pinned === undefined) this.#worker.postMessage(message);
    else void this.#pinned.then(() => this.#worker.postMessage(message));
  }

  /**
   * One after the other.
   * @param affinity  of `affinityOf`
   * @param behind    what else comes first
   * @throws ConfigError  the system does not let it
   */
  pin(affinity: string, behind?: Promise<void>): Promise<void> {
    const done = Promise.all([this.tid, this.#pinned, behind]).then(([tid]) => {
      if (!this.#hasExited) return pinThread(tid, affinity);
    });
    this.#pinned = done.catch(() => {});
    return done;
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
