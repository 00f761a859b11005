/** What PostgreSQL's pgbench tells of its transactions, and one that asks a guest from its host. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Outcome {
  /** Transactions that were acknowledged. */
  readonly count: number;
  readonly failures: readonly string[];
}

/** @param who  it was  @param output  all that it printed */
export function outcomeOf(who: string, output: string): Outcome {
  const count = Number(/^number of transactions actually processed: (\d+)/m.exec(output)?.[1]);
  const wrong =
    output.match(/^(pgbench: (error|fatal):|number of failed transactions: [1-9]|Run was aborted).*/gm) ?? [];
  if (!(count > 0)) return { count: 0, failures: [`${who} tells no transactions: ${output.slice(-600)}`] };
  return { count, failures: wrong.map((line) => `${who}: ${line}`) };
}

export interface OutsideOptions {
  /** For its log. */
  readonly folder: string;
  readonly port: number;
  readonly clients: number;
  readonly database: string;
  readonly seconds: number;
}

export class OutsideBench {
  readonly #child: ChildProcess;
  readonly #folder: string;
  #output = "";

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    for (const stream of [child.stdout!, child.stderr!]) stream.on("data", (bytes) => (this.#output += String(bytes)));
  }

  static start({ folder, port, clients, database, seconds }: OutsideOptions): OutsideBench {
    const at = ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres"];
    const args = [...at, "-n", "-c", String(clients), "-T", String(seconds), "-l", database];
    return new OutsideBench(spawn("pgbench", args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] }), folder);
  }

  /** @throws Error  it has ended, with what it said */
  checkAlive(): void {
    if (this.#child.exitCode !== null) throw new Error(`pgbench has ended: ${this.#output.slice(-600)}`);
  }

  /** Lets each client end its transaction. @returns also when each of them began and ended, by `performance.now()` */
  async end(): Promise<Outcome & { readonly transactions: (readonly [beginMs: number, endMs: number])[] }> {
    if (this.#child.exitCode === null) {
      const ended = once(this.#child, "close");
      // The end of its time, for pgbench.
      this.#child.kill("SIGALRM");
      await ended;
    }
    return { ...outcomeOf("pgbench on the host", this.#output), transactions: this.#readLog() };
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  #readLog(): (readonly [number, number])[] {
    const logs = readdirSync(this.#folder).filter((name) => name.startsWith("pgbench_log."));
    const lines = logs.flatMap((name) => readFileSync(join(this.#folder, name), "utf8").trim().split("\n"));
    return lines.map((line) => {
      // Client, number, duration in microseconds, script, end in seconds and microseconds.
      const [, , durationUs, , endSeconds, endUs] = line.split(" ").map(Number);
      const endMs = endSeconds! * 1e3 + endUs! / 1e3 - performance.timeOrigin;
      return [endMs - durationUs! / 1e3, endMs] as const;
    });
  }
}
