import { readdirSync } from "node:fs";

const THREADS = "/proc/self/task";

/**
 * The system's numbers of this process's threads, each once; those too that were started while others were looked at.
 * @throws Error  this system does not tell
 */
export function* processThreads(): Generator<number> {
  const seen = new Set<string>();
  for (let before = -1; seen.size !== before; ) {
    before = seen.size;
    for (const name of readdirSync(THREADS)) {
      if (seen.has(name)) continue;
      seen.add(name);
      yield Number(name);
    }
  }
}
