/** Memory that all connections of a guest share, so that many slow ones cannot fill the host's. */
export class Budget {
  readonly limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** What is left; below zero when more was taken than there was. */
  get leftBytes(): number {
    return this.limitBytes - this.#usedBytes;
  }

  take(bytes: number): void {
    this.#usedBytes += bytes;
  }

  give(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}

/** One holder's part of a budget. */
export class Share {
  readonly #budget: Budget;
  #bytes = 0;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  set(bytes: number): void {
    this.#budget.take(bytes - this.#bytes);
    this.#bytes = bytes;
  }

  get bytes(): number {
    return this.#bytes;
  }
}
