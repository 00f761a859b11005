/** Threads that run vcpus of several domains of this process, and one that compiles their hot code. */
import { availableParallelism } from "node:os";
import type { Worker } from "node:worker_threads";
import type { DomainMemory } from "@xenoserver/cpu";
import { newVcpuWorker } from "./early-vcpu.ts";
import { newRegionWorker } from "./region-channel.ts";
import type { ThreadMessage } from "./vcpu-messages.ts";
import { OwnSeat, SharedSeat, type VcpuSeat } from "./vcpu-seat.ts";

/** More of them take memory, and give nothing to domains that rest. */
const MAX_THREADS = 4;

interface Thread {
  readonly worker: Worker;
  seats: number;
}

/** They do not keep the process from ending. */
export class SharedThreads {
  readonly regions: Worker;
  readonly #threads: Thread[];
  /** Those too that one domain has for itself, until they have ended. */
  readonly #running = new Set<Worker>();
  /** How many domains are on their way. */
  readonly #coming = new Int32Array(new SharedArrayBuffer(4));

  constructor() {
    const count = Math.min(MAX_THREADS, availableParallelism());
    this.#threads = Array.from({ length: count }, (_, n) => this.#start(n));
    this.regions = this.#watch(newRegionWorker());
  }

  #watch(worker: Worker): Worker {
    this.#running.add(worker);
    return worker.once("exit", () => this.#running.delete(worker));
  }

  #start(number: number): Thread {
    const worker = this.#watch(newVcpuWorker(`vcpus${number}`));
    worker.unref();
    worker.postMessage({ kind: "turns", coming: this.#coming } satisfies ThreadMessage);
    return { worker, seats: 0 };
  }

  /** Ends threads that run nothing: each has its own heap. */
  dropIdle(): void {
    const idle = this.#threads.filter(({ seats }) => seats === 0);
    for (const thread of idle) {
      this.#threads.splice(this.#threads.indexOf(thread), 1);
      void thread.worker.terminate();
    }
  }

  /** Ends them all, whatever they do; settles when none runs any more. */
  async end(): Promise<void> {
    await Promise.all([...this.#running].map((worker) => worker.terminate()));
  }

  /** Has the threads make what they need for domains of this size; settles when they have. */
  async warm(memory: DomainMemory): Promise<void> {
    const { handle } = memory;
    await Promise.all(
      this.#threads.map(
        ({ worker }) =>
          new Promise<void>((resolve) => {
            worker.once("message", () => resolve());
            worker.postMessage({ kind: "warm", memory: handle } satisfies ThreadMessage);
          }),
      ),
    );
  }

  /** A domain is on its way: vcpus that share threads have run once, and wait until all have begun. */
  hold(): void {
    Atomics.add(this.#coming, 0, 1);
  }
  release(): void {
    if (Atomics.sub(this.#coming, 0, 1) === 1) Atomics.notify(this.#coming, 0);
  }

  /** A place on a thread that nobody else is on from then on, if there is one. */
  seatAlone(): VcpuSeat | undefined {
    const at = this.#threads.findIndex(({ seats }) => seats === 0);
    if (at < 0) return undefined;
    const [{ worker } = {}] = this.#threads.splice(at, 1) as [Thread?];
    worker!.ref();
    return new OwnSeat(worker!);
  }

  /** A place on the thread that has the fewest. */
  seat(): VcpuSeat {
    if (this.#threads.length === 0) this.#threads.push(this.#start(0));
    const thread = this.#threads.reduce((least, other) => (other.seats < least.seats ? other : least));
    const seat = new SharedSeat(thread.worker);
    thread.seats++;
    void seat.left.then(() => thread.seats--);
    return seat;
  }
}
