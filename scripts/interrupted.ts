/** Programs that have started others are to stop them also when they are interrupted. */

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Catches the signals that ask this process to end.
 * @returns what never resolves, for races; rejects at the first of them
 */
export function whenInterrupted(): Promise<never> {
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of SIGNALS) process.on(signal, () => reject(new Error(`interrupted by ${signal}`)));
  });
  // A signal may come while nobody waits yet; whoever races with it then learns of it.
  interrupted.catch(() => {});
  return interrupted;
}
