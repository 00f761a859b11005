/**
 * Snapshots, restores and forks of a Debian guest at rest, under an agent.
 *
 *   npm run bench -- --fork [--reps 5] [--json]
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type AgentHome, agentHome } from "@xenoserver/agent/home.ts";
import { unwatched } from "@xenoserver/agent/operations/work.ts";
import { findProcess } from "@xenoserver/agent/spawn.ts";
import { Supervisor } from "@xenoserver/agent/supervisor.ts";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { whenInterrupted } from "../scripts/interrupted.ts";
import { cpuSecondsOf } from "./process-stats.ts";
import { consoleShows, pssMib, startGuest } from "./resting-guest.ts";
import { median } from "./summary.ts";

const MEMORY_MIB = 512;
const COUNTS = [1, 8, 32];
/** After its start, and after copies were made, a guest comes to rest. */
const REST_MS = 8000;
const NAME = "original";

export interface SnapshotSample {
  readonly pausedMs: number;
  readonly totalMs: number;
  readonly megabytes: number;
}
/** From the request on. */
export interface RestoreSample {
  readonly firstInstructionMs: number;
  /** Something is typed as soon as its console can be reached. */
  readonly firstOutputMs: number;
  /** Processor time of its process until then. */
  readonly cpuMs: number;
}
export interface ForkSample {
  readonly count: number;
  readonly snapshotMs: number;
  /** Until every copy has run. */
  readonly allRunMs: number;
  /** Processor time of the copies' process until then: other work on the host hardly moves it. */
  readonly cpuMs: number;
  /** What all copies take when they rest, shared pages in parts, over their number. */
  readonly mibPerCopy: number;
  /** By how much the original grew. */
  readonly originalGrewMib: number;
}
export interface ForkResults {
  readonly date: string;
  readonly host: { readonly cpu: string; readonly cpus: number; readonly load: readonly number[] };
  readonly snapshots: readonly SnapshotSample[];
  readonly restores: readonly RestoreSample[];
  readonly forks: readonly ForkSample[];
}

const now = (): number => performance.timeOrigin + performance.now();

class Measured {
  readonly #supervisor: Supervisor;
  readonly #home: AgentHome;
  readonly #progress: (line: string) => void;

  constructor(supervisor: Supervisor, home: AgentHome, progress: (line: string) => void) {
    this.#supervisor = supervisor;
    this.#home = home;
    this.#progress = progress;
  }

  async boot(): Promise<void> {
    await startGuest(this.#supervisor, NAME, MEMORY_MIB);
    await sleep(REST_MS);
  }

  async snapshot(path: string): Promise<SnapshotSample> {
    const { pausedMs, totalMs, bytes } = await this.#supervisor.snapshot(NAME, path, unwatched("snapshot"));
    this.#progress(`snapshot: ${totalMs.toFixed(0)} ms, of which it stood still for ${pausedMs.toFixed(1)}`);
    return { pausedMs, totalMs, megabytes: bytes / 1e6 };
  }

  async restore(path: string): Promise<RestoreSample> {
    const cpu = this.#cpuOfReady();
    const begin = now();
    const copy = await this.#supervisor.restore(path, { paused: false, overcommit: true }, "restored");
    await this.#supervisor.call(copy.name, "console-write", {
      base64: Buffer.from("echo $((6*7))\n").toString("base64"),
    });
    await consoleShows(this.#supervisor, copy.name, /\n42\r?\n/);
    const firstOutputMs = now() - begin;
    const cpuMs = cpu(copy.pid);
    const firstInstructionMs = (await this.#ranAt(copy)) - begin;
    await this.#supervisor.call(copy.name, "destroy", {});
    this.#progress(
      `restore: first instruction ${firstInstructionMs.toFixed(0)} ms, output ${firstOutputMs.toFixed(0)} ms`,
    );
    return { firstInstructionMs, firstOutputMs, cpuMs };
  }

  async fork(count: number): Promise<ForkSample> {
    const [original] = await this.#supervisor.list();
    const before = pssMib([original!.pid]);
    const cpu = this.#cpuOfReady();
    const begin = now();
    let snapshotMs = 0;
    const work = {
      ...unwatched(`fork-${count}`),
      report: ({ kind, madeCount }: { readonly kind: string; readonly madeCount?: number }): void => {
        if (kind === "fork" && madeCount === 0) snapshotMs = now() - begin;
      },
    };
    const copies = await this.#supervisor.fork(NAME, { count, overcommit: true }, work);
    const ran = await Promise.all(copies.map((copy) => this.#ranAt(copy)));
    const allRunMs = Math.max(...ran) - begin;
    const cpuMs = cpu(copies[0]!.pid);
    await sleep(REST_MS);
    const mibPerCopy = pssMib(copies.map(({ pid }) => pid)) / count;
    const originalGrewMib = pssMib([original!.pid]) - before;
    for (const { name } of copies) await this.#supervisor.call(name, "destroy", {});
    this.#progress(
      `fork of ${count}: all run after ${allRunMs.toFixed(0)} ms (snapshot ${snapshotMs.toFixed(0)}), ${mibPerCopy.toFixed(1)} MiB each; original grew ${originalGrewMib.toFixed(0)} MiB`,
    );
    return { count, snapshotMs, allRunMs, cpuMs, mibPerCopy, originalGrewMib };
  }

  /** @returns  processor time that a process takes from now on, in milliseconds; of one that is started later, all of it */
  #cpuOfReady(): (pid: number) => number {
    const { zygotes } = this.#home;
    const names = existsSync(zygotes) ? readdirSync(zygotes) : [];
    const pids = names.flatMap((name) => findProcess(join(zygotes, name)) ?? []);
    const before = new Map(pids.map((pid) => [pid, cpuSecondsOf(pid) ?? 0]));
    return (pid) => ((cpuSecondsOf(pid) ?? 0) - (before.get(pid) ?? 0)) * 1000;
  }

  /** When a copy came back from its first instructions, as its log tells. */
  async #ranAt({ name }: DomainInfo): Promise<number> {
    for (;;) {
      const found = /vcpu0: goes on since (\S+)/.exec(this.#supervisor.log(name));
      if (found) return Date.parse(found[1]!);
      await sleep(5);
    }
  }

  get snapshotPath(): string {
    return join(this.#home.folder, "snapshot");
  }
}

export async function benchFork(repetitions: number, progress: (line: string) => void): Promise<ForkResults> {
  const folder = mkdtempSync(join(tmpdir(), "xeno-fb-"));
  const home = agentHome({ XENO_AGENT_HOME: folder });
  const supervisor = await Supervisor.open(home);
  const load = [loadavg()[0]!];
  const [snapshots, restores, forks]: [SnapshotSample[], RestoreSample[], ForkSample[]] = [[], [], []];
  const measure = async (): Promise<void> => {
    const measured = new Measured(supervisor, home, progress);
    await measured.boot();
    for (let n = 0; n < repetitions; n++) {
      snapshots.push(await measured.snapshot(measured.snapshotPath));
      await sleep(REST_MS);
      restores.push(await measured.restore(measured.snapshotPath));
      await sleep(REST_MS);
    }
    for (const count of COUNTS)
      for (let n = 0; n < repetitions; n++) {
        forks.push(await measured.fork(count));
        await sleep(REST_MS);
      }
  };
  try {
    // Domains outlive who started them.
    await Promise.race([measure(), whenInterrupted()]);
  } finally {
    for (const { name } of await supervisor.list()) await supervisor.call(name, "destroy", {}).catch(() => {});
    supervisor.close();
    rmSync(folder, { recursive: true, force: true });
  }
  load.push(loadavg()[0]!);
  const host = { cpu: cpus()[0]!.model, cpus: cpus().length, load };
  return { date: new Date().toISOString(), host, snapshots, restores, forks };
}

/** @returns lines of a table */
export function describeFork({ snapshots, restores, forks, host }: ForkResults): string[] {
  const line = (title: string, value: number | undefined, unit: string): string =>
    `${title.padEnd(44)} ${value!.toFixed(value! < 100 ? 1 : 0).padStart(8)} ${unit}`;
  const of = <T>(samples: readonly T[], key: keyof T): number | undefined =>
    median(samples.map((sample) => sample[key] as number));
  const lines = [
    `medians; load ${host.load.map((load) => load.toFixed(1)).join(" to ")} on ${host.cpus} processors`,
    line("snapshot: stood still", of(snapshots, "pausedMs"), "ms"),
    line("snapshot: in all", of(snapshots, "totalMs"), "ms"),
    line("snapshot: size", of(snapshots, "megabytes"), "MB"),
    line("restore: to the first instruction", of(restores, "firstInstructionMs"), "ms"),
    line("restore: to the first output", of(restores, "firstOutputMs"), "ms"),
    line("restore: processor time until then", of(restores, "cpuMs"), "ms"),
  ];
  for (const count of COUNTS) {
    const these = forks.filter((fork) => fork.count === count);
    lines.push(line(`fork of ${count}: until all have run`, of(these, "allRunMs"), "ms"));
    lines.push(line(`fork of ${count}: of that, the snapshot`, of(these, "snapshotMs"), "ms"));
    lines.push(line(`fork of ${count}: processor time of the copies`, of(these, "cpuMs"), "ms"));
    lines.push(line(`fork of ${count}: memory of each at rest`, of(these, "mibPerCopy"), "MiB"));
    lines.push(line(`fork of ${count}: the original grew by`, of(these, "originalGrewMib"), "MiB"));
  }
  return lines;
}
