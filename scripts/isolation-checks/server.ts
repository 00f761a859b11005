/** The server that the checked domains share. */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { DomainInfo, DomainSpec } from "@xenoserver/toolstack/control/index.ts";
import { CheckServer } from "../migration-checks/servers.ts";
import { type Hog, READY } from "./guest.ts";
import { watchProcessors } from "./processors.ts";
import { Victim } from "./victim.ts";

const VICTIM = "victim";
const hogName = (n: number): string => `hog${n}`;
const HOG = hogName(0);
/** All that may be left behind. */
export const DOMAINS = [VICTIM, ...[0, 1, 2].map(hogName)];
const DISK_BYTES = 256 << 20;
/** Until a hog has all of its jobs and the host has noticed. */
const SETTLE_MS = 5000;
/** Until what it had begun is done. */
const TURN_MS = 500;

interface Guests {
  readonly kernel: string;
  readonly ramdisk: string;
}

export class IsolationServer {
  readonly #folder: string;
  readonly #guests: Guests;
  readonly #apart: boolean;
  readonly #server: CheckServer;
  #victim: Victim | undefined;
  readonly #pids = new Map<string, number>();
  #isClosing = false;

  /** @param apart  each domain gets its place; otherwise nothing is said */
  constructor(folder: string, guests: Guests, apart: boolean) {
    this.#folder = folder;
    this.#guests = guests;
    this.#apart = apart;
    this.#server = new CheckServer(folder, "left", 0);
  }

  get victim(): Victim {
    return this.#victim!;
  }

  async startVictim(): Promise<void> {
    await this.#server.xeno("list");
    // Its requests are the measured domain's work.
    if (this.#apart) execFileSync("taskset", ["-a", "-p", "-c", "0", String(process.pid)], { stdio: "ignore" });
    const port = await freePort();
    const vif = [`forward=127.0.0.1:${port}:80`];
    await this.#start(VICTIM, "victim", { disk: [this.#disk(VICTIM)], vif, memory: 256, ...this.#on(0) });
    this.#victim = new Victim(port);
    await this.#victim.ready();
  }

  async startHog(hog: Hog): Promise<void> {
    const name = HOG;
    const limits = this.#apart ? ",bps=10M,iops=100" : "";
    await this.#start(name, hog, { disk: [`${this.#disk(name)}${limits}`], memory: 256, vcpus: 2, ...this.#on(1) });
    await this.#says(name, READY);
    await sleep(SETTLE_MS);
  }

  /** Halts its whole process, or lets that run on. */
  async letHog(runs: boolean): Promise<void> {
    // What is interrupted goes on for a while, and one that is halted cannot be ended.
    if (this.#isClosing) throw new Error("the server is being closed");
    process.kill(this.#pids.get(HOG)!, runs ? "SIGCONT" : "SIGSTOP");
    await sleep(TURN_MS);
  }

  /** @throws Error  it had ended before */
  async stopHog(hog: Hog): Promise<void> {
    const name = HOG;
    const info = await this.#server.agent.post<DomainInfo>(`/v1/domains/${name}/info`).catch(() => undefined);
    if (info?.state !== "running") throw new Error(`the domain with the ${hog} hog has ended, expected it to run on`);
    await this.#end(name);
  }

  /** @returns what tells, in parts of a processor, what was taken since now */
  watch(): () => { readonly hog: number; readonly victim: number; readonly others: number } {
    const pids = [HOG, VICTIM].map((name) => this.#pids.get(name)!);
    const watch = watchProcessors([...pids, process.pid]);
    return () => {
      const { processes, others } = watch();
      return { hog: processes[0]!, victim: processes[1]!, others };
    };
  }

  /**
   * Has domains of one vcpu compute on one processor.
   * @param weights  theirs
   * @returns        which part each had of what they had together
   */
  async shares(weights: readonly number[], seconds: number): Promise<number[]> {
    await this.#end(VICTIM);
    const names = weights.map((_, n) => hogName(n));
    for (const [n, name] of names.entries()) {
      await this.#start(name, "cpu", { memory: 128, cpu_weight: weights[n]!, ...this.#on(1) });
      await this.#says(name, READY);
    }
    await sleep(SETTLE_MS);
    const watch = watchProcessors([...this.#pids.values()]);
    await sleep(seconds * 1000);
    const { processes } = watch();
    for (const name of names) await this.#end(name);
    const all = processes.reduce((sum, share) => sum + share, 0);
    return processes.map((share) => share / all);
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    try {
      if (this.#pids.has(HOG)) process.kill(this.#pids.get(HOG)!, "SIGCONT");
    } catch {
      // It has ended by itself.
    }
    await this.#server.stop(...DOMAINS);
  }

  #on(cpu: number): DomainSpec {
    return this.#apart ? { cpus: String(cpu) } : {};
  }

  /** With bytes in it, which a file system need not find a place for when they are written. */
  #disk(name: string): string {
    const path = join(this.#folder, `${name}.img`);
    const file = openSync(path, "w");
    const zeros = Buffer.alloc(1 << 20);
    for (let at = 0; at < DISK_BYTES; at += zeros.length) writeSync(file, zeros);
    closeSync(file);
    return `${path},raw,xvda`;
  }

  async #start(name: string, role: Hog | "victim", settings: DomainSpec): Promise<void> {
    const cmdline = `console=hvc0 quiet loglevel=4 role=${role}`;
    const spec = { name, ...this.#guests, cmdline, ...settings };
    const { pid } = await this.#server.agent.post<DomainInfo>("/v1/domains", { spec, overcommit: true });
    this.#pids.set(name, pid);
  }

  async #end(name: string): Promise<void> {
    this.#pids.delete(name);
    await this.#server.agent.post(`/v1/domains/${name}/destroy`);
  }

  async #says(name: string, words: string): Promise<void> {
    for (;;) {
      const { base64 } = await this.#server.agent.post<{ base64: string }>(`/v1/domains/${name}/console-read`);
      if (Buffer.from(base64, "base64").includes(words)) return;
      await sleep(500);
    }
  }
}

/** One that nobody has at the moment. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
