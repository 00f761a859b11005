/**
 * How many domains that rest fit into some memory of the host: each made by itself, and copies of one.
 *
 *   npm run bench -- --idle [--mib 4096]
 *
 * Busybox guests of 128 MiB at their shell, under an agent. What counts is the proportional set size of all their processes; once it is
 * too much the last are ended again, and the others measured when they rest. Copies come by 32, each lot in a process of its own.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { agentHome } from "@xenoserver/agent/home.ts";
import { unwatched } from "@xenoserver/agent/operations/work.ts";
import { Supervisor } from "@xenoserver/agent/supervisor.ts";
import { whenInterrupted } from "../scripts/interrupted.ts";
import { cpuSecondsOf } from "./process-stats.ts";
import { pssMib, startGuest } from "./resting-guest.ts";

const MEMORY_MIB = 128;
const COPIES_AT_ONCE = 32;
const REST_MS = 8000;
/** Between lots of copies. */
const LOT_MS = 3000;

/** Domains at rest, as they were found. */
interface Fill {
  readonly count: number;
  readonly mib: number;
  /** Of one processor, what all together take. */
  readonly cpuShare: number;
}

class Server {
  readonly #supervisor: Supervisor;
  readonly #budgetMib: number;
  readonly #progress: (line: string) => void;

  constructor(supervisor: Supervisor, budgetMib: number, progress: (line: string) => void) {
    this.#supervisor = supervisor;
    this.#budgetMib = budgetMib;
    this.#progress = progress;
  }

  /** Adds domains until all take more than they may, and ends the last again. @param add  gives the names of those that it made */
  async fill(title: string, add: () => Promise<readonly string[]>): Promise<Fill> {
    for (;;) {
      const added = await add();
      const { count, mib } = await this.#taken();
      this.#progress(`${title}: ${count} domains, ${mib.toFixed(0)} MiB`);
      if (mib <= this.#budgetMib) continue;
      // With the last domain of a process that ends, which may come before its answer.
      for (const name of added) await this.#supervisor.call(name, "destroy", {}).catch(() => {});
      return this.#rest();
    }
  }

  async create(name: string): Promise<readonly string[]> {
    await startGuest(this.#supervisor, name, MEMORY_MIB);
    return [name];
  }

  async fork(name: string): Promise<readonly string[]> {
    const work = unwatched(`fork of ${name}`);
    const copies = await this.#supervisor.fork(name, { count: COPIES_AT_ONCE, overcommit: true }, work);
    await sleep(LOT_MS);
    return copies.map((copy) => copy.name);
  }

  async #taken(): Promise<{ readonly count: number; readonly mib: number; readonly pids: readonly number[] }> {
    const domains = await this.#supervisor.list();
    const pids = [...new Set(domains.map(({ pid }) => pid))];
    return { count: domains.length, mib: pssMib(pids), pids };
  }

  async #rest(): Promise<Fill> {
    await sleep(REST_MS);
    const { count, mib, pids } = await this.#taken();
    const spent = (): number => pids.reduce((sum, pid) => sum + (cpuSecondsOf(pid) ?? 0), 0);
    const [before, begin] = [spent(), performance.now()];
    await sleep(REST_MS);
    return { count, mib, cpuShare: (spent() - before) / ((performance.now() - begin) / 1000) };
  }

  async empty(): Promise<void> {
    for (const { name } of await this.#supervisor.list())
      await this.#supervisor.call(name, "destroy", {}).catch(() => {});
  }
}

/** @returns lines of a table */
export async function benchIdle(budgetMib: number, progress: (line: string) => void): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), "xeno-ib-"));
  const supervisor = await Supervisor.open(agentHome({ XENO_AGENT_HOME: folder }));
  const server = new Server(supervisor, budgetMib, progress);
  const rows: string[] = [
    `at most ${budgetMib} MiB, guests of ${MEMORY_MIB} MiB; load ${loadavg()[0]!.toFixed(1)} before`,
  ];
  const tell = (title: string, { count, mib, cpuShare }: Fill): void => {
    const each = count === 0 ? 0 : mib / count;
    const cpu = `${(100 * cpuShare).toFixed(0)} % of a processor`;
    rows.push(
      `${title.padEnd(20)} ${String(count).padStart(5)} domains, ${each.toFixed(1).padStart(6)} MiB each, ${cpu}`,
    );
  };
  const measure = async (): Promise<void> => {
    let number = 0;
    tell("made by themselves", await server.fill("made by themselves", () => server.create(`idle-${++number}`)));
    await server.empty();
    await sleep(REST_MS);
    await server.create("original");
    tell("copies of one", await server.fill("copies of one", () => server.fork("original")));
  };
  try {
    // Domains outlive who started them.
    await Promise.race([measure(), whenInterrupted()]);
  } finally {
    await server.empty();
    supervisor.close();
    rmSync(folder, { recursive: true, force: true });
  }
  return rows;
}
