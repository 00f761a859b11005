/** Runs a small kernel in a real domain: its own threads, memory and backends. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DomainConfig } from "../cfg/index.ts";
import { type EngineChoice, type ExitReport, launchDomain, type RunningDomain } from "../domain/index.ts";

export interface TinyDomainOptions {
  readonly vcpus?: number;
  readonly engine?: EngineChoice;
  /** Ends the domain when this text appears among the hypervisor's messages. */
  readonly destroyAt?: string;
}

export interface TinyRun {
  readonly report: ExitReport;
  /** The hypervisor's messages, the guest's words at its debug port among them. */
  readonly log: readonly string[];
  readonly console: string;
}

const MEMORY_MIB = 32;

/** A configuration for a kernel in a file, with nothing else in it. */
export function tinyConfig(kernel: string, changes: Partial<DomainConfig> = {}): DomainConfig {
  return {
    name: "tiny",
    type: "pvh",
    kernel,
    cmdline: "",
    memoryMib: MEMORY_MIB,
    vcpus: 1,
    uuid: randomUUID(),
    onPoweroff: "destroy",
    onReboot: "destroy",
    onCrash: "destroy",
    ...changes,
  };
}

/** Gives `use` the path of a file with these bytes, and removes it afterwards. */
export async function withFile<T>(bytes: Uint8Array, use: (path: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "xeno-tiny-"));
  try {
    const path = join(folder, "file");
    writeFileSync(path, bytes);
    return await use(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Runs a kernel until its domain ends. */
export function runTiny(kernel: Uint8Array, options: TinyDomainOptions = {}): Promise<TinyRun> {
  return withFile(kernel, async (path) => {
    const log: string[] = [];
    const output: Buffer[] = [];
    const config = tinyConfig(path, { vcpus: options.vcpus ?? 1 });
    const domain: RunningDomain = await launchDomain(
      config,
      {
        onConsole: (bytes) => void output.push(Buffer.from(bytes)),
        onLog: (message) => {
          log.push(message);
          if (options.destroyAt !== undefined && message.includes(options.destroyAt)) void domain.destroy();
        },
      },
      options.engine,
    );
    return { report: await domain.exited, log, console: Buffer.concat(output).toString("latin1") };
  });
}

/** What a process has open: resources that keep it alive, and on Linux the names of its threads. */
export function openResources(): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const name of [...process.getActiveResourcesInfo(), ...vcpuThreads()]) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

function vcpuThreads(): string[] {
  if (process.platform !== "linux") return [];
  const names = readdirSync("/proc/self/task").flatMap((id) => {
    try {
      return readFileSync(`/proc/self/task/${id}/comm`, "utf8").trim();
    } catch {
      return []; // it ended meanwhile
    }
  });
  return names.filter((name) => name.startsWith("vcpu"));
}
