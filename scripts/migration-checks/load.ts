/** Clients of the guest that serves files, which ask all the time and remember what went wrong. */
import { setTimeout as sleep } from "node:timers/promises";
import { longestMs } from "./checked-guest.ts";
import { sumOf } from "./http-guest.ts";

export class Load {
  readonly failures: string[] = [];
  readonly #base: string;
  readonly #fileSum: string;
  readonly #patienceMs: number;
  #ended = false;
  #running: Promise<void>[] = [];
  #committed = 0;
  readonly #requests: (readonly [beginMs: number, endMs: number])[] = [];
  /** When each client's request began that has no answer yet. */
  readonly #pending = new Map<number, number>();

  /** @param patienceMs  that clients have with a request */
  constructor(base: string, fileSum: string, patienceMs: number) {
    this.#base = base;
    this.#patienceMs = patienceMs;
    this.#fileSum = fileSum;
  }

  async get(path: string, patienceMs = this.#patienceMs): Promise<Buffer> {
    const response = await fetch(`${this.#base}/${path}`, {
      signal: AbortSignal.timeout(patienceMs),
      headers: { connection: "close" },
    });
    if (!response.ok) throw new Error(`${path}: status ${response.status}`);
    return Buffer.from(await response.arrayBuffer());
  }

  /** @param clients  how many ask at the same time */
  start(clients: number): void {
    this.#running = Array.from({ length: clients }, (_, client) => this.#ask(client));
  }

  async stop(): Promise<void> {
    this.#ended = true;
    await Promise.all(this.#running);
  }

  get requests(): number {
    return this.#requests.length;
  }

  /** Those that have no answer by now count as well. */
  slowestMs(fromMs: number, toMs: number): number {
    const now = performance.now();
    const pending = [...this.#pending.values()].map((begin) => [begin, now] as const);
    return longestMs([...this.#requests, ...pending], fromMs, toMs);
  }

  async #ask(client: number): Promise<void> {
    const path = client % 2 === 0 ? "committed" : "file";
    while (!this.#ended) {
      const begin = performance.now();
      this.#pending.set(client, begin);
      try {
        const bytes = await this.get(path);
        if (path === "file" && sumOf(bytes) !== this.#fileSum) this.failures.push("the file came with another sum");
        if (path === "committed") this.#follow(Number(bytes.toString()));
      } catch (error) {
        this.failures.push(`${path}: ${(error as Error).message}`);
        await sleep(100);
      }
      this.#pending.delete(client);
      this.#requests.push([begin, performance.now()]);
    }
  }

  #follow(committed: number): void {
    if (!(committed >= this.#committed))
      this.failures.push(`${committed} rows are committed, after ${this.#committed}`);
    else this.#committed = committed;
  }

  /** Has the guest look at its database. @returns the rows in it @throws Error  it is damaged, or rows are missing */
  async checkDatabase(): Promise<number> {
    const before = this.#committed;
    const [integrity, counts] = (await this.get("cgi-bin/check", 120_000)).toString().trim().split("\n");
    const [count, last] = (counts ?? "").split("|").map(Number);
    if (integrity !== "ok") throw new Error(`the database says ${integrity} ${counts ?? ""}`);
    if (count !== last || !(last! >= before))
      throw new Error(`${count} rows up to ${last}, of ${before} committed ones`);
    return last!;
  }
}
