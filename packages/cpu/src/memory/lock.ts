/**
 * A mutual exclusion lock in a shared word: 0 free, 1 held, 2 held and wanted. Held for a bounded number of steps only,
 * by vcpu threads and by the backends' thread alike.
 */
export function acquire(words: Int32Array, at: number): void {
  if (Atomics.compareExchange(words, at, 0, 1) === 0) return;
  for (let spin = 0; spin < 100; spin++) {
    if (Atomics.compareExchange(words, at, 0, 1) === 0) return;
  }
  // The timeout guards against a browser's main thread, where waiting is refused, having been the holder.
  while (Atomics.exchange(words, at, 2) !== 0) Atomics.wait(words, at, 2, 1);
}

export function release(words: Int32Array, at: number): void {
  if (Atomics.exchange(words, at, 0) === 2) Atomics.notify(words, at, 1);
}

/** Runs `body` with the lock held. */
export function locked<T>(words: Int32Array, at: number, body: () => T): T {
  acquire(words, at);
  try {
    return body();
  } finally {
    release(words, at);
  }
}
