/** Where a vcpu runs: a thread of its own, or one that runs other domains' vcpus too. */
import { MessageChannel, type MessagePort, type Transferable, type Worker } from "node:worker_threads";
import type { ThreadMessage, VcpuBegin, VcpuMessage, VcpuThreadData } from "./vcpu-messages.ts";

export interface VcpuSeat {
  /** Whether the thread runs others too. */
  readonly isShared: boolean;
  /** Settles when the vcpu does not run any more, and will not. */
  readonly left: Promise<void>;
  /** To be called before anything is sent. */
  listen(onMessage: (message: VcpuMessage) => void, onError: (error: unknown) => void): void;
  take(data: VcpuThreadData): void;
  begin(message: VcpuBegin): void;
  /** Ends it by force, as far as that can be done. */
  end(): void;
}

const portsOf = ({ regions }: VcpuThreadData): Transferable[] => (regions === undefined ? [] : [regions.port]);

/** A thread that ends with its vcpu. */
export class OwnSeat implements VcpuSeat {
  readonly isShared = false;
  readonly left: Promise<void>;
  readonly #worker: Worker;

  constructor(worker: Worker) {
    this.#worker = worker;
    this.left = new Promise((resolve) => worker.on("exit", () => resolve()));
  }

  listen(onMessage: (message: VcpuMessage) => void, onError: (error: unknown) => void): void {
    this.#worker.on("message", onMessage);
    this.#worker.on("error", onError);
  }
  take(data: VcpuThreadData): void {
    this.#worker.postMessage({ kind: "vcpu", data } satisfies ThreadMessage, portsOf(data));
  }
  begin(message: VcpuBegin): void {
    this.#worker.postMessage(message);
  }
  end(): void {
    void this.#worker.terminate();
  }
}

/** A part of a thread, which goes on when the vcpu has left. */
export class SharedSeat implements VcpuSeat {
  readonly isShared = true;
  readonly left: Promise<void>;
  readonly #worker: Worker;
  readonly #channel = new MessageChannel();
  readonly #fail = Promise.withResolvers<unknown>();

  constructor(worker: Worker) {
    this.#worker = worker;
    const { port1 } = this.#channel;
    worker.once("error", this.#fail.resolve);
    this.left = new Promise((resolve) => port1.once("close", resolve));
    void this.left.then(() => worker.off("error", this.#fail.resolve));
  }

  listen(onMessage: (message: VcpuMessage) => void, onError: (error: unknown) => void): void {
    this.#channel.port1.on("message", (message: VcpuMessage) => {
      if (message.kind === "failed") onError(message.reason);
      else onMessage(message);
    });
    void this.#fail.promise.then(onError);
  }
  take(data: VcpuThreadData): void {
    const line: MessagePort = this.#channel.port2;
    this.#worker.postMessage({ kind: "vcpu", data, line } satisfies ThreadMessage, [line, ...portsOf(data)]);
  }
  begin(message: VcpuBegin): void {
    this.#channel.port1.postMessage(message);
  }
  end(): void {
    this.#channel.port1.close();
  }
}
