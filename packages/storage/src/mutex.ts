/** Runs asynchronous work one after the other, in the order of the calls. */
export class Mutex {
  #tail: Promise<void> = Promise.resolve();

  async run<T>(body: () => Promise<T>): Promise<T> {
    const before = this.#tail;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#tail = promise;
    await before;
    try {
      return await body();
    } finally {
      resolve();
    }
  }
}
