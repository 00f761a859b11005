/** Lets work on ranges that overlap run one after the other, in the order of the calls; other ranges do not wait. */

interface Held {
  readonly start: number;
  readonly end: number;
  readonly done: Promise<void>;
}

export class RangeLock {
  readonly #held = new Set<Held>();

  async run<T>(start: number, end: number, body: () => Promise<T>): Promise<T> {
    const waitFor = [...this.#held].filter((other) => other.start < end && start < other.end).map(({ done }) => done);
    const { promise, resolve } = Promise.withResolvers<void>();
    const own: Held = { start, end, done: promise };
    this.#held.add(own);
    try {
      if (waitFor.length > 0) await Promise.all(waitFor);
      return await body();
    } finally {
      this.#held.delete(own);
      resolve();
    }
  }
}
