/** The guest that is measured, asked by HTTP over a port of this host, one request after the other. */
import { setTimeout as sleep } from "node:timers/promises";
import { LOADS, type Load, PER_REQUEST } from "./guest.ts";

/** A guest that is starved answers late. */
const PATIENCE_MS = 60_000;

export class Victim {
  readonly #base: string;

  constructor(hostPort: number) {
    this.#base = `http://127.0.0.1:${hostPort}`;
  }

  async ready(): Promise<void> {
    while ((await this.#get(LOADS["requests/s"], 2000).catch(() => undefined)) === undefined) await sleep(500);
  }

  /**
   * Asks for a while.
   * @param seconds  at least so long
   * @returns        what the load counts, per second
   */
  async rate(load: Load, seconds: number): Promise<number> {
    const path = LOADS[load];
    const begin = performance.now();
    let requests = 0;
    let elapsedMs: number;
    do {
      const answer = await this.#get(path);
      if (load === "commits/s" && !answer.includes("done"))
        throw new Error(`${path} answers ${JSON.stringify(answer)}`);
      requests++;
      elapsedMs = performance.now() - begin;
    } while (elapsedMs < seconds * 1000);
    return (requests * PER_REQUEST[load] * 1000) / elapsedMs;
  }

  async #get(path: string, patienceMs = PATIENCE_MS): Promise<string> {
    const response = await fetch(`${this.#base}/${path}`, {
      signal: AbortSignal.timeout(patienceMs),
      headers: { connection: "close" },
    });
    if (!response.ok) throw new Error(`${path}: status ${response.status}`);
    return response.text();
  }
}
