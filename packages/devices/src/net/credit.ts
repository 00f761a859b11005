/** A limit on what a guest sends: so many bytes in each window of time, and what was not used is kept for a burst. */

export interface Rate {
  readonly bytesPerWindow: number;
  readonly windowMs: number;
}

/** Below this, the largest packets would never be sent. */
const MIN_BURST_BYTES = 131_072;

export class Credit {
  readonly #rate: Rate;
  readonly #burstBytes: number;
  #left: number;
  #filledMs: number;

  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#burstBytes = Math.max(MIN_BURST_BYTES, rate.bytesPerWindow);
    this.#left = rate.bytesPerWindow;
    this.#filledMs = nowMs;
  }

  /** Milliseconds until something may be sent; 0 for now. */
  delayMs(nowMs: number): number {
    const windows = Math.floor((nowMs - this.#filledMs) / this.#rate.windowMs);
    if (windows > 0) {
      this.#left = Math.min(this.#burstBytes, this.#left + windows * this.#rate.bytesPerWindow);
      this.#filledMs += windows * this.#rate.windowMs;
    }
    return this.#left > 0 ? 0 : this.#filledMs + this.#rate.windowMs - nowMs;
  }

  /** What was sent; it may go into debt, which later windows pay. */
  spend(bytes: number): void {
    this.#left -= bytes;
  }
}
