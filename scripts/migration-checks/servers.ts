/** Two servers for checks: agents of this machine, side by side or each in a network namespace of its own. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome, GuestSession, operate, type Progress } from "@xenoserver/agent/index.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import { FarLink } from "./far-link.ts";
import { run } from "./programs.ts";

const BOOTSTRAP = join(import.meta.dirname, "..", "bootstrap.mjs");
const PORT = 18999;
/** A Debian's first start, on a busy host. */
const READY_MS = 900_000;

export type Link = "near" | "far";

export class CheckServer {
  readonly name: string;
  /** Of its images. */
  readonly store: string;
  readonly agent: AgentClient;
  readonly env: NodeJS.ProcessEnv;
  /** The folder of its agent. */
  readonly home: string;
  /** By which the other server's agent reaches this one. */
  readonly address: string;
  readonly #namespace: string | undefined;

  constructor(folder: string, name: string, index: number, namespace?: string) {
    this.name = name;
    this.#namespace = namespace;
    this.store = join(folder, `${name}-store`);
    this.env = { XENO_AGENT_HOME: join(folder, name), XENO_STORE: this.store };
    const home = agentHome(this.env);
    this.home = home.folder;
    this.agent = new AgentClient(home.socket);
    this.address = namespace === undefined ? home.socket : `${FarLink.address(index)}:${PORT}`;
  }

  /** @throws Error  with what it said */
  async xeno(...args: string[]): Promise<void> {
    const inside = this.#namespace === undefined ? [] : ["ip", "netns", "exec", this.#namespace];
    await run([...inside, process.execPath, ...process.execArgv, BOOTSTRAP, "xeno", ...args], this.env);
  }

  /** @param onHandover  called when it is about to stand still @throws AgentError  as the agent does */
  migrate(domain: string, to: CheckServer, onHandover: () => void): Promise<MigrationReport> {
    const onProgress = (progress: Progress): void => {
      if (progress.kind === "migrate" && progress.phase === "handover") onHandover();
    };
    const wanted = { to: to.address, overcommit: true };
    return operate(this.agent, `/v1/domains/${domain}/migrate`, wanted, { onProgress });
  }

  /**
   * Runs a script in a guest that has our agent, however long that takes to answer.
   * @returns what it printed
   * @throws Error  it failed, with the end of that
   */
  async sh(domain: string, script: string): Promise<string> {
    let output = "";
    const take = (bytes: Uint8Array): void => void (output += Buffer.from(bytes).toString());
    const command = { args: ["sh", "-ec", script], readyMs: READY_MS };
    const session = await GuestSession.start(this.agent, domain, command, { onStdout: take, onStderr: take });
    const status = await session.status;
    if (status !== 0) throw new Error(`the guest's ${JSON.stringify(script)}: status ${status}: ${output.slice(-600)}`);
    return output.trim();
  }

  /** Undefined if it is not here. */
  async stateOf(domain: string): Promise<string | undefined> {
    const { domains } = await this.agent.get<{ domains: { name: string; state: string }[] }>("/v1/domains");
    return domains.find(({ name }) => name === domain)?.state;
  }

  /** Has a domain's guest power off, and waits until it has. */
  async powerOff(domain: string): Promise<void> {
    await this.agent.post(`/v1/domains/${domain}/shutdown`, { request: "poweroff", wait: true });
  }

  /** Ends these domains, those that are there, and the agent. */
  async stop(...domains: readonly string[]): Promise<void> {
    for (const domain of domains) await this.agent.post(`/v1/domains/${domain}/destroy`).catch(() => {});
    await this.agent.post("/v1/agent/stop").catch(() => {});
    while (await this.agent.isThere()) await sleep(50);
  }
}

/** Servers, and the line between them. */
export class CheckServers {
  readonly left: CheckServer;
  readonly right: CheckServer;
  readonly #link: FarLink | undefined;

  private constructor(folder: string, link: FarLink | undefined) {
    this.#link = link;
    this.left = new CheckServer(folder, "left", 0, link?.namespaces[0]);
    this.right = new CheckServer(folder, "right", 1, link?.namespaces[1]);
  }

  /** @param link  far: two network namespaces with a slow line that loses packets between them, which takes root */
  static async open(folder: string, link: Link): Promise<CheckServers> {
    const servers = new CheckServers(folder, link === "far" ? await FarLink.open() : undefined);
    const { left, right } = servers;
    try {
      if (servers.isFar) {
        const at = (index: number): string[] => {
          const address = FarLink.address(index);
          return ["--host", address, "--listen", `${address}:${PORT}`];
        };
        await left.xeno("agent", "init", ...at(0));
        await left.xeno("agent", "invite", right.home, ...at(1));
      }
      for (const server of [left, right]) await server.xeno("list");
      return servers;
    } catch (error) {
      servers.close();
      throw error;
    }
  }

  /** The servers that a process had which is gone. */
  static leftBy(folder: string): CheckServers {
    return new CheckServers(folder, undefined);
  }

  get isFar(): boolean {
    return this.#link !== undefined;
  }

  /** Takes the line away for a while. */
  async cut(forMs: number): Promise<void> {
    await this.#link?.cut(forMs);
  }

  close(): void {
    this.#link?.close();
  }
}
