/** A domain in a process of its own, as the agent starts it. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ControlClient, type DomainEnd, type DomainSpec } from "../control/index.ts";
import { END_FILE, FAILED_FILE, type ProcessSpec, SOCKET_FILE, SPEC_FILE } from "../control/process-folder.ts";

const ENTRY = fileURLToPath(new URL("../control/process.ts", import.meta.url));
/** What the command sets too; without it each process and thread would strip the types off by itself. */
const COMPILE_CACHE = fileURLToPath(new URL("../../../../node_modules/.cache/node", import.meta.url));

/** What makes servers differ. */
export interface ProcessPlace {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** In a session of its own, as the agent starts it. */
  readonly detached?: boolean;
}

export class DomainProcess {
  readonly folder: string;
  readonly child: ChildProcess;
  readonly runId: string;
  /** With the process's exit status. */
  readonly gone: Promise<number | null>;
  readonly #clients: ControlClient[] = [];
  log = "";

  private constructor(folder: string, spec: ProcessSpec, { env, cwd, detached }: ProcessPlace) {
    this.folder = folder;
    this.runId = spec.runId;
    writeFileSync(join(folder, SPEC_FILE), JSON.stringify(spec));
    const flags = process.execArgv.filter((flag) => flag.startsWith("--no-function"));
    this.child = spawn(process.execPath, [...flags, ENTRY, folder], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { NODE_COMPILE_CACHE: COMPILE_CACHE, ...process.env, ...env },
      cwd: cwd ?? process.cwd(),
      detached: detached ?? false,
    });
    this.child.stderr!.on("data", (bytes: Buffer) => (this.log += bytes.toString()));
    this.gone = new Promise((resolve) => this.child.on("close", resolve));
  }

  static start(domain: DomainSpec, changes: Partial<ProcessSpec> = {}, place: ProcessPlace = {}): DomainProcess {
    const folder = mkdtempSync(join(tmpdir(), "xeno-domain-"));
    const spec = { version: 1, runId: randomUUID(), domid: 7, domain, paused: false, ...changes } as const;
    return new DomainProcess(folder, spec, place);
  }

  /** Another connection, as soon as the domain takes any. */
  async client(): Promise<ControlClient> {
    for (;;) {
      if (existsSync(join(this.folder, SOCKET_FILE))) {
        const client = await ControlClient.connect(join(this.folder, SOCKET_FILE)).catch(() => undefined);
        if (client !== undefined) {
          this.#clients.push(client);
          return client;
        }
      }
      const failed = this.failure();
      if (failed !== undefined) throw new Error(failed);
      if (this.child.exitCode !== null) throw new Error(`the process ended with ${this.child.exitCode}\n${this.log}`);
      await sleep(10);
    }
  }

  failure(): string | undefined {
    const path = join(this.folder, FAILED_FILE);
    return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as { message: string }).message : undefined;
  }

  end(): DomainEnd {
    return JSON.parse(readFileSync(join(this.folder, END_FILE), "utf8")) as DomainEnd;
  }

  /** Ends the process if it runs, and removes its folder. */
  async remove(): Promise<void> {
    for (const client of this.#clients) client.close();
    this.child.kill("SIGKILL");
    await this.gone;
    rmSync(this.folder, { recursive: true });
  }
}
