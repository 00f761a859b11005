/**
 * What a vcpu's thread does before it sleeps, as KVM's halt polling: an answer of a disk or a network often comes before the host's kernel could put the
 * thread to sleep and wake it again, on a processor that went to sleep too. So the thread looks at its doorbell for a while, as long as
 * that was worth it lately, and lets everybody go first who wants its processor meanwhile.
 */
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import type { VcpuWait } from "./sleep.ts";

/** Milliseconds. A wait that is longer than the most costs little by its sleep, and the polling ends with it. */
const LEAST_MS = 0.02;
export const MOST_MS = 0.2;
/** Looks, each followed by a pause of some 40 ns, before others may have the processor, which is a call of 500 ns. */
const LOOKS = 64;

export class HaltPoll {
  readonly #yield: () => void;
  readonly #nowMs: () => number;
  #pollMs = 0;

  /** @param yieldProcessor  lets other threads that wait for this one's processor run first */
  constructor(yieldProcessor: () => void, nowMs: () => number = () => performance.now()) {
    this.#yield = yieldProcessor;
    this.#nowMs = nowMs;
  }

  /** Waits until the doorbell differs from `seen` or the time is up. */
  wait(record: Pick<VcpuRecord, "doorbell" | "wait">, { seen, timeoutMs }: VcpuWait): void {
    const beganMs = this.#nowMs();
    if (this.#pollMs > 0 && this.#polled(record, seen, beganMs + Math.min(this.#pollMs, timeoutMs))) return;
    const leftMs = timeoutMs - (this.#nowMs() - beganMs);
    if (leftMs > 0) record.wait(seen, leftMs);
    const isShort = this.#nowMs() - beganMs <= MOST_MS;
    this.#pollMs = isShort ? Math.min(MOST_MS, Math.max(LEAST_MS, this.#pollMs * 2)) : 0;
  }

  /** @returns whether it was rung */
  #polled(record: Pick<VcpuRecord, "doorbell">, seen: number, untilMs: number): boolean {
    do {
      for (let look = 0; look < LOOKS; look++) {
        if (record.doorbell !== seen) return true;
        pause();
      }
      this.#yield();
    } while (this.#nowMs() < untilMs);
    return false;
  }
}

/** Tells the processor that this is a loop which waits; not all JavaScript engines have it. */
const { pause = () => {} } = Atomics as { readonly pause?: () => void };
