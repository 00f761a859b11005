/** One operation while it runs. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Failure, Operation, Progress } from "../api/schema/index.ts";
import type { Begun } from "./registry.ts";

export interface OperationEvent {
  /** Ascending from 1. */
  readonly id: number;
  readonly event: "progress" | "end";
  /** As it was at that moment. */
  readonly operation: Operation;
}

/** Events of an agent that was killed are not in the journal; those of the next have greater numbers. */
export const RESTART_GAP = 1_000_000;
/** Who resumes after more than these gets the oldest that is kept. */
const MAX_EVENTS = 256;

export class RunningOperation {
  readonly #controller = new AbortController();
  readonly #events: OperationEvent[] = [];
  readonly #over = Promise.withResolvers<void>();
  #changed = Promise.withResolvers<void>();
  #operation: Operation;
  #isCommitted = false;

  constructor(id: string, { kind, canCancel, domain }: Begun) {
    this.#operation = {
      ...{ id, kind, ...(domain !== undefined && { domain }), state: "running", canCancel },
      ...{ startedAtMs: Date.now(), lastEventId: 0 },
    };
  }

  /** One that another agent began and did not see end, and that goes on; it cannot be cancelled any more. */
  static takenUp(operation: Operation): RunningOperation {
    const running = new RunningOperation(operation.id, operation);
    running.#operation = { ...operation, lastEventId: operation.lastEventId + RESTART_GAP };
    running.commit();
    return running;
  }

  get operation(): Operation {
    return this.#operation;
  }
  get signal(): AbortSignal {
    return this.#controller.signal;
  }
  get isCommitted(): boolean {
    return this.#isCommitted;
  }

  report(progress: Progress): void {
    this.#become("progress", { progress });
  }

  /** From here on it cannot be cancelled. */
  commit(): void {
    this.#isCommitted = true;
    this.#operation = { ...this.#operation, canCancel: false };
  }

  cancel(): void {
    this.#operation = { ...this.#operation, canCancel: false };
    this.#controller.abort(new Error("it was cancelled"));
  }

  succeed(result: unknown): void {
    this.#end({ state: "succeeded", result });
  }

  fail(error: Failure): void {
    // What had gone too far to be taken back and then failed by itself, has failed.
    const isCancelled = this.signal.aborted && !this.#isCommitted;
    this.#end({ state: isCancelled ? "cancelled" : "failed", error });
  }

  /** Settles when it is over, or after the time. */
  async over(timeoutMs?: number): Promise<void> {
    if (timeoutMs === undefined) return this.#over.promise;
    const timer = new AbortController();
    const timeout = sleep(timeoutMs, undefined, { signal: timer.signal }).catch(() => {});
    await Promise.race([this.#over.promise, timeout]);
    timer.abort();
  }

  /** Events behind one, until the last. */
  async *events(after: number): AsyncGenerator<OperationEvent> {
    for (let last = after; ; ) {
      const next = this.#events.find(({ id }) => id > last);
      if (next === undefined && this.#operation.state !== "running") return;
      if (next === undefined) {
        await this.#changed.promise;
        continue;
      }
      yield next;
      last = next.id;
    }
  }

  #end(outcome: Partial<Operation>): void {
    this.#become("end", { ...outcome, canCancel: false, endedAtMs: Date.now() });
    this.#over.resolve();
  }

  #become(event: OperationEvent["event"], change: Partial<Operation>): void {
    const id = this.#operation.lastEventId + 1;
    this.#operation = { ...this.#operation, ...change, lastEventId: id };
    this.#events.push({ id, event, operation: this.#operation });
    if (this.#events.length > MAX_EVENTS) this.#events.shift();
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}
