/** Holds a disk's guest to so many bytes and requests a second. */

export interface RateLimits {
  readonly bytesPerSecond?: number;
  readonly requestsPerSecond?: number;
  /** How much of the rate may be saved up while the disk is idle; the default is one second's worth. */
  readonly burstSeconds?: number;
}

/**
 * A bucket that may be overdrawn: whatever is asked for is granted while anything is left, and the debt is waited off. So a
 * request larger than the burst is served too, and the average is the rate whatever the size of requests.
 */
class Bucket {
  readonly #perMs: number;
  readonly #capacity: number;
  #tokens: number;
  #atMs: number;

  constructor(perSecond: number, burstSeconds: number, nowMs: number) {
    this.#perMs = perSecond / 1000;
    this.#capacity = perSecond * burstSeconds;
    this.#tokens = this.#capacity;
    this.#atMs = nowMs;
  }

  /** How long until something may be taken; 0 if it may be now. */
  delayMs(nowMs: number): number {
    this.#tokens = Math.min(this.#capacity, this.#tokens + (nowMs - this.#atMs) * this.#perMs);
    this.#atMs = nowMs;
    return this.#tokens > 0 ? 0 : Math.ceil(-this.#tokens / this.#perMs) + 1;
  }

  take(amount: number): void {
    this.#tokens -= amount;
  }
}

export class RateLimiter {
  readonly #bytes: Bucket | undefined;
  readonly #requests: Bucket | undefined;
  readonly #nowMs: () => number;

  constructor(limits: RateLimits, nowMs: () => number = () => performance.now()) {
    const { bytesPerSecond, requestsPerSecond, burstSeconds = 1 } = limits;
    const bucket = (rate: number | undefined): Bucket | undefined =>
      rate === undefined ? undefined : new Bucket(rate, burstSeconds, nowMs());
    this.#bytes = bucket(bytesPerSecond);
    this.#requests = bucket(requestsPerSecond);
    this.#nowMs = nowMs;
  }

  /** How long the next request has to wait, in milliseconds; 0 if it need not. */
  delayMs(): number {
    if (this.#bytes === undefined && this.#requests === undefined) return 0;
    const now = this.#nowMs();
    return Math.max(this.#bytes?.delayMs(now) ?? 0, this.#requests?.delayMs(now) ?? 0);
  }

  /** Notes that a request is being served. */
  charge(lengthBytes: number): void {
    this.#bytes?.take(lengthBytes);
    this.#requests?.take(1);
  }
}
