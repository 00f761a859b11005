/** A vcpu's worker thread as the main thread sees it. */
import { ALL_CPUS, ConfigError } from "../cfg/index.ts";
import { pinThread } from "./affinity.ts";
import type { ExitReason } from "./running-domain.ts";
import type { VcpuBegin, VcpuMessage, VcpuThreadData } from "./vcpu-messages.ts";
import type { VcpuSeat } from "./vcpu-seat.ts";

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
  readonly #seat: VcpuSeat;
  readonly #tid = Promise.withResolvers<number | undefined>();
  /** The system's number of the thread; undefined if it does not tell, or has ended. */
  readonly tid = this.#tid.promise;
  #hasExited = false;
  /** Settles when it runs where it was last told to; never rejects. */
  #pinned: Promise<void> | undefined;
  /** What the vcpu died of, if the guest did not ask for its end itself. */
  #fault: string | undefined;
  #registers: string | undefined;

  constructor(
    data: VcpuThreadData,
    seat: VcpuSeat,
    listener: { onLog(message: string): void; onRan(atMs: number): void; onFailure(): void },
  ) {
    this.#id = data.vcpuId;
    this.#seat = seat;
    seat.listen(
      (message) => this.#take(message, listener),
      (error) => {
        this.#fault = `vcpu${this.#id}: its thread failed: ${error instanceof Error ? error.stack : String(error)}`;
        listener.onFailure();
      },
    );
    seat.take(data);
    void seat.left.then(() => {
      this.#hasExited = true;
      this.#tid.resolve(undefined);
    });
  }

  #take(message: VcpuMessage, listener: { onLog(message: string): void; onRan(atMs: number): void }): void {
    switch (message.kind) {
      case "thread":
        return this.#tid.resolve(message.tid);
      case "ran":
        return listener.onRan(message.atMs);
      case "end":
        this.instructions = message.instructions;
        this.exits = message.exits;
        this.#registers = message.registers;
        return;
      case "log":
        if (/: (triple fault|engine fault)/.test(message.message)) this.#fault = message.message;
        return listener.onLog(message.message);
    }
  }

  /** Before its first instruction, the vcpu is where it was pinned to. */
  begin(message: VcpuBegin): void {
    if (this.#pinned === undefined) this.#seat.begin(message);
    else void this.#pinned.then(() => this.#seat.begin(message));
  }

  /**
   * One after the other.
   * @param affinity  of `affinityOf`
   * @param behind    what else comes first
   * @throws ConfigError  the system does not let it, or the thread is not its alone
   */
  pin(affinity: string, behind?: Promise<void>): Promise<void> {
    if (this.#seat.isShared) {
      if (affinity === ALL_CPUS) return Promise.resolve();
      const reason = "its thread has other copies' vcpus too, expected one of its own";
      return Promise.reject(new ConfigError(`vcpu ${this.#id} cannot be pinned: ${reason}`));
    }
    const done = Promise.all([this.tid, this.#pinned, behind]).then(([tid]) => {
      if (!this.#hasExited) return pinThread(tid, affinity);
    });
    this.#pinned = done.catch(() => {});
    return done;
  }

  /** Waits for the thread's end, and brings it about after `graceMs`. */
  async stopped(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#seat.end(), graceMs);
    await this.#seat.left;
    clearTimeout(timer);
  }

  /** What there is to say after an end that the guest's user did not ask for. */
  postMortem(reason: ExitReason): string[] {
    if (this.#fault !== undefined) return [this.#fault];
    if (this.#registers === undefined || this.instructions === 0) return [];
    return [`vcpu${this.#id}: ${POST_MORTEMS[reason]}\n${this.#registers}`];
  }
}
