/** Two servers for checks: agents of this machine, side by side or each in a network namespace of its own. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome } from "@xenoserver/agent/index.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";

const BOOTSTRAP = join(import.meta.dirname, "..", "bootstrap.mjs");
const [PREFIX, PORT] = ["10.213.77", 18999];

export type Link = "near" | "far";

/** Runs a program to its end. @throws Error  with what it said, if that was no success */
function run(command: readonly string[], env: NodeJS.ProcessEnv = {}): void {
  const { status, stderr, error } = spawnSync(command[0]!, command.slice(1), {
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  if (status !== 0) throw new Error(`${command.join(" ")}: ${error?.message ?? stderr}`);
}

const namespacesOf = (pid: number): string[] => ["l", "r"].map((side) => `xeno-${pid}-${side}`);

export class CheckServer {
  readonly name: string;
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
    this.env = { XENO_AGENT_HOME: join(folder, name), XENO_STORE: join(folder, `${name}-store`) };
    const home = agentHome(this.env);
    this.home = home.folder;
    this.agent = new AgentClient(home.socket);
    this.address = namespace === undefined ? home.socket : `${PREFIX}.${index + 1}:${PORT}`;
  }

  /** @throws Error  with what it said */
  xeno(...args: string[]): void {
    const inside = this.#namespace === undefined ? [] : ["ip", "netns", "exec", this.#namespace];
    run([...inside, process.execPath, ...process.execArgv, BOOTSTRAP, "xeno", ...args], this.env);
  }

  /** @throws AgentError  as the agent does */
  migrate(domain: string, to: CheckServer): Promise<MigrationReport> {
    return this.agent.post(`/v1/domains/${domain}/migrate`, { to: to.address, overcommit: true });
  }

  async has(domain: string): Promise<boolean> {
    const { domains } = await this.agent.get<{ domains: { name: string }[] }>("/v1/domains");
    return domains.some(({ name }) => name === domain);
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
  readonly #namespaces: readonly string[];

  private constructor(folder: string, namespaces: readonly string[]) {
    this.#namespaces = namespaces;
    this.left = new CheckServer(folder, "left", 0, namespaces[0]);
    this.right = new CheckServer(folder, "right", 1, namespaces[1]);
  }

  /** @param link  far: two network namespaces with a slow line that loses packets between them, which takes root */
  static open(folder: string, link: Link): CheckServers {
    if (link === "near") {
      const near = new CheckServers(folder, []);
      for (const server of [near.left, near.right]) server.xeno("list");
      return near;
    }
    const names = namespacesOf(process.pid);
    const servers = new CheckServers(folder, names);
    try {
      servers.#connect(names);
      const at = (index: number): string[] => [
        "--host",
        `${PREFIX}.${index + 1}`,
        "--listen",
        `${PREFIX}.${index + 1}:${PORT}`,
      ];
      servers.left.xeno("agent", "init", ...at(0));
      servers.left.xeno("agent", "invite", servers.right.env["XENO_AGENT_HOME"]!, ...at(1));
      for (const server of [servers.left, servers.right]) server.xeno("list");
      return servers;
    } catch (error) {
      servers.close();
      throw error;
    }
  }

  /** The servers that a process had which is gone. */
  static leftBy(pid: number, folder: string): CheckServers {
    const names = namespacesOf(pid);
    return new CheckServers(folder, existsSync(join("/run/netns", names[0]!)) ? names : []);
  }

  #connect(names: readonly string[]): void {
    for (const name of names) run(["ip", "netns", "add", name]);
    run([
      "ip",
      "link",
      "add",
      "veth0",
      "netns",
      names[0]!,
      "type",
      "veth",
      "peer",
      "name",
      "veth0",
      "netns",
      names[1]!,
    ]);
    for (const [index, name] of names.entries()) {
      const inside = ["ip", "-n", name];
      run([...inside, "addr", "add", `${PREFIX}.${index + 1}/24`, "dev", "veth0"]);
      for (const device of ["lo", "veth0"]) run([...inside, "link", "set", device, "up"]);
      const netem = ["root", "netem", "delay", "2ms", "0.5ms", "loss", "0.05%", "limit", "20000"];
      run(["tc", "-n", name, "qdisc", "add", "dev", "veth0", ...netem]);
    }
  }

  get isFar(): boolean {
    return this.#namespaces.length > 0;
  }

  /** Takes the line away for a while. */
  async cut(forMs: number): Promise<void> {
    const set = (state: string): void => run(["ip", "-n", this.#namespaces[0]!, "link", "set", "veth0", state]);
    set("down");
    await sleep(forMs);
    set("up");
  }

  close(): void {
    for (const name of this.#namespaces) spawnSync("ip", ["netns", "del", name]);
  }
}
